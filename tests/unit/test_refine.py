"""`refine` never spoils a mask: on drawn scenes, and where a mask has specks.

A short form of `tools.refine_figures`, which does the same on hundreds of masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import sam3_image
from sam3_image.crops import CropRunner, refine
from sam3_image.masks import Mask, PackedMasks
from sam3_image.model import Pick, Target
from tests.helpers.refine_scenes import Drawn, changes, scene
from tests.helpers.second_scenes import iou
from tests.http.test_prompts_http import central

SLACK = 0.02  # IoU that a mask may lose


@pytest.fixture(scope="module")
def sam(weights: Path) -> sam3_image.Sam:
    return sam3_image.load(weights, device="cpu")


@pytest.mark.parametrize(
    ("kind", "seed"), [("touching", 10), ("thin", 8), ("nested", 1), ("nested", 4)]
)
def test_no_mask_gets_worse(sam: sam3_image.Sam, kind: str, seed: int) -> None:
    found = list(changes(sam, kind, seed))
    assert found
    assert [one for one in found if one.after < one.before - SLACK] == []


def test_specks_are_not_the_object(sam: sam3_image.Sam) -> None:
    segmenter = sam._model
    assert segmenter is not None
    runner = CropRunner(segmenter, segmenter.side(100), 0.5)
    pixels, objects = scene("specked", 2)
    features = segmenter.encode(segmenter.prepare(pixels, runner.side))
    for one in objects:
        x, y = central(one.mask)
        pick = Pick((Target(points=((x, y),), labels=(1,)),), multimask=False)
        found = segmenter.segment(features, pick)
        (first,) = found.masks()
        specks = _specks(objects, first.area)
        spoiled = Mask(first.full() | specks, 0, 0, first.size)
        (fine,) = refine(runner, pixels, replace(found, source=PackedMasks.of([spoiled]))).masks()
        assert not (fine.full() & specks).any()
        assert iou(fine.full(), one.mask) >= iou(first.full(), one.mask) + 0.01


def _specks(objects: Sequence[Drawn], area: int) -> NDArray[np.bool_]:
    """Two squares, each of 2 % of an area, in the image's corners, off every object."""
    size = objects[0].mask.shape
    side = round(np.sqrt(0.02 * area))
    specks = np.zeros(size, dtype=bool)
    specks[:side, :side] = specks[-side:, -side:] = True
    assert not any((one.whole & specks).any() for one in objects)
    return specks


def test_boxes_lie_around_the_masks_of_all_instances(sam: sam3_image.Sam) -> None:
    """Of those that the closer look left as they were, too."""
    pixels, _ = scene("touching", 5)
    plain, fine = (sam.find(pixels, "shape", refine=on) for on in (False, True))
    pairs = list(zip(plain.iter_masks(), fine.iter_masks(), strict=True))
    same = [np.array_equal(before.full(), after.full()) for before, after in pairs]
    assert any(same)
    assert not all(same)
    assert fine.boxes.tolist() == [list(mask.box) for mask in fine.iter_masks()]
    assert fine.scores.tolist() == plain.scores.tolist()


def test_nothing_found_stays_nothing(sam: sam3_image.Sam) -> None:
    pixels, _ = scene("thin", 0)
    found = sam.find(pixels, "shape", threshold=1.0, refine=True)
    assert found.boxes.shape == (0, 4)
