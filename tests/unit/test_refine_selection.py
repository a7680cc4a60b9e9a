"""`refine` costs two looks for each instance that can be in the answer, and for no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sam3_image
from sam3_image import Instances, Sam
from sam3_image.model import Segmenter
from tests.helpers.drawn_instances import disc

SIZE = (300, 400)
CENTRES = [(50, 60), (60, 180), (70, 320), (210, 70), (220, 190), (230, 330)]


@pytest.fixture(scope="module")
def sam(weights: Path) -> Sam:
    return sam3_image.load(weights)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops went through the encoder, pass by pass."""
    counts: list[int] = []
    encode = Segmenter.encode_all

    def counted(segmenter: Segmenter, squares: Sequence[Any]) -> Any:
        counts.append(len(squares))
        return encode(segmenter, squares)

    monkeypatch.setattr(Segmenter, "encode_all", counted)
    return counts


def image() -> np.ndarray:
    pixels = np.full((*SIZE, 3), 230, dtype=np.uint8)
    for centre in CENTRES:
        pixels[disc(SIZE, centre, 25)] = 220, 30, 30
    return pixels


def assert_best(found: Instances, every: Instances) -> None:
    """The answer is the beginning of a longer one.

    Crops that share a pass with others may differ in last bits, and so in a pixel at an edge.
    """
    count = len(found)
    np.testing.assert_array_equal(found.scores, every.scores[:count])
    np.testing.assert_allclose(found.boxes, every.boxes[:count], atol=1)
    for one, other in zip(found.masks(), every.masks(), strict=False):
        assert (one & other).sum() >= 0.99 * (one | other).sum()


@pytest.mark.parametrize("most", [1, 2, 4])
def test_only_the_best_are_refined(sam: Sam, looks: list[int], most: int) -> None:
    every = sam.find(image(), "circle", refine=True)
    assert len(every) > most
    assert 2 * most < sum(looks) <= 2 * len(every)
    looks.clear()
    found = sam.find(image(), "circle", refine=True, max_instances=most)
    assert len(found) == most
    assert_best(found, every)
    assert sum(looks) == 2 * most


def test_candidates_of_a_pick_beyond_the_best_are_not_refined(sam: Sam, looks: list[int]) -> None:
    inputs: dict[str, Any] = {"points": [[60, 50]], "multimask_output": True, "refine": True}
    every = sam.pick(image(), **inputs)
    looks.clear()
    found = sam.pick(image(), max_instances=1, **inputs)
    assert len(found) == 1
    assert_best(found, every)
    assert sum(looks) <= 2


@pytest.mark.parametrize("iou", [0.0, 0.5, 1.0])
def test_overlap_is_judged_by_refined_masks(sam: Sam, looks: list[int], iou: float) -> None:
    """With NMS all are refined: those that go make room for later ones."""
    inputs: dict[str, Any] = {"threshold": 0.05, "refine": True}
    sam.find(image(), ["circle", "star"], **inputs)
    refined = sum(looks)
    looks.clear()
    every = sam.find(image(), ["circle", "star"], nms_iou_threshold=iou, **inputs)
    best = sam.find(image(), ["circle", "star"], nms_iou_threshold=iou, max_instances=3, **inputs)
    assert sum(looks) == 2 * refined
    assert len(best) == 3
    assert_best(best, every)
