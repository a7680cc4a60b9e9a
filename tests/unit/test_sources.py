"""Masks give the same pixels whether they come from maps or are ready."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam3_image.masks import Detections, Mask, PackedMask, PackedMasks
from sam3_image.masks.detections import LowResMasks, joined
from tests.helpers.drawn_instances import disc, instances_of, ring

SIZE = (60, 90)
SHAPES = [disc(SIZE, (20, 20), 9), ring(SIZE, (40, 60), 15), np.ones(SIZE, bool)]


def regions_of(found: Detections) -> Detections:
    return replace(found, source=PackedMasks.of(found.masks()))


@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_a_packed_mask_is_the_mask(index: int) -> None:
    mask = instances_of(SHAPES).mask(index)
    again = PackedMask.of(mask).mask()
    assert (again.y, again.x, again.size) == (mask.y, mask.x, mask.size)
    assert again.inside.dtype == bool
    assert np.array_equal(again.full(), SHAPES[index])


def test_an_empty_mask_stays_empty() -> None:
    empty = Mask(np.zeros((0, 0), bool), 0, 0, SIZE)
    assert not PackedMask.of(empty).mask().full().any()


def test_regions_are_taken_and_joined_as_maps_are() -> None:
    maps = instances_of(SHAPES)
    ready = regions_of(maps)
    order = [2, 0]
    both = Detections.joined([maps.take(order), ready])
    expected = [SHAPES[2], SHAPES[0], *SHAPES]
    assert len(both.source) == len(both) == 5
    for mask, wanted in zip(both.masks(), expected, strict=True):
        assert np.array_equal(mask.full(), wanted)


def test_maps_of_one_shape_stay_maps() -> None:
    maps = instances_of(SHAPES).source
    assert isinstance(maps, LowResMasks)
    assert isinstance(joined([maps, maps]), LowResMasks)
    assert isinstance(joined([maps.take(np.array([], np.int64)), maps]), LowResMasks)
    assert isinstance(joined([maps, replace(maps, cut=0.4)]), PackedMasks)
