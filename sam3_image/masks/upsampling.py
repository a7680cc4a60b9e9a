"""Low-resolution mask maps → full-size binary masks, exact and within bounded memory.

The model gives each instance a small map (288×288 for SAM 3). The reference upsamples all maps
bilinearly to the size of the image as floats and compares with a threshold, which for 200
instances of a 16-megapixel image costs 13 GB. A full-size pixel is a weighted mean of the four
corners of its cell, so cells whose corners lie all above or all below the threshold are known
without arithmetic. Only the rest, the rim of the object, is computed, and rounded as torch does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask

# Full-size values that are computed at one time: few enough to stay in the cache of a core.
CHUNK_VALUES = 1 << 15
# Share of cells that need computing above which computing all is faster than picking them.
DENSE = 0.25


@dataclass(frozen=True)
class Axis:
    """Bilinear weights along one axis, as in torch's `interpolate(align_corners=False)`.

    A cell is the gap between two neighbouring values of the map; every output position lies in
    one cell, and its value there is `blend(values[low], values[high], weight)`.

    low, high: (K,) int64, the two ends of each cell that has any position, in order.
    start: (K + 1,) int64, cell k holds output positions start[k] up to start[k + 1].
    weight: (n,) float32, of `high`, for each output position.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    start: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, cells: int, pixels: int) -> Axis:
        """Weights that stretch `cells` values over `pixels` positions."""
        scale = np.float32(cells) / np.float32(pixels)
        # In float64 the product is exact, so there is one rounding, as in torch's fused
        # multiply-add.
        centre = (np.arange(pixels) + 0.5) * float(scale) - 0.5
        centre32 = np.maximum(centre.astype(np.float32), np.float32(0))
        low = np.minimum(centre32.astype(np.int64), cells - 1)
        start = np.flatnonzero(np.diff(low, prepend=-1))
        return cls(
            low=low[start],
            high=np.minimum(low[start] + 1, cells - 1),
            start=np.append(start, pixels),
            weight=np.clip(centre32 - low.astype(np.float32), 0, 1).astype(np.float32),
        )

    def around(self, used: NDArray[np.bool_]) -> Axis:
        """Return the cells that touch a used value and all between them; `used` is (cells,)."""
        touched = np.flatnonzero(used[self.low] | used[self.high])
        first, stop = (int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0)
        return Axis(
            low=self.low[first:stop],
            high=self.high[first:stop],
            start=self.start[first : stop + 1],
            weight=self.weight,
        )

    @property
    def span(self) -> tuple[int, int]:
        """Range [start, stop) of output positions of all cells."""
        return int(self.start[0]), int(self.start[-1])

    def each(self, per_cell: NDArray[np.int64]) -> NDArray[np.int64]:
        """Spread one number per cell, (K,), to the output positions in `span`."""
        return np.repeat(per_cell, np.diff(self.start))

    def positions(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Output positions of each cell, (len(cells), widest); the last repeats in narrow ones."""
        steps = np.arange(int(np.diff(self.start).max()))
        return np.minimum(self.start[cells, None] + steps, self.start[cells + 1, None] - 1)


@dataclass(frozen=True)
class Upsampler:
    """Turns maps of one shape into masks of one image size; made once per prediction.

    size: (height, width) of the image, in pixels.
    """

    rows: Axis
    columns: Axis
    size: tuple[int, int]

    @classmethod
    def between(cls, cells: tuple[int, int], size: tuple[int, int]) -> Upsampler:
        """For maps of `cells` = (h, w) and an image of `size` = (height, width)."""
        return cls(
            rows=Axis.between(cells[0], size[0]),
            columns=Axis.between(cells[1], size[1]),
            size=size,
        )

    def mask(self, values: NDArray[np.float32], cut: float) -> Mask:
        """Full-size mask of one map.

        values: (h, w) float32, any scale (probabilities or logits).
        cut: a pixel belongs to the mask when its interpolated value is > cut.
        Equals `F.interpolate(values, size, mode="bilinear", align_corners=False) > cut`.
        """
        below, above = _certain(cut)
        possible = values > below
        rows = self.rows.around(np.any(possible, axis=1))
        columns = self.columns.around(np.any(possible, axis=0))
        if not rows.low.size or not columns.low.size:
            return Mask(inside=np.zeros((0, 0), dtype=bool), y=0, x=0, size=self.size)

        some = _corners(possible, rows, columns, np.logical_or)
        every = _corners(values >= above, rows, columns, np.logical_and)
        inside = np.repeat(
            np.repeat(every, np.diff(columns.start), axis=1), np.diff(rows.start), axis=0
        )
        rim = some & ~every
        if rim.mean() > DENSE:
            _fill_all(inside, values, cut, rows, columns)
        else:
            _fill_rim(inside, values, cut, rows, columns, np.argwhere(rim))
        return Mask(inside=inside, y=rows.span[0], x=columns.span[0], size=self.size)


def blend(
    low: NDArray[np.float32], high: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`low · (1 − weight) + high · weight`, float32, rounded as torch's compiled code rounds it.

    That is one rounding of `high · weight` and one of the sum (a fused multiply-add, for which
    float64 is used: it holds the product of two float32 exactly).
    """
    total = np.multiply(low, np.float32(1) - weight, dtype=np.float64)
    total += high * weight
    return total.astype(np.float32)


def _certain(cut: float) -> tuple[np.float32, np.float32]:
    """(below, above): corners all <= below stay <= cut, corners all >= above stay > cut.

    Rounding moves a mean of four equal values by a few units in the last place, no more.
    """
    at = np.float32(cut)
    if np.isinf(at):  # the logit of a probability of 0 or 1
        return at, at
    slack = 16 * np.spacing(np.abs(at)) + np.finfo(np.float32).tiny
    # Zeros blend to exactly zero; without this every saturated pixel would be near a cut of 0.
    below = np.float32(0) if 0 <= at <= slack else at - slack
    return below, at + slack


def _corners(
    flags: NDArray[np.bool_], rows: Axis, columns: Axis, combine: np.ufunc
) -> NDArray[np.bool_]:
    """`combine` over the four corners of each cell: (rows' cells, columns' cells) bool."""
    first = rows.low[0]
    band = flags[first : rows.high[-1] + 1]
    across = combine(band.take(columns.low, axis=1), band.take(columns.high, axis=1))
    return combine(across.take(rows.low - first, axis=0), across.take(rows.high - first, axis=0))


def _fill_rim(
    inside: NDArray[np.bool_],
    values: NDArray[np.float32],
    cut: float,
    rows: Axis,
    columns: Axis,
    cells: NDArray[np.int64],
) -> None:
    """Compute the pixels of `cells` alone: (M, 2) indices into `rows` and `columns`."""
    per_cell = int(np.diff(rows.start).max()) * int(np.diff(columns.start).max())
    step = max(1, CHUNK_VALUES // per_cell)
    flat = inside.reshape(-1)  # one index per pixel is three times faster than a pair
    for first in range(0, len(cells), step):
        r, c = cells[first : first + step].T
        y, x = rows.positions(r), columns.positions(c)
        left, right, across = columns.low[c, None], columns.high[c, None], columns.weight[x]
        top, bottom = rows.low[r, None], rows.high[r, None]
        upper = blend(values[top, left], values[top, right], across)
        lower = blend(values[bottom, left], values[bottom, right], across)
        found = blend(upper[:, None, :], lower[:, None, :], rows.weight[y][:, :, None])
        begin = (y - rows.span[0]) * inside.shape[1]
        flat[begin[:, :, None] + (x - columns.span[0])[:, None, :]] = found > np.float32(cut)


def _fill_all(
    inside: NDArray[np.bool_], values: NDArray[np.float32], cut: float, rows: Axis, columns: Axis
) -> None:
    """Compute every pixel: for maps that are mostly rim, where picking cells costs more."""
    band = values[rows.low[0] : rows.high[-1] + 1]
    low, high = columns.each(columns.low), columns.each(columns.high)
    wide = blend(band[:, low], band[:, high], columns.weight[slice(*columns.span)])
    low, high = rows.each(rows.low) - rows.low[0], rows.each(rows.high) - rows.low[0]
    weight = rows.weight[slice(*rows.span), None]
    step = max(1, CHUNK_VALUES // inside.shape[1])
    for first in range(0, inside.shape[0], step):
        part = slice(first, first + step)
        found = blend(wide[low[part]], wide[high[part]], weight[part])
        np.greater(found, np.float32(cut), out=inside[part])
