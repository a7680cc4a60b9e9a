"""Where a request's time goes, stage by stage, beside what the device could do at best."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import pictures
from benchmarks.whole import CONCEPTS
from sam3_image.decode import Limits, open_image
from sam3_image.masks import LowResMasks
from sam3_image.model import Find, Pick, Target, merged
from sam3_image.model import finder as finders
from sam3_image.model.transfer import normalise
from sam3_image.model.transformers_adapter import first_levels
from sam3_image.output import Output, save
from tools.gpu.device import Device, host_milliseconds, milliseconds

if TYPE_CHECKING:
    from tools.gpu.sections import Bench

KEPT = 20  # maps that leave the device
# Parts of the detector that one call runs one after another; they are timed by hooks.
HEADS = ("detr_encoder", "detr_decoder", "dot_product_scoring", "mask_decoder")


@dataclass(frozen=True)
class Ceilings:
    """What the device was measured to do: operations and bytes a millisecond."""

    operations: float
    bytes: float

    @classmethod
    def of(cls, device: Device, dtype: torch.dtype) -> Ceilings:
        """By one large product of matrices, and one large copy within the device's memory."""
        side, size = (8192, 1 << 29) if device.kind == "cuda" else (256, 1 << 22)
        matrix = torch.randn(side, side, device=device.kind, dtype=dtype)
        source = torch.zeros(size, device=device.kind, dtype=torch.uint8)
        target = torch.empty_like(source)
        product = milliseconds(device, lambda: matrix @ matrix, rounds=10)
        copy = milliseconds(device, lambda: target.copy_(source), rounds=10)
        return cls(2 * side**3 / product, 2 * size / copy)

    def floor(self, work: Callable[[], Any], moved: int) -> float:
        """Milliseconds that `work` takes at least, if it moves so many bytes and no more."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()
        return max(counter.get_total_flops() / self.operations, moved / self.bytes)


@torch.inference_mode()
def section(bench: Bench) -> None:
    """Every stage of a find and of a pick, in the order in which they run."""
    segmenter, placement = bench.segmenter, bench.segmenter.placement
    ceilings = Ceilings.of(bench.device, placement.dtype)
    bench.add("ceiling: products", ceilings.operations / 1e9, "TFLOP/s")
    bench.add("ceiling: memory", ceilings.bytes / 1e6, "GB/s")
    photo = bench.photo((960, 1280))
    image = open_image(photo, Limits())
    side = segmenter.side(100)
    square = segmenter.prepare(image.pixels, side)
    _host(bench, "decode 1280×960", lambda: open_image(photo, Limits()))
    _host(bench, "preprocess: resize and hash", lambda: segmenter.prepare(image.pixels, side))

    def upload() -> torch.Tensor:
        return normalise(square.pixels, placement.device).to(placement.dtype)

    _on_device(bench, ceilings, "upload, normalise", upload, None, square.pixels)
    values = upload()
    encoder, detector = segmenter._encoder, segmenter._heads[Find].detector
    backbone, neck = encoder._backbone, detector.vision_encoder.neck
    _on_device(bench, ceilings, "ViT", partial(backbone, values), backbone, values)
    features = segmenter.encode(square)
    levels = partial(first_levels, neck, features.hidden)
    _on_device(bench, ceilings, "neck", levels, neck, (features.hidden, levels()))
    texts = segmenter._texts
    text = partial(texts._encode, CONCEPTS[0])
    _on_device(bench, ceilings, "text", text, detector.text_encoder, text())
    _geometry(bench, ceilings, features)
    _heads(bench, ceilings, features)
    _pick(bench, ceilings, features)
    _results(bench, features, image)


def _host(bench: Bench, case: str, work: Callable[[], Any]) -> None:
    bench.add(case, host_milliseconds(bench.device, work, bench.rounds), "ms", note="host")


def _on_device(
    bench: Bench,
    ceilings: Ceilings,
    case: str,
    work: Callable[[], Any],
    module: Any,
    tensors: Any,
) -> None:
    """Time `work`; its floor reads the weights of `module` and `tensors` once."""
    taken = milliseconds(bench.device, work, bench.rounds)
    bench.add(case, taken, "ms", ceilings.floor(work, _bytes(module, tensors)))


def _bytes(module: Any, tensors: Any) -> int:
    weights = [] if module is None else list(module.parameters())
    found = [one for one in tree_leaves(tensors) if isinstance(one, torch.Tensor)]
    return sum(tensor.nbytes for tensor in (*weights, *found))


def _geometry(bench: Bench, ceilings: Ceilings, features: Any) -> None:
    """Tokens of an exemplar box; a cache keeps them, so each call gets another store."""
    finder = bench.segmenter._heads[Find]
    request = Find((CONCEPTS[0],), 0.0, ((10.0, 10.0, 300.0, 300.0),), (1,))
    level = bench.segmenter._encoder.levels(features, "find", finder.detector.vision_encoder.neck)[
        -1
    ]

    def tokens() -> Any:
        features.store.clear()
        return finder._geometry(features, level, request)

    encoder = finder.detector.geometry_encoder
    _on_device(bench, ceilings, "geometry of an exemplar", tokens, encoder, level)


def _heads(bench: Bench, ceilings: Ceilings, features: Any) -> None:
    """The detector's parts within one call for one concept, by stamps before and after each."""
    finder = bench.segmenter._heads[Find]
    request = Find((CONCEPTS[0],), 0.0)
    stamps: dict[str, list[Any]] = {name: [] for name in HEADS}
    work: dict[str, Callable[[], Any]] = {}
    moved: dict[str, int] = {}
    handles = []
    for name in HEADS:
        module = getattr(finder.detector, name)

        def before(module: Any, values: Any, named: Any, name: str = name) -> None:
            stamps[name].append(bench.device.stamp())

        def after(module: Any, values: Any, named: Any, output: Any, name: str = name) -> None:
            stamps[name].append(bench.device.stamp())
            work[name] = partial(type(module).forward, module, *values, **named)
            moved[name] = _bytes(module, (values, named, list(output) if output is not None else 0))

        handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]
    forward = partial(finder._forward, features, request.concepts, request)
    whole = milliseconds(bench.device, forward, bench.rounds)
    for handle in handles:
        handle.remove()
    for name, moments in stamps.items():
        pairs = list(zip(moments[::2], moments[1::2], strict=True))[bench.device.warm_up :]
        taken = statistics.median(one.until(other) for one, other in pairs)
        bench.add(name, taken, "ms", ceilings.floor(work[name], moved[name]))
    bench.add("all heads of a concept together", whole, "ms")


