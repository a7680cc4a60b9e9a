"""What tiles and the look at the whole picture saw, put together; masks are given."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sam3_image.crops.detection import CropDetection
from sam3_image.crops.merge import groups, merge, unique
from sam3_image.crops.windows import Box
from sam3_image.masks import Mask, PackedMask

SIZE = (400, 600)
TILE = 200  # so that neighbours overlap by 50


def whole(box: tuple[int, int, int, int], score: float, depth: float = math.inf) -> CropDetection:
    """A filled rectangle that one look holds whole, or that a border cuts at a depth."""
    x0, y0, x1, y1 = box
    inside = np.ones((y1 - y0, x1 - x0), dtype=bool)
    around: Box = (float(x0), float(y0), float(x1), float(y1))
    return CropDetection(
        prompt=0,
        concept="red",
        score=score,
        presence=1.0,
        box=around,
        around=around,
        area=inside.size,
        depth=depth,
        consistent=True,
        packed=PackedMask.of(Mask(inside, y0, x0, SIZE)),
    )


LARGE = (100, 100, 280, 280)
HALVES = [(100, 100, 180, 280), (185, 100, 265, 280)]


def merged(parts: list[tuple[int, int, int, int]], score: float, large: float) -> set[Box]:
    """The boxes that remain where tiles saw `parts` with a score and the overview saw LARGE."""
    found = merge([whole(box, score) for box in parts], [whole(LARGE, large)], TILE)
    assert not found.doubtful
    return {one.around for one in found.kept}


def test_halves_that_tiles_took_for_objects_give_way_to_the_object() -> None:
    """A tile cut it and answered with a mask that ends before the border, less surely."""
    assert merged(HALVES, 0.7, 0.95) == {LARGE}


def test_two_objects_that_the_overview_took_for_one_remain_two() -> None:
    """The tiles, which see them more closely, are surer."""
    assert merged(HALVES, 0.95, 0.7) == set(HALVES)


@pytest.mark.parametrize("large", [0.7, 0.99])
def test_a_blur_of_small_objects_is_none(large: float) -> None:
    """What is no longer than the overlap lies whole in a tile, however sure the overview is."""
    small = [(x, y, x + 48, y + 48) for x in (100, 166, 232) for y in (100, 166, 232)]
    assert merged(small, 0.9, large) == set(small)


def test_a_small_part_of_a_large_object_goes() -> None:
    """A tile within the object may take a corner for one."""
    assert merged([(100, 100, 140, 140)], 0.99, 0.9) == {LARGE}


def test_the_same_object_keeps_the_tile_s_mask_and_the_better_score() -> None:
    near = (102, 102, 280, 280)
    (kept,) = merge([whole(near, 0.8)], [whole(LARGE, 0.9)], TILE).kept
    assert (kept.around, kept.score) == (near, 0.9)


SPARSE = [(x, y, x + 60, y + 60) for x in (100, 220) for y in (100, 220)]


@pytest.mark.parametrize("score", [0.7, 0.9])
@pytest.mark.parametrize("large", [0.8, 0.99])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_equal_objects_far_apart_outweigh_a_mask_smeared_over_them(
    count: int, score: float, large: float
) -> None:
    """They cover less than half of it: the gaps between them are smeared over, too."""
    small = [(x, y, x + 40, y + 40) for x, y, _, _ in SPARSE[:count]]
    assert merged(small, score, large) == set(small)


def test_one_whole_object_of_a_higher_score_is_not_removed_for_an_unconfirmed_one() -> None:
    part = (100, 100, 220, 200)
    assert merged([part], 0.95, 0.7) == {part}


def test_pieces_at_the_borders_of_tiles_confirm_a_large_object() -> None:
    """Corners of it look like objects to the tiles that cut it; pieces cover the rest."""
    corners = [whole((x, y, x + 40, y + 40), 0.95) for x, y, _, _ in SPARSE]
    borders = [(100, 100, 200, 280), (150, 100, 280, 280), (100, 100, 280, 200)]
    pieces = [whole(box, 0.9, depth=60.0) for box in borders]
    found = merge([*corners, *pieces], [whole(LARGE, 0.9)], TILE)
    assert {one.around for one in found.kept} == {LARGE}


def test_pieces_of_objects_that_are_whole_elsewhere_confirm_nothing() -> None:
    small = [whole(box, 0.9) for box in SPARSE[:3]]
    pieces = [whole((x0, y0, x1 - 10, y1), 0.9, depth=50.0) for x0, y0, x1, y1 in SPARSE[:3] * 6]
    found = merge([*small, *pieces], [whole(LARGE, 0.99)], TILE)
    assert {one.around for one in found.kept} == set(SPARSE[:3])


def test_corners_of_a_large_object_differ_in_size_and_give_way() -> None:
    """As seen at a purple square: a corner of it, strips of its edge, less sure than the whole."""
    corners = [(100, 100, 165, 180), (145, 100, 260, 130), (100, 190, 112, 270)]
    assert merged(corners, 0.8, 0.99) == {LARGE}


def test_corners_that_cover_next_to_nothing_give_way_even_if_of_equal_size() -> None:
    corners = [(104, 104, 130, 128), (250, 250, 276, 274)]
    assert merged(corners, 0.9, 0.99) == {LARGE}
    assert merged(corners, 0.99, 0.9) == set(corners), "nothing confirms the less sure one"


@pytest.mark.parametrize("consistent", [True, False])
def test_fragments_of_a_mask_give_way_to_the_mask_with_the_same_box(consistent: bool) -> None:
    """However sure they are; in either order, and when none of them fills its box."""
    box = (100.0, 100.0, 160.0, 160.0)
    full = whole((100, 100, 160, 156), 0.6)
    fragments = [whole((104, 104, 130, 130), 0.99), whole((134, 134, 158, 158), 0.95)]
    found = [replace(one, box=box, consistent=consistent) for one in [full, *fragments]]
    for order in (found, found[::-1]):
        (kept,) = unique(order)
        assert kept.around == full.around


def test_two_touching_objects_taken_for_one_are_no_better_mask_of_each() -> None:
    both = whole((100, 100, 220, 160), 0.6)
    each = [whole((100, 100, 160, 160), 0.9), whole((160, 100, 220, 160), 0.9)]
    assert {one.around for one in unique([both, *each])} == {one.around for one in each}


def test_neighbors_whose_masks_share_a_few_pixels_each_get_a_closer_look() -> None:
    cut = [whole((100, 100, 161, 160), 0.9, 60.0), whole((159, 100, 220, 160), 0.8, 60.0)]
    assert [one for one, _ in groups(cut)] == cut
    halves = [whole((100, 100, 200, 160), 0.9, 60.0), whole((160, 100, 260, 160), 0.8, 60.0)]
    ((_, box),) = groups(halves)
    assert box == (100, 100, 260, 160)


def test_two_equal_corners_give_way_where_most_of_what_tiles_saw_is_cut() -> None:
    """As seen at a green square: strips along its edges reach over the borders of tiles."""
    corners = [whole((100, 100, 150, 130), 1.0), whole((230, 100, 280, 130), 0.9)]
    strips = [(100, 240, 200, 280), (160, 240, 280, 280), (250, 140, 280, 280)]
    pieces = [whole(box, 1.0, depth=45.0) for box in strips]
    assert {one.around for one in merge(corners, [whole(LARGE, 0.99)], TILE).kept} != {LARGE}
    found = merge([*corners, *pieces], [whole(LARGE, 0.99)], TILE)
    assert {one.around for one in found.kept} == {LARGE}


def test_a_mask_that_contradicts_its_box_gets_a_closer_look() -> None:
    """A tile cut most of an object and answered with a speck of it that ends before the border."""
    speck = replace(whole((100, 100, 120, 190), 0.9), box=(100.0, 100.0, 160.0, 190.0))
    speck = replace(speck, consistent=False)
    other = whole((300, 100, 390, 190), 0.8)
    found = merge([speck, other], [], TILE)
    assert (found.kept, found.doubtful) == ([other], [speck])
    covering = whole((90, 100, 180, 190), 0.7)
    found = merge([speck, covering], [], TILE)
    assert (found.kept, found.doubtful) == ([covering], [])
