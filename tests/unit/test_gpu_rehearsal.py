"""The GPU path without a GPU: SAM 3 at full size on fake CUDA tensors, which have no values.

`FakeTensorMode` runs every operation's rules for devices and shapes and refuses what a GPU would
refuse: a tensor that was left on the host. `OneDtype` adds products of two dtypes. What leaves for
the host goes through `to_host`, which here gives ones. No speed, no memory and no numbers come out
of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Sam3VideoConfig, Sam3VideoModel
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding

from sam3_image.errors import DeviceError
from sam3_image.model import (
    Find,
    Pick,
    Placement,
    Segmenter,
    Target,
    encoder,
    finder,
    load,
    picker,
    segmenter,
)
from sam3_image.model.encoder import ModelInput
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.download import is_for_video
from sam3_image.model.weights.loading import Weights, WeightsLoader, target
from sam3_image.report import Report
from sam3_image.settings import Settings

CUDA = torch.device("cuda:0")
SIZE = (600, 800)
BOX = (10.0, 20.0, 300.0, 400.0)
POINT = (100.0, 100.0)


class FakeCheckpoint(Checkpoint):
    """SAM 3 at full size, with the demo's tokenizer and weights without values."""

    def weights(self, reading: WeightsLoader) -> Weights:
        placement: Placement = reading  # type: ignore[assignment]
        with torch.device("meta"):
            shapes = Sam3VideoModel(Sam3VideoConfig()).state_dict()
        tensors = {
            name: torch.empty(
                shape.shape, dtype=target(name, torch.bfloat16, placement), device=CUDA
            )
            for name, shape in shapes.items()
            if not is_for_video(name)
        }
        return Weights(tensors, frozenset(), placement)


def ones(values: torch.Tensor) -> np.ndarray:
    """Stands in for `to_host`: what a host would read, had the tensor values."""
    assert isinstance(values, FakeTensor)
    assert values.device == CUDA, "read from the device"
    assert values.dtype != torch.bfloat16, "NumPy has no bfloat16"
    if values.ndim == 3 and values.shape[1] == values.shape[2]:
        assert values.dtype == torch.float16, "maps leave in two bytes"
        # Here as bytes: 1,000 of them in float16 are 166 MB, which are copied a few times.
        return np.ones(values.shape, dtype=np.uint8)
    return np.ones(values.shape, dtype=str(values.dtype).removeprefix("torch."))