def _pick(bench: Bench, ceilings: Ceilings, features: Any) -> None:
    picker = bench.segmenter._heads[Pick]
    if picker is None:
        return
    task = Pick((Target(((100.0, 100.0),), (1,)),), True)
    forward = partial(picker._forward, features, task.targets, task.multimask)
    decoder = picker.tracker.mask_decoder
    _on_device(bench, ceilings, "pick: prompt, mask decoder, copy", forward, decoder, ())


def _results(bench: Bench, features: Any, image: Any) -> None:
    """From maps on the device to a ZIP: the copy to the host, masks and files."""
    finder = bench.segmenter._heads[Find]
    request = Find((CONCEPTS[0],), 0.0)
    logits = finder._forward(features, request.concepts, request).pred_masks
    count = min(KEPT, logits.shape[1])
    # Blobs as real instances have them: random weights make noise, which costs far more.
    blobs = torch.from_numpy(pictures.mask_logits(count)).to(logits)
    logits = blobs[None]
    kept = (torch.zeros(count, dtype=torch.long).numpy(), torch.arange(count).numpy())
    _host(bench, f"copy of {count} maps to the host", partial(finders._selected, logits, kept))
    maps = LowResMasks.of_logits(finders._selected(logits, kept), 0.5, image.size)
    found = bench.segmenter.segment(features, request).take(range(count))
    found = replace(found, size=image.size, source=maps)
    _host(bench, f"put in order, {count} instances", lambda: merged([found], request))
    with tempfile.TemporaryDirectory() as folder:
        write = partial(save, image, found, Output(), Path(folder))
        _host(bench, f"masks and ZIP, {count} instances", write)
