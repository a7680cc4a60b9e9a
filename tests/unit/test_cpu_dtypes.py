"""SAM3_DTYPE on a CPU: what computes in which dtype, how near answers stay, what the log says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.agreement import compare
from sam3_image.errors import DeviceError
from sam3_image.model import Placement, Segmenter
from sam3_image.model.processor import Processor
from sam3_image.model.prompts import Find, Pick
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.products import Int8Linear
from sam3_image.settings import Settings

QUESTIONS = 9
ZEN4 = Processor("AuthenticAMD", frozenset({"avx512_bf16", "avx512_vnni"}))
XEON = Processor("GenuineIntel", frozenset({"avx512_bf16", "avx_vnni"}))
XEON_AMX = Processor("GenuineIntel", frozenset({"amx_bf16", "amx_int8"}))
OLD = Processor("GenuineIntel", frozenset({"avx2"}))
has_int8 = pytest.mark.skipif(not Processor.here().has_int8, reason="no VNNI")


def placement(dtype: str) -> Placement:
    return Placement.of(Settings.from_environment({"SAM3_DEVICE": "cpu", "SAM3_DTYPE": dtype}))


@pytest.fixture(scope="module")
def exact(weights: Path) -> Segmenter:
    return Segmenter(Checkpoint.open(weights), placement("float32"))


@pytest.mark.parametrize(
    ("dtype", "least"), [("bfloat16", 0.99), pytest.param("int8", 0.98, marks=has_int8)]
)
def test_answers_stay_near_those_of_float32(
    weights: Path, exact: Segmenter, dtype: str, least: float
) -> None:
    """A few of the questions of `benchmarks.agreement`, which asks 300."""
    lower = Segmenter(Checkpoint.open(weights), placement(dtype))
    found = compare(exact, lower, QUESTIONS)
    assert found.same >= QUESTIONS - 1, found
    assert found.ious.mean() >= least, found
    assert found.ious.mean() < 1, "the dtype changed nothing"


def test_bfloat16_leaves_answers_and_coordinates_in_float32(weights: Path) -> None:
    checkpoint = Checkpoint.open(weights)
    segmenter = Segmenter(checkpoint, placement("bfloat16"))
    detector, tracker = segmenter._heads[Find].detector, segmenter._heads[Pick].tracker
    layers = [layer for layer in detector.modules() if isinstance(layer, torch.nn.Conv2d)]
    layers += [layer.mlp.fc1 for layer in detector.vision_encoder.backbone.layers]
    assert all(layer.weight.dtype == torch.bfloat16 for layer in layers)
    assert all(
        layer(torch.ones(2, layer.in_features)).dtype == torch.float32 for layer in layers[-2:]
    )
    norms = [layer for layer in detector.modules() if isinstance(layer, torch.nn.LayerNorm)]
    assert all(norm.weight.dtype == torch.float32 for norm in norms)
    exactly = [tracker.prompt_encoder, tracker.mask_decoder.iou_prediction_head]
    exactly += [detector.detr_decoder.box_head, detector.detr_decoder.presence_head]
    for module in exactly:
        assert not any(hook for part in module.modules() for hook in part._forward_hooks.values())


@has_int8
def test_int8_is_for_the_linear_layers_of_the_vision_encoder(weights: Path) -> None:
    detector = Segmenter(Checkpoint.open(weights), placement("int8"))._heads[Find].detector
    backbone = detector.vision_encoder.backbone
    quantized = [name for name, part in detector.named_modules() if isinstance(part, Int8Linear)]
    assert len(quantized) == 6 * len(backbone.layers)
    assert all(name.startswith("vision_encoder.backbone.layers") for name in quantized)


@has_int8
def test_an_8_bit_layer_is_as_exact_as_8_bits_allow() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32)
    layer.weight.data[3] = 0  # a channel without any weight has no scale
    layer.weight.data[4] *= 1000  # and one much larger than the others spoils none of them
    values = torch.randn(5, 7, 64)
    expected, found = layer(values), Int8Linear(layer)(values)
    error = (found - expected).abs().amax((0, 1)) / expected.abs().amax((0, 1)).clamp_min(0.1)
    assert error.max() < 0.03


@pytest.mark.parametrize(
    ("dtype", "processor", "words"),
    [
        ("float32", ZEN4, "faster with SAM3_DTYPE=bfloat16 or int8"),
        ("float32", XEON, "faster with SAM3_DTYPE=int8,"),
        ("float32", XEON_AMX, "faster with SAM3_DTYPE=bfloat16 or int8"),
        ("float32", OLD, None),
        ("bfloat16", ZEN4, None),
        ("bfloat16", XEON, "slow instructions for bfloat16"),
        ("bfloat16", OLD, "no instructions for bfloat16"),
        ("float32", Processor(), None),
    ],
)
def test_the_log_says_what_would_suit_the_processor(
    dtype: str, processor: Processor, words: str | None
) -> None:
    said = placement(dtype).advice(processor)
    assert said is None if words is None else words in (said or "")
    assert "\n" not in (said or "")


def test_int8_without_instructions_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processor, "here", classmethod(lambda cls: OLD))
    with pytest.raises(DeviceError, match="no instructions for it"):
        placement("int8")


def test_a_processor_is_read_off_its_file(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512_bf16\n\n")
    found = Processor.here(file)
    assert (found.vendor, found.has_bfloat16, found.has_int8) == ("AuthenticAMD", True, False)
    assert Processor.here(tmp_path / "nowhere") == Processor()