class OneDtype(TorchDispatchMode):
    """Refuses products of two dtypes as CUDA's kernels do; fake tensors let them by."""

    PRODUCTS = frozenset(
        (
            *("linear", "addmm", "mm", "bmm", "baddbmm", "matmul"),
            *("conv2d", "conv_transpose2d", "convolution", "scaled_dot_product_attention"),
        )
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.PRODUCTS:
            # Of attention query, key and value; its mask may be wider.
            factors = [part for part in args[:3] if isinstance(part, torch.Tensor)]
            if len({part.dtype for part in factors}) > 1:
                raise RuntimeError(f"{name} of {[part.dtype for part in factors]}")
        return func(*args, **(kwargs or {}))


def moved(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Stands in for `Module.to`, which swaps contents, as fake tensors do not let it."""
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
        for name, weight in part._parameters.items():
            if weight is not None and weight.device != device:
                part._parameters[name] = torch.nn.Parameter(weight.to(device), False)
    return module


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=str)
def rehearsed(request: pytest.FixtureRequest, weights: Path) -> Iterator[Segmenter]:
    """A segmenter on fake CUDA, within the mode that makes it so."""
    calls: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), OneDtype():
        for module in (finder, picker, segmenter):
            patch.setattr(module, "to_host", ones)
        # It keeps its results for the whole process, and fake tensors belong to one mode.
        encode = Sam3SinePositionEmbedding.build_sine_position_embedding.__wrapped__
        patch.setattr(
            Sam3SinePositionEmbedding, "build_sine_position_embedding", staticmethod(encode)
        )
        patch.setattr(torch.nn.Module, "to", moved)
        patch.setattr(torch.cuda, "synchronize", calls.append)
        patch.setattr(encoder, "free_memory", lambda device: 1 << 40)
        placement = Placement(CUDA, request.param)
        checkpoint = FakeCheckpoint(weights, Sam3VideoConfig())
        made = Segmenter(checkpoint, placement, reading=placement)  # type: ignore[arg-type]
        # Else small tensors keep their values, and moving those to a GPU looks for a driver.
        patch.setattr(FakeTensorMode, "may_turn_const", lambda *_: False)
        yield made
        assert CUDA in calls, "encoding waits for the device, or its time would be counted later"


def features(rehearsed: Segmenter, side: int = 1008) -> Any:
    pixels = torch.zeros((1, 3, side, side), dtype=torch.uint8)
    return rehearsed.encode(ModelInput(f"square-{side}", SIZE, pixels))


@pytest.mark.parametrize(
    "request_",
    [
        Find(("red circle",), 0.5),
        Find(tuple(f"circle {number}" for number in range(5)), 0.5),
        Find(("visual",), 0.5, (BOX, BOX), (1, 0)),
        Find(("red circle", "star"), 0.5, (BOX,), (1,)),
    ],
    ids=["one text", "more texts than go together", "exemplars", "texts with an exemplar"],
)
def test_find(rehearsed: Segmenter, request_: Find) -> None:
    found = rehearsed.segment(features(rehearsed), request_)
    assert len(found) == 200 * len(request_.concepts)
    assert found.source.values.shape[1:] == (288, 288)


@pytest.mark.parametrize("multimask", [False, True], ids=["best", "three"])
@pytest.mark.parametrize(
    "targets",
    [
        (Target((POINT, POINT), (1, 0)),),
        (Target(box=BOX), Target(box=BOX)),
        (Target((POINT,), (0,), BOX),),
    ],
    ids=["points", "boxes", "point in a box"],
)
def test_pick(rehearsed: Segmenter, targets: tuple[Target, ...], multimask: bool) -> None:
    found = rehearsed.segment(features(rehearsed), Pick(targets, multimask))
    assert len(found) == len(targets) * (3 if multimask else 1)
    assert found.source.values.shape[1:] == (288, 288)


def test_features_stay_on_the_device_in_its_dtype(rehearsed: Segmenter) -> None:
    hidden = features(rehearsed).hidden
    assert (hidden.device, hidden.dtype) == (CUDA, rehearsed.placement.dtype)
    assert hidden.shape == (1, 1024, 72, 72)


def test_another_resolution(rehearsed: Segmenter) -> None:
    half = features(rehearsed, rehearsed.side(50))
    found = rehearsed.segment(half, Find(("red circle",), 0.5))
    assert found.source.values.shape[1:] == (192, 192)
    assert len(rehearsed.segment(half, Pick((Target(box=BOX),), False))) == 1


def test_parts_of_a_picture_are_encoded_together(rehearsed: Segmenter) -> None:
    side = rehearsed.side(50)
    pixels = torch.zeros((1, 3, side, side), dtype=torch.uint8)
    count = rehearsed._encoder.batch(side)
    assert count > 1
    with torch.inference_mode():
        parts = rehearsed._encoder.encode_all(
            [ModelInput(f"{n}", SIZE, pixels) for n in range(count)]
        )
    assert {part.hidden.shape for part in parts} == {(1, 1024, 48, 48)}


@pytest.mark.parametrize(
    ("free", "percent", "count"),
    [(80e9, 100, 8), (80e9, 50, 18), (1.5e9, 100, 4), (0.3e9, 50, 1), (1e6, 100, 1)],
)
def test_crops_in_a_pass_follow_from_the_memory_that_is_free(
    rehearsed: Segmenter, monkeypatch: pytest.MonkeyPatch, free: float, percent: int, count: int
) -> None:
    monkeypatch.setattr(encoder, "free_memory", lambda device: int(free))
    side = rehearsed.side(percent)
    found = rehearsed.batch(side)
    assert found == count
    assert (
        found == 1 or found * (side // 14) ** 2 * 30_000 < free
    )  # what a pass was counted to need


def test_crops_that_do_not_fit_go_in_halves(
    rehearsed: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    run = rehearsed._encoder._run

    def lacking(inputs: torch.Tensor) -> torch.Tensor:
        passes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(inputs)

    monkeypatch.setattr(rehearsed._encoder, "_run", lacking)
    side = rehearsed.side(50)
    crops = [
        ModelInput(str(number), SIZE, torch.zeros((1, 3, side, side), dtype=torch.uint8))
        for number in range(8)
    ]
    found = rehearsed.encode_all(crops)
    assert [one.key for one in found] == [one.key for one in crops]
    assert passes == [8, 4, 2, 2, 4, 2, 2]
    assert rehearsed.batch(side) == 2
    monkeypatch.setattr(rehearsed._encoder, "_gpu_batch_tokens", encoder.GPU_BATCH_TOKENS)
    passes.clear()
    monkeypatch.setattr(rehearsed._encoder, "_run", raising(torch.OutOfMemoryError("too little")))
    with pytest.raises(torch.OutOfMemoryError):
        rehearsed.encode_all(crops)


def raising(error: Exception) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


def test_warming_up_runs_every_part(rehearsed: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    parts = {
        "encode": (rehearsed._encoder, "_run"),
        "exemplar": (rehearsed._heads[Find].detector.geometry_encoder, "boxes_direct_project"),
        "find": (rehearsed._heads[Find].detector, "mask_decoder"),
        "pick": (rehearsed._heads[Pick].tracker, "mask_decoder"),
    }
    for name, (owner, attribute) in parts.items():
        original = getattr(owner, attribute)

        def noted(*values: Any, name: str = name, original: Any = original, **named: Any) -> Any:
            ran.append(name)
            return original(*values, **named)

        if isinstance(original, torch.nn.Module):
            monkeypatch.setattr(original, "forward", partial(noted, original=original.forward))
        else:
            monkeypatch.setattr(owner, attribute, noted)
    rehearsed.warm_up()
    assert set(ran) == set(parts)
    assert rehearsed._features.used == rehearsed._texts.cache.used == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (np.nan, "scores are not finite numbers.*SAM3_DTYPE"),
        (RuntimeError("CUDA error: no kernel image is available\nmore"), "does not run on cuda:0"),
    ],
)
def test_a_device_that_does_not_compute_ends_setup_in_one_line(
    rehearsed: Segmenter, monkeypatch: pytest.MonkeyPatch, fault: Any, words: str
) -> None:
    if isinstance(fault, Exception):
        monkeypatch.setattr(rehearsed._encoder, "_run", raising(fault))
    else:
        monkeypatch.setattr(finder, "to_host", lambda values: ones(values) * np.float32(fault))
    with pytest.raises(DeviceError, match=words) as caught:
        rehearsed.warm_up()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "dtype", "warmed", "tf32"),
    [
        ("cpu", torch.float32, 0, True),
        ("cuda", torch.bfloat16, 1, True),
        ("cuda", torch.float32, 1, False),
    ],
)
def test_setup_warms_a_gpu_up_and_keeps_float32_whole(
    weights: Path, monkeypatch: pytest.MonkeyPatch, device: str, dtype: Any, warmed: int, tf32: bool
) -> None:
    placement = Placement(torch.device(device), dtype)
    stub = MagicMock(placement=placement)
    monkeypatch.setattr(Placement, "of", classmethod(lambda cls, settings: placement))
    monkeypatch.setattr(segmenter, "Segmenter", lambda *_: stub)
    monkeypatch.setattr(load, "WeightsLoader", MagicMock())
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load.load_segmenter(Settings(weights=str(weights)), Report())
    assert stub.warm_up.call_count == warmed
    assert torch.backends.cudnn.allow_tf32 is tf32


def test_health_and_forgetting(rehearsed: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "to_host", lambda values: np.full(values.shape, 2.0))
    assert rehearsed.healthy()
    given_back: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    features(rehearsed)
    rehearsed.forget()
    assert given_back == [True]
    assert rehearsed._features.used == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_go_to_the_device_in_the_dtype_they_are_used_in(
    weights: Path, dtype: torch.dtype
) -> None:
    """On torch's meta device, which takes the same way through the reader as a GPU."""
    placement = Placement(torch.device("meta"), dtype)
    found = WeightsLoader([weights / "model.safetensors"], placement).weights()
    assert not found.not_finite
    for name, tensor in found.tensors.items():
        assert tensor.device.type == "meta"
        assert tensor.dtype == target(name, tensor.dtype, placement), name


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_the_default_dtype_is_what_the_gpu_has_natively(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert Placement.of(Settings.from_environment({})) == Placement(torch.device("cuda"), dtype)
    named = Placement.of(
        Settings.from_environment({"SAM3_DEVICE": "cuda:0", "SAM3_DTYPE": "float16"})
    )
    assert named == Placement(CUDA, torch.float16)
