"""Low-resolution mask maps → full-size binary masks, exact and within bounded memory.

The model gives each instance a small map (288×288 for SAM 3). The reference upsamples all maps
bilinearly to the size of the image as floats and compares with a threshold, which for 200
instances of a 16-megapixel image costs 13 GB. A full-size pixel is a weighted mean of four
neighbouring cells, so it can only exceed the threshold where one of the four does. Only that
region is computed here, one instance at a time, in float32 like the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Full-size float32 values that exist at one time while a mask is made (4 MiB).
CHUNK_VALUES = 1 << 20


@dataclass(frozen=True)
class Mask:
    """The binary mask of one instance, stored as the smallest region that can hold it.

    inside: (h, w) bool, C-contiguous; True is the object. May be (0, 0) for an empty mask.
    y, x: row and column of `inside[0, 0]` in the image.
    size: (height, width) of the whole image, in pixels. Outside the region all is False.
    """

    inside: NDArray[np.bool_]
    y: int
    x: int
    size: tuple[int, int]

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(np.count_nonzero(self.inside))

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the region in an array of the whole image: `picture[mask.window]`."""
        height, width = self.inside.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """xyxy in pixels, tightly around the mask (x1, y1 exclusive); zeros for an empty mask."""
        rows = np.flatnonzero(self.inside.any(axis=1))
        columns = np.flatnonzero(self.inside.any(axis=0))
        if not rows.size:
            return 0, 0, 0, 0
        x0, y0 = self.x + int(columns[0]), self.y + int(rows[0])
        return x0, y0, self.x + int(columns[-1]) + 1, self.y + int(rows[-1]) + 1

    def full(self) -> NDArray[np.bool_]:
        """The mask at the size of the image: (height, width) bool."""
        canvas = np.zeros(self.size, dtype=bool)
        canvas[self.window] = self.inside
        return canvas


@dataclass(frozen=True)
class Axis:
    """Bilinear weights along one axis, as in torch's `interpolate(align_corners=False)`.

    Output position i is `values[low[i]] * (1 - weight[i]) + values[high[i]] * weight[i]`.
    All (n,) for an output of n positions: `low`, `high` int64, `weight` float32.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, cells: int, pixels: int) -> Axis:
        """Weights that stretch `cells` values over `pixels` positions (float32, as torch)."""
        scale = np.float32(cells) / np.float32(pixels)
        centre = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
        centre = np.maximum(centre, np.float32(0))
        low = np.minimum(centre.astype(np.int64), cells - 1)
        high = np.minimum(low + 1, cells - 1)
        weight = np.clip(centre - low.astype(np.float32), 0, 1).astype(np.float32)
        return cls(low=low, high=high, weight=weight)

    def reach(self, used: NDArray[np.bool_]) -> tuple[int, int]:
        """Range [start, stop) of output positions that touch a used cell; `used` is (cells,)."""
        touched = np.flatnonzero(used[self.low] | used[self.high])
        return (int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0)

    def part(self, start: int, stop: int) -> Axis:
        """The same weights for output positions [start, stop) only."""
        span = slice(start, stop)
        return Axis(low=self.low[span], high=self.high[span], weight=self.weight[span])


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
        above = values > cut
        top, bottom = self.rows.reach(above.any(axis=1))
        left, right = self.columns.reach(above.any(axis=0))
        inside = np.zeros((bottom - top, right - left), dtype=bool)
        if inside.size:
            self._fill(inside, values, cut, self.rows.part(top, bottom), (left, right))
        return Mask(inside=inside, y=top, x=left, size=self.size)

    def _fill(
        self,
        inside: NDArray[np.bool_],
        values: NDArray[np.float32],
        cut: float,
        rows: Axis,
        span: tuple[int, int],
    ) -> None:
        columns = self.columns.part(*span)
        # Columns first, at low resolution in y: cheap, and then each output row is one blend.
        first, last = int(rows.low[0]), int(rows.high[-1]) + 1
        band = values[first:last]
        wide = band[:, columns.low] * (1 - columns.weight) + band[:, columns.high] * columns.weight
        step = max(1, CHUNK_VALUES // inside.shape[1])
        threshold = np.float32(cut)
        for start in range(0, inside.shape[0], step):
            part = rows.part(start, start + step)
            weight = part.weight[:, None]
            blend = wide[part.low - first] * (1 - weight)
            blend += wide[part.high - first] * weight
            np.greater(blend, threshold, out=inside[start : start + step])
