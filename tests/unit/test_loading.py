"""Loading: the same model as transformers' `from_pretrained`, and every fault named."""

from __future__ import annotations

import copy
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3Model, Sam3TrackerModel, Sam3VideoConfig

from sam3_image.errors import CheckpointError
from sam3_image.model import Find, Pick, Placement, Segmenter, Target
from sam3_image.model.weights import loading
from sam3_image.model.weights.checkpoint import DETECTOR_NAMES, TRACKER_NAMES, Checkpoint
from sam3_image.model.weights.download import store
from sam3_image.model.weights.loading import (
    FLOAT32_PARTS,
    Loaded,
    WeightsLoader,
    load,
    weight_files,
)
from tests.helpers.cog_server import REPOSITORY

KINDS = [Sam3Model, Sam3TrackerModel]
TENSOR = "detector_model.dot_product_scoring.query_proj.weight"
NAME = TENSOR.removeprefix("detector_model.")


def loaded(kind: type, folder: Path, dtype: torch.dtype = torch.float32) -> Loaded:
    config = copy.deepcopy(Sam3VideoConfig.from_pretrained(folder))
    reading = WeightsLoader(weight_files(folder), Placement(torch.device("cpu"), dtype))
    names = TRACKER_NAMES if kind is Sam3TrackerModel else DETECTOR_NAMES
    return load(kind, config, reading.weights(), names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_from_pretrained(weights: Path, kind: Any, dtype: torch.dtype):
    expected = kind.from_pretrained(weights, dtype=dtype)
    found = loaded(kind, weights, dtype)
    assert found.missing == found.mismatched == found.not_finite == []
    for which in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(model, which)()) for model in (found.model, expected))
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            if name.endswith("position_ids") and tensor.is_floating_point():
                tensor = tensor.float()  # transformers rounds positions to the weights' dtype
                torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=0)
                continue
            mine = (
                ours[name].to(dtype)
                if not set(FLOAT32_PARTS).isdisjoint(name.split("."))
                else ours[name]
            )
            torch.testing.assert_close(mine, tensor, rtol=0, atol=0)
    assert not found.model.training
    assert not any(weight.requires_grad for weight in found.model.parameters())
    assert found.model.config._attn_implementation == expected.config._attn_implementation


