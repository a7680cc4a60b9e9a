"""min_area, fill_holes and keep_parts: what stays of a mask, counted by flooding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sam3_image.errors import InputError
from sam3_image.masks import Detections, Mask, Selection
from sam3_image.masks.cleaning import fill_holes, largest_part
from sam3_image.model import Pick
from sam3_image.request import Request
from tests.helpers.drawn_instances import Bools, disc, instances_of, ring

EVERY = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
SIDES = [(-1, 0), (1, 0), (0, -1), (0, 1)]

random_masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
limits = st.integers(1, 20)


def components(inside: Bools, steps: list[tuple[int, int]]) -> list[set[tuple[int, int]]]:
    """Connected pixels, by flooding."""
    left = set(map(tuple, np.argwhere(inside).tolist()))
    found = []
    while left:
        waiting = [left.pop()]
        part = set(waiting)
        while waiting:
            y, x = waiting.pop()
            for dy, dx in steps:
                if (y + dy, x + dx) in left:
                    left.remove((y + dy, x + dx))
                    part.add((y + dy, x + dx))
                    waiting.append((y + dy, x + dx))
        found.append(part)
    return found


def holes(inside: Bools) -> list[set[tuple[int, int]]]:
    """Background that does not reach the border of the image."""
    around = np.pad(~inside, 1, constant_values=True)
    return [part for part in components(around, SIDES) if (0, 0) not in part]


def region(inside: Bools) -> Mask:
    """The mask in an image that goes on around it."""
    height, width = inside.shape
    return Mask(inside, 2, 3, (height + 4, width + 5))


@settings(max_examples=300, deadline=None)
@given(random_masks, limits)
def test_holes_up_to_the_limit_are_filled_and_nothing_else(inside: Bools, most: int) -> None:
    filled = fill_holes(region(inside), most)
    wanted = np.pad(inside, 1)
    for hole in holes(inside):
        if len(hole) <= most:
            wanted[tuple(zip(*hole, strict=True))] = True
    assert np.array_equal(filled.full()[1:-1, 2:-1][:, : wanted.shape[1]], wanted)
    assert not (inside & ~filled.full()[2:-2, 3:-2]).any()
    again = fill_holes(filled, most)
    assert again is filled, "filled twice"


@settings(max_examples=300, deadline=None)
@given(random_masks)
def test_the_largest_part_stays_as_it_is(inside: Bools) -> None:
    mask = region(inside)
    kept = largest_part(mask)
    sizes = [len(part) for part in components(inside, EVERY)]
    assert kept.area == max(sizes, default=0)
    assert not (kept.full() & ~mask.full()).any()
    assert len(components(kept.full(), EVERY)) == min(len(sizes), 1)
    assert largest_part(kept) is kept


@settings(max_examples=150, deadline=None)
@given(st.lists(arrays(bool, (9, 11)), min_size=1, max_size=5), limits, limits)
def test_selection_is_idempotent_and_its_areas_are_right(
    masks: list[Bools], most: int, smallest: int
) -> None:
    selection = Selection(fill_holes=most, keep_parts="largest", min_area=smallest)
    found = selection.apply(instances_of(masks))
    for index, mask in enumerate(found.masks()):
        assert mask.area >= smallest
        assert len(components(mask.full(), EVERY)) == 1
        assert all(len(hole) > most for hole in holes(mask.full()))
        assert found.boxes[index].tolist() == list(mask.box)
    again = selection.apply(found)
    assert len(again) == len(found)
    assert all(
        np.array_equal(one.full(), two.full())
        for one, two in zip(again.masks(), found.masks(), strict=True)
    )


def scene() -> Detections:
    """A ring with a hole and a speck, a small disc, and a disc that covers the ring."""
    size = (100, 120)
    speck = disc(size, (90, 110), 3)
    return instances_of(
        [
            ring(size, (50, 40), 12) | speck,
            disc(size, (20, 100), 3),
            disc(size, (50, 40), 12),
            disc(size, (70, 90), 9),
        ]
    )


def test_masks_are_cleaned_before_nms_and_before_the_limit() -> None:
    found = scene()
    lines: list[str] = []
    selection = Selection(
        min_area=50, fill_holes=200, keep_parts="largest", nms_iou_threshold=0.9, max_instances=2
    )
    cleaned = selection.apply(found, lambda text, *values: lines.append(text % values))
    # The ring without its hole is the disc, which goes; the small one makes room for the last.
    assert cleaned.scores.tolist() == found.scores[[0, 3]].tolist()
    assert np.array_equal(cleaned.mask(0).full(), found.mask(2).full())
    assert lines == [
        "Cleaned: 1 masks cut to their largest part, holes filled in 1, "
        "1 instances below min_area dropped"
    ]


def test_what_is_not_asked_for_stays() -> None:
    found = scene()
    assert Selection().apply(found) is found
    assert Selection(fill_holes=0).apply(found) is found
    by_area = Selection(min_area=50).apply(found)
    assert by_area.boxes.tolist() == found.boxes[[0, 2, 3]].tolist()
    assert by_area.mask(0).area == found.mask(0).area


@pytest.mark.parametrize(
    ("inputs", "kept"),
    [({}, 2), ({"fill_holes": 9}, 2), ({"min_area": 1}, 4), ({"nms_iou_threshold": 0.5}, 4)],
)
def test_nothing_is_cut_before_masks_that_may_make_room(inputs: dict[str, Any], kept: int) -> None:
    selection = Selection(max_instances=2, **inputs)
    assert len(selection.apply_before_masks(scene())) == kept


def test_an_empty_mask_is_a_mask() -> None:
    empty = instances_of([np.zeros((5, 6), bool)])
    region_of_none = replace(empty.mask(0), inside=np.zeros((0, 0), bool))
    assert largest_part(region_of_none).area == fill_holes(region_of_none, 9).area == 0
    assert len(Selection(keep_parts="largest", fill_holes=3).apply(empty)) == 1
    assert len(Selection(min_area=1).apply(empty)) == 0


def test_zero_switches_off_what_the_model_fills_itself() -> None:
    for given_value, wanted in ((None, True), (0, False), (5, True)):
        task = Request.from_inputs(task="visual", points=[[1, 2]], fill_holes=given_value).task(
            (10, 10)
        )
        assert isinstance(task, Pick)
        assert task.fill_holes is wanted


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"min_area": 0}, "min_area is 0; give a whole number of at least 1"),
        ({"fill_holes": -1}, "fill_holes is -1; give a whole number of at least 0"),
        ({"keep_parts": "biggest"}, "keep_parts is 'biggest'; choose one of all, largest"),
    ],
)
def test_what_is_not_accepted_is_said(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Selection(**inputs)
