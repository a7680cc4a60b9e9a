"""The forms in which other programs take masks: what they decode is the mask, pixel for pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam3_image.masks import Mask, polygons, rle
from sam3_image.web.clients import brush
from tests.helpers.drawn_instances import Bools, disc, instances_of, many_masks, ring

SIZES = [(60, 80), (97, 61), (1, 40), (40, 1), (1, 1)]


def masks_of(size: tuple[int, int]) -> list[Mask]:
    """The shapes that break encoders, as regions; noise where the image is small."""
    if min(size) >= 40:
        return list(instances_of(many_masks(80, size, seed=size[0])).masks())
    rng = np.random.default_rng(size[0])
    full = [np.zeros(size, bool), np.ones(size, bool), *(rng.random((6, *size)) > 0.5)]
    return list(instances_of(full).masks())


def without_holes(mask: Bools) -> Bools:
    """The mask with everything filled that background of the image's rim cannot reach."""
    around = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    cv2.floodFill(around, None, (0, 0), 2)
    return around[1:-1, 1:-1] != 2


def read_brush(data: list[int]) -> np.ndarray:
    """Label Studio's run lengths → values, written from their description; see `brush`."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    assert len(values) == total
    assert len(bits) - place < 8  # nothing but the padding of the last byte
    return np.array(values, dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_the_brush_holds_the_mask_in_all_four_channels(size: tuple[int, int]) -> None:
    for mask in masks_of(size):
        pixels = read_brush(brush.encode(mask)).reshape(*size, 4)
        assert set(np.unique(pixels)) <= {0, 255}
        for channel in range(4):
            assert np.array_equal(pixels[:, :, channel] == 255, mask.full())


def test_the_brush_of_a_large_image_needs_runs_of_several_records() -> None:
    full = np.zeros((600, 500), dtype=bool)
    full[300:] = True
    mask = next(instances_of([full]).masks())
    data = brush.encode(mask)
    assert len(data) < 200
    assert np.array_equal(read_brush(data)[3::4].reshape(600, 500) == 255, full)


@pytest.mark.parametrize("size", SIZES)
def test_row_lengths_begin_with_zeros_and_give_the_mask(size: tuple[int, int]) -> None:
    for mask in masks_of(size):
        runs = rle.row_lengths(mask)
        values = np.arange(len(runs)) % 2 == 1
        assert np.array_equal(np.repeat(values, runs).reshape(size), mask.full())
        assert (runs[1:] > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_outlines_filled_by_opencv_are_the_mask_without_its_holes(size: tuple[int, int]) -> None:
    for mask in masks_of(size):
        canvas = np.zeros(size, dtype=np.uint8)
        for outline in polygons.outlines(mask):
            assert outline.dtype == np.int32
            assert outline.shape[1:] == (2,)
            cv2.fillPoly(canvas, [outline], 1)
        assert np.array_equal(canvas == 1, without_holes(mask.full()))


def test_a_ring_loses_its_hole_and_two_parts_stay_two() -> None:
    both = ring((80, 120), (40, 35), 30) | disc((80, 120), (40, 100), 12)
    mask = next(instances_of([both]).masks())
    assert len(polygons.outlines(mask)) == 2
    canvas = np.zeros((80, 120), dtype=np.uint8)
    cv2.fillPoly(canvas, polygons.outlines(mask), 1)
    assert canvas[40, 35] == 1
    assert not both[40, 35]
