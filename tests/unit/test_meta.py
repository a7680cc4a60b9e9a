"""Our answers beside those that Meta's own implementation gave for the same weights.

They are those of a tiny checkpoint with random weights: see `tests/data/meta/README.md`.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam3_image.model.compatibility import META, TRANSFORMERS, Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.picker import fill_small_holes
from sam3_image.model.prompts import Find, Pick
from sam3_image.model.segmenter import Segmenter
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.convert import convert
from tests.helpers import meta_oracle
from tools.demo_checkpoint.as_meta import fill_holes

CPU = Placement(torch.device("cpu"), torch.float32)
# Ours differ by 2.1e-5 at most; the smallest effect of a correction is 5e-4.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint as script/convert-weights makes it, but with transformers' own epsilon."""
    scratch = tmp_path_factory.mktemp("meta")
    packed = meta_oracle.DATA / "meta.safetensors.gz"
    (scratch / "meta.safetensors").write_bytes(gzip.decompress(packed.read_bytes()))
    meta_oracle.tokenizer().save_pretrained(scratch / "tokenizer")
    folder = scratch / "converted"
    config = meta_oracle.DATA / "config.json"
    convert(scratch / "meta.safetensors", folder, str(scratch / "tokenizer"), config)
    content = json.loads((folder / "config.json").read_text())
    for half in ("detector_config", "tracker_config"):
        content[half]["vision_config"]["backbone_config"]["layer_norm_eps"] = 1e-6
    (folder / "config.json").write_text(json.dumps(content))
    return Checkpoint.open(folder)


def differences(checkpoint: Checkpoint, reference: Compatibility) -> dict[str, float]:
    return meta_oracle.differences(Segmenter(checkpoint, CPU, reference=reference))


def test_every_answer_is_meta_s(checkpoint: Checkpoint) -> None:
    found = differences(checkpoint, META)
    asked = {*meta_oracle.CASES["detector"], *(f"tracker.{name}" for name in meta_oracle.PICKS)}
    assert {name.rpartition(".")[0] for name in found if "." in name} == asked
    assert {name: value for name, value in found.items() if not value <= TOLERANCE} == {}


@pytest.mark.parametrize(
    ("off", "affected"),
    [
        ({"cls_token": False}, {"text", "two_texts", "same_picture"}),
        ({"no_memory": False}, {f"tracker.{name}" for name in meta_oracle.PICKS}),
        ({"clean_text": False}, {*meta_oracle.CASES["detector"]} - {"boxes"}),
        ({"layer_norm_eps": None}, {"text", "boxes", "tracker.box_single"}),
    ],
)
def test_each_correction_is_needed(
    checkpoint: Checkpoint, off: dict[str, Any], affected: set[str]
) -> None:
    found = differences(checkpoint, replace(META, **off))
    wrong = {name.rpartition(".")[0] for name, value in found.items() if value > 4 * TOLERANCE}
    if "layer_norm_eps" in off:  # it moves everything, by little
        wrong = {name.rpartition(".")[0] for name, value in found.items() if value > TOLERANCE}
    assert affected <= wrong


def test_transformers_way_has_none_of_them(checkpoint: Checkpoint) -> None:
    found = differences(checkpoint, TRANSFORMERS)
    assert found["text.pred_logits"] > 0.1
    assert found["tracker.pt1_multi.low_res_logits"] > 0.1
    assert found["text_features"] > 0.1
    assert found["vit_last"] > TOLERANCE


def test_scores_and_boxes_as_users_see_them(checkpoint: Checkpoint) -> None:
    segmenter = Segmenter(checkpoint, CPU, reference=META)
    pixels = meta_oracle.INPUTS["picture0"]
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    found = segmenter.segment(features, Find(("a red car",), 0.0))
    scores = meta_oracle.EXPECTED["text.scores"][0]
    order = (-scores).argsort()
    height, width = pixels.shape[:2]
    boxes = meta_oracle.EXPECTED["text.boxes_xyxy"][0][order] * [width, height, width, height]
    np.testing.assert_allclose(found.scores, scores[order], atol=TOLERANCE)
    np.testing.assert_allclose(found.boxes, boxes, atol=TOLERANCE * max(height, width))


def test_masks_are_cut_from_upsampled_logits(checkpoint: Checkpoint) -> None:
    """All of Meta's ten logit maps, upsampled by torch; pixels within rounding of 0 may differ."""
    expected = torch.from_numpy(meta_oracle.EXPECTED["text.mask_logits"])
    scores = meta_oracle.EXPECTED["text.scores"][0]
    pixels = meta_oracle.INPUTS["picture0"]
    full = F.interpolate(expected, pixels.shape[:2], mode="bilinear")[0]
    full = full[(-scores).argsort().copy()].numpy()
    assert _differing(checkpoint, META, full) == 0
    assert _differing(checkpoint, replace(META, upsample_logits=False), full) > 500


@pytest.mark.parametrize("name", list(meta_oracle.PICKS))
def test_small_holes_of_a_pick_are_filled(checkpoint: Checkpoint, name: str) -> None:
    """Meta's logits with holes filled, upsampled by torch; pixels near 0 may differ."""
    case = meta_oracle.PICKS[name]
    request = Pick((meta_oracle.target(case),), case["multimask_output"])
    logits = torch.from_numpy(meta_oracle.EXPECTED[f"tracker.{name}.low_res_logits"])
    scores = meta_oracle.EXPECTED[f"tracker.{name}.iou"]
    segmenter = Segmenter(checkpoint, CPU, reference=META)
    pixels = meta_oracle.INPUTS[f"picture{case['picture']}"]
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    for fill in (True, False):
        wanted = fill_holes(logits) if fill else logits
        assert torch.equal(wanted, logits) != fill
        full = F.interpolate(wanted, pixels.shape[:2], mode="bilinear")[0].numpy()
        found = segmenter.segment(features, replace(request, fill_holes=fill))
        for mask, expected in zip(found.masks(), full[np.argsort(-scores[0])], strict=True):
            differ = (mask.full() != (expected > 0)) & (np.abs(expected) > TOLERANCE)
            assert not differ.any()


def test_a_hole_is_filled_up_to_256_cells_of_full_size() -> None:
    """Diagonal cells are connected, and background at the border is a hole like any other."""
    logits = np.ones((288, 288), np.float32)
    logits[100:116, 100:116] = -1  # 256 cells
    logits[200:216, 200:216] = -1
    logits[216, 216] = -1  # the 257th, at a corner
    logits[:4, :4] = -1
    fill_small_holes(logits, 0.0)
    expected = np.ones_like(logits)
    expected[200:216, 200:216] = expected[216, 216] = -1
    expected[100:116, 100:116] = expected[:4, :4] = 10
    np.testing.assert_array_equal(logits, expected)


def _differing(checkpoint: Checkpoint, reference: Compatibility, full: np.ndarray) -> int:
    """How many pixels of the masks of *find* are not those of `full` (N, H, W) > 0."""
    segmenter = Segmenter(checkpoint, CPU, reference=reference)
    features = segmenter.encode(
        segmenter.prepare(meta_oracle.INPUTS["picture0"], segmenter.side(100))
    )
    found = segmenter.segment(features, Find(("a red car",), 0.0))
    masks = np.array([mask.full() for mask in found.masks()])
    return int(((masks != (full > 0)) & (np.abs(full) > TOLERANCE)).sum())
