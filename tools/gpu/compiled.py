"""What compiling each part of the model, and each attention kernel of torch, is worth."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import pictures
from benchmarks.whole import CONCEPTS
from sam3_image.masks import Detections
from sam3_image.model import Find
from tools.gpu.device import milliseconds

if TYPE_CHECKING:
    from tools.gpu.sections import Bench

# Parts of the detector: the module, and which work it is measured in.
PARTS = {
    "ViT": ("vision_encoder.backbone", "encode"),
    "DETR encoder": ("detr_encoder", "find"),
    "DETR decoder": ("detr_decoder", "find"),
    "mask decoder": ("mask_decoder", "find"),
}
MODES = ("default", "reduce-overhead")
KERNELS = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
SAME_IOU = 0.97


def section(bench: Bench) -> None:
    """Attention kernels first, which take no compilation; then each part in each mode."""
    work = _work(bench)
    expected = _answer(bench)
    for name in ("encode", "find"):
        bench.add(f"{name}, as it is", milliseconds(bench.device, work[name], bench.rounds), "ms")
    for kernel in KERNELS[2:] if bench.rehearsal else KERNELS:
        for name in ("encode", "find"):
            with sdpa_kernel(getattr(SDPBackend, kernel)):
                _try(bench, f"{name}, {kernel}", work[name], expected)
    detector = bench.segmenter._heads[Find].detector
    for part, (path, name) in PARTS.items():
        module = detector.get_submodule(path)
        for mode in MODES[:1] if bench.rehearsal else MODES:
            if time.monotonic() > bench.end:
                bench.say(f"{part}, {mode}: skipped, the time is over")
                continue
            with _compiled(bench, module, mode):
                start = time.perf_counter()
                try:
                    work[name]()
                    bench.device.wait()
                except Exception as error:  # of any part of the compiler
                    bench.say(f"{part}, {mode}: failed, {_line(error)}")
                    continue
                note = f"compiled in {time.perf_counter() - start:.0f} s"
                _try(bench, f"{name}, {part} compiled ({mode})", work[name], expected, note)


@contextlib.contextmanager
def _compiled(bench: Bench, module: Any, mode: str) -> Iterator[None]:
    """A module whose forward is compiled, in the block."""
    torch._dynamo.reset()
    original = module.forward
    # A rehearsal takes the graphs apart as a GPU does, but leaves out the compiler behind them.
    options: dict[str, Any] = {"backend": "eager"} if bench.rehearsal else {"mode": mode}
    module.forward = torch.compile(original, **options)
    try:
        yield
    finally:
        module.forward = original


def _work(bench: Bench) -> dict[str, Callable[[], Any]]:
    """One pass of the encoder, and one of the heads of a known image and text."""
    segmenter = bench.segmenter
    side = segmenter.side(100)
    square = segmenter.prepare(pictures.photo(side, side), side)
    finder = segmenter._heads[Find]
    request = Find((CONCEPTS[0],), 0.0)
    features = segmenter.encode(square)

    @torch.inference_mode()
    def find() -> None:
        finder._forward(features, request.concepts, request)

    return {"encode": partial(segmenter.encode_all, [square]), "find": find}


def _answer(bench: Bench) -> Detections:
    segmenter = bench.segmenter
    pixels = pictures.photo(600, 800, seed=3)
    (features,) = segmenter.encode_all([segmenter.prepare(pixels, segmenter.side(100))])
    return segmenter.segment(features, Find((CONCEPTS[0],), 0.0))


def _try(
    bench: Bench, case: str, work: Callable[[], Any], expected: Detections, note: str = ""
) -> None:
    """Time `work`, and say whether the answer is still the same; one that fails is said."""
    try:
        taken = milliseconds(bench.device, work, bench.rounds)
        same = _same(expected, _answer(bench))
    except Exception as error:  # of a kernel, a graph or the compiler: said, and the next is tried
        bench.say(f"{case}: failed, {_line(error)}")
        return
    verdict = "same instances" if same else "OTHER instances"
    bench.add(case, taken, "ms", note=f"{verdict}, {note}" if note else verdict)


def _same(one: Detections, other: Detections, best: int = 5) -> bool:
    """Whether the best instances of both are the same ones: near scores, masks that overlap."""
    if len(one) != len(other) or not np.allclose(one.scores, other.scores, atol=0.02):
        return False
    masks = [other.mask(index) for index in range(min(2 * best, len(other)))]
    mine = [one.mask(index) for index in range(min(best, len(one)))]
    return all(
        any(mask.iou(twin) > SAME_IOU or mask.area == twin.area == 0 for twin in masks)
        for mask in mine
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