@pytest.mark.parametrize("kind", KINDS)
def test_parts_kept_in_float32(weights: Path, kind: Any):
    model = loaded(kind, weights, torch.bfloat16).model
    for name, weight in model.named_parameters():
        kept = not set(FLOAT32_PARTS).isdisjoint(name.split("."))
        assert weight.dtype == (torch.float32 if kept else torch.bfloat16), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_of_pieces_makes_no_difference(
    weights: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    placement = Placement(torch.device("cpu"), dtype)
    whole = WeightsLoader(weight_files(weights), placement).weights().tensors
    monkeypatch.setattr(loading, "PIECE_BYTES", 1000)
    small = WeightsLoader(weight_files(weights), placement).weights().tensors
    assert whole.keys() == small.keys()
    assert all(torch.equal(tensor, small[name]) for name, tensor in whole.items())


def shifted(source: Path, folder: Path, shift: int) -> Path:
    """Copy a checkpoint so that the tensors of its file begin at `shift` mod 64 bytes."""
    shutil.copytree(source, folder)
    content = (source / "model.safetensors").read_bytes()
    begin = 8 + struct.unpack("<Q", content[:8])[0]
    spaces = (shift - begin) % 64
    header = struct.pack("<Q", begin - 8 + spaces) + content[8:begin] + b" " * spaces
    (folder / "model.safetensors").write_bytes(header + content[begin:])
    return folder


@pytest.mark.parametrize("shift", [0, 4, 8, 16, 56])
@pytest.mark.parametrize("kind", KINDS)
def test_small_weights_are_aligned_wherever_the_file_has_them(
    weights: Path, tmp_path: Path, kind: Any, shift: int
):
    """A matrix times one row depends on it in the last bit, so would the answers."""
    model = loaded(kind, shifted(weights, tmp_path / "shifted", shift)).model
    small = [(n, w) for n, w in model.named_parameters() if w.numel() <= loading.COPIED_VALUES]
    assert len(small) > 90
    assert [name for name, weight in small if weight.data_ptr() % loading.ALIGNMENT] == []


def test_answers_do_not_depend_on_alignment(weights: Path, tmp_path: Path):
    def answers(shift: int) -> list[np.ndarray]:
        checkpoint = Checkpoint.open(shifted(weights, tmp_path / str(shift), shift))
        segmenter = Segmenter(checkpoint, Placement(torch.device("cpu"), torch.float32))
        pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(1)))
        found = segmenter.segment(features, Find(("circle",), 0.0, ((5, 5, 40, 40),), (1,)))
        picked = segmenter.segment(features, Pick((Target(box=(5, 5, 40, 40)),), True))
        return [found.boxes, found.scores, picked.boxes, picked.scores]

    expected = answers(0)
    assert all(map(np.array_equal, answers(8), expected))
    assert all(map(np.array_equal, answers(4), expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_weight_is_aligned_off_the_cpu(weights: Path, dtype: torch.dtype):
    """On the device a piece of the file is one aligned allocation, which its tensors are views of.

    The meta device stands in for it: it has places, but no memory.
    """
    placement = Placement(torch.device("meta"), dtype)
    tensors = WeightsLoader(weight_files(weights), placement).weights().tensors
    places = {name: t.storage_offset() * t.itemsize for name, t in tensors.items()}
    assert any(places.values())
    assert [name for name, place in places.items() if place % loading.ALIGNMENT] == []


def test_half_the_bytes_compute_the_same(weights: Path, tmp_path: Path):
    """On a CPU most weights stay as the file has them; the answers are still float32's."""
    store(weights, tmp_path / "half")
    expected = Sam3Model.from_pretrained(tmp_path / "half", dtype=torch.float32).eval()
    found = loaded(Sam3Model, tmp_path / "half").model
    linear = [layer for layer in found.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(linear) > 50
    tokens = found.get_submodule("text_encoder.text_model.embeddings.token_embedding")
    assert all(layer.weight.dtype == torch.bfloat16 for layer in (*linear, tokens))
    side = found.config.vision_config.backbone_config.image_size
    inputs = {
        "pixel_values": torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)),
        "input_ids": torch.tensor([[1, 2, 3]]),
    }
    with torch.inference_mode():
        ours, theirs = found(**inputs), expected(**inputs)
    for name in ("pred_masks", "pred_boxes", "pred_logits", "presence_logits"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def test_numbers_of_an_unknown_kind_are_refused(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(4).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(CheckpointError, match="F8_E4M3"):
        WeightsLoader([path], Placement(torch.device("cpu"), torch.float32)).weights()


@pytest.fixture
def changed(tiny_weights: Path, tmp_path: Path) -> Callable[[Callable[[dict], None]], Loaded]:
    """Loads the tiny checkpoint after a change to its tensors."""

    def run(change: Callable[[dict], None]) -> Loaded:
        for file in tiny_weights.glob("*.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        tensors = load_file(tiny_weights / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        return loaded(Sam3Model, tmp_path)

    return run


def test_a_missing_weight_is_named(changed):
    found = changed(lambda tensors: tensors.pop(TENSOR))
    assert (found.missing, found.mismatched, found.not_finite) == ([NAME], [], [])


def test_another_shape_is_named_with_both(changed):
    found = changed(lambda tensors: tensors.update({TENSOR: torch.zeros(2, 3)}))
    assert found.missing == found.not_finite == []
    assert len(found.mismatched) == 1
    assert found.mismatched[0].startswith(f"{NAME} (2, 3) instead of (")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_that_is_no_number_is_found(changed, value: float, dtype: torch.dtype):
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[TENSOR] = tensors[TENSOR].to(dtype)
        tensors[TENSOR].view(-1)[-1] = value

    found = changed(spoil)
    assert (found.missing, found.mismatched, found.not_finite) == ([], [], [NAME])


def test_weights_of_others_are_left_in_the_file(changed):
    found = changed(lambda tensors: tensors.update({"something.else": torch.zeros(3)}))
    assert found.missing == found.mismatched == found.not_finite == []


def test_a_uid_without_a_name_loads_the_model(weights: Path) -> None:
    """As under Kubernetes' runAsUser: torch wants a user name for its compile cache."""
    code = """
import os, pwd, sys
for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
def nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
import sam3_image
sam3_image.load(sys.argv[1], device="cpu")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(weights)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
