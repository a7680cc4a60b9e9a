"""Masks: pixel for pixel those of the reference's upsampling, at a bounded price in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask
from sam3_image.masks.upsampling import Axis, Upsampler, blend


def reference(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """What transformers compares with the threshold: the whole map as full-size floats."""
    maps = torch.from_numpy(values)[None, None]
    full = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return full[0, 0].numpy()


def blobs(cells: tuple[int, int], seed: int, spread: float = 4.0) -> NDArray[np.float32]:
    """Probabilities of a few soft blobs, saturated inside and outside as real maps are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: cells[0], : cells[1]].astype(np.float32)
    logits = np.full(cells, -np.inf, dtype=np.float32)
    for _ in range(3):
        centre = rng.uniform(0, 1, 2) * cells
        radius = rng.uniform(0.02, 0.4) * max(cells)
        distance = np.hypot(y - centre[0], x - centre[1])
        logits = np.maximum(logits, ((radius - distance) * spread).astype(np.float32))
    return torch.from_numpy(logits + rng.normal(0, 0.3, cells).astype(np.float32)).sigmoid().numpy()


def noise(cells: tuple[int, int], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, cells).astype(np.float32)


def steps(cells: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Few distinct values, so that many interpolated pixels fall exactly on a cut."""
    return np.random.default_rng(seed).integers(0, 5, cells).astype(np.float32) / 4


def plateaus(cells: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Exactly 0 and exactly 1, as sigmoid gives beyond ±17 and ±104."""
    return (blobs(cells, seed) > 0.5).astype(np.float32)


MAKERS = [blobs, noise, steps, plateaus]
# Infinite ones are the logits of the probabilities 0 and 1.
CUTS = [0.0, 0.25, 0.3, 0.5, 0.75, 1.0, -1.5, float("-inf"), float("inf")]
SIZES = [
    (768, 1024),  # larger than the map in both directions
    (1500, 130),  # larger and smaller
    (288, 288),  # the map's own size
    (100, 200),  # smaller
    (1, 500),
    (500, 1),
]


def assert_exact(values: NDArray[np.float32], cut: float, size: tuple[int, int]) -> Mask:
    mask = Upsampler.between((values.shape[0], values.shape[1]), size).mask(values, cut)
    full = mask.full()
    assert full.shape == size
    assert full.dtype == bool
    expected = reference(values, size)
    differ = full != (expected > cut)
    if size[0] + size[1] <= 128:
        # For pictures this small torch takes another kernel, which rounds in another order.
        near = np.abs(expected - np.float32(cut)) <= 8 * np.spacing(np.abs(values).max())
        differ &= ~near
    assert not differ.any()
    return mask


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", MAKERS)
def test_equals_interpolating_everything(make, cut, size):
    assert_exact(make((288, 288), seed=1), cut, size)


def test_equals_interpolating_everything_at_twelve_megapixels():
    for seed in range(3):
        assert_exact(blobs((288, 288), seed), 0.5, (3000, 4000))


sides = st.integers(1, 700)
cells = st.integers(1, 60)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(MAKERS),
    st.tuples(cells, cells),
    st.tuples(sides, sides),
    st.sampled_from([0.0, 1.0, 0.5]) | st.floats(-2, 2, width=32),
    st.integers(0, 1000),
)
def test_equals_interpolating_everything_whatever_the_shapes(make, shape, size, cut, seed):
    assert_exact(make(shape, seed), cut, size)


@pytest.mark.parametrize("size", [(768, 1024), (301, 997), (100, 200)], ids=str)
def test_weights_and_rounding_are_torchs_own(size):
    values = noise((288, 288), 2)
    rows, columns = Axis.between(288, size[0]), Axis.between(288, size[1])
    wide = blend(
        values[:, columns.each(columns.low)], values[:, columns.each(columns.high)], columns.weight
    )
    full = blend(wide[rows.each(rows.low)], wide[rows.each(rows.high)], rows.weight[:, None])
    np.testing.assert_array_equal(full, reference(values, size))


@pytest.mark.parametrize("cut", [0.1, 0.3, 0.7, -2.3, 1e-30, 1e30])
@pytest.mark.parametrize("ulps", range(-3, 4))
def test_maps_within_rounding_of_the_cut(cut, ulps):
    cut = float(np.float32(cut))
    values = np.full((288, 288), cut, dtype=np.float32) + ulps * np.spacing(np.float32(cut))
    assert_exact(values, cut, (331, 467))


@pytest.mark.parametrize("value", [0.0, 0.4, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (300, 400)], ids=str)
def test_constant_map_is_all_or_nothing(value, size):
    values = np.full((288, 288), value, dtype=np.float32)
    mask = Upsampler.between((288, 288), size).mask(values, 0.5)
    assert mask.area == (size[0] * size[1] if value > 0.5 else 0)


def test_nothing_above_the_cut_is_an_empty_mask_with_its_size():
    mask = Upsampler.between((288, 288), (90, 70)).mask(np.zeros((288, 288), np.float32), 0.0)
    assert mask.inside.shape == (0, 0)
    assert mask.area == 0
    assert mask.full().shape == (90, 70)
    assert mask.box == (0, 0, 0, 0)


def test_region_holds_the_mask_and_little_else():
    values = np.zeros((288, 288), np.float32)
    values[100:110, 50:70] = 1
    mask = Upsampler.between((288, 288), (2880, 2880)).mask(values, 0.5)
    assert mask.inside.flags.c_contiguous
    assert 100 * 200 <= mask.inside.size <= 120 * 220
    ys, xs = np.nonzero(mask.full())
    assert mask.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert mask.area == len(ys)
    assert mask.full()[mask.window].sum() == mask.area


def test_map_is_left_as_it_was():
    values = blobs((288, 288), 0)
    values.flags.writeable = False
    assert_exact(values.copy(), 0.5, (400, 300))
    Upsampler.between((288, 288), (400, 300)).mask(values, 0.5)


@pytest.mark.parametrize("make", MAKERS)
def test_memory_is_the_region_and_little_more(make):
    size = (3000, 4000)
    values = make((288, 288), 1)
    upsampler = Upsampler.between((288, 288), size)
    tracemalloc.start()
    try:
        mask = upsampler.mask(values, 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Of the floats a band at the map's height and the picture's width at most.
    floats = 4 * 288 * size[1] * 6
    assert peak < mask.inside.size * 1.1 + floats
    assert peak < size[0] * size[1] * 4
