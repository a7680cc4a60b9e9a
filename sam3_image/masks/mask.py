"""The binary mask of one instance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
        """Index of the region in an array of the whole image: `image[mask.window]`."""
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

    def tight(self) -> Mask:
        """The same mask, stored as the smallest region that holds its pixels."""
        x0, y0, x1, y1 = self.box
        if (y1 - y0, x1 - x0) == self.inside.shape:
            return self
        inside = self.inside[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]
        return Mask(np.ascontiguousarray(inside), y0, x0, self.size)

    def blocks(self) -> Iterator[Mask]:
        """The mask in regions that no connected part and no hole reaches across; none if empty.

        A speck far from the object makes the region large; its blocks stay small.
        """
        rows = np.flatnonzero(self.inside.any(axis=1))
        for band in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if rows.size else ():
            top, bottom = int(band[0]), int(band[-1]) + 1
            columns = np.flatnonzero(self.inside[top:bottom].any(axis=0))
            left, right = int(columns[0]), int(columns[-1]) + 1
            inside = np.ascontiguousarray(self.inside[top:bottom, left:right])
            yield Mask(inside, self.y + top, self.x + left, self.size)

    def shared(self, other: Mask) -> int:
        """Return how many pixels are in both masks of one image."""
        y0, x0 = max(self.y, other.y), max(self.x, other.x)
        y1 = min(mask.y + mask.inside.shape[0] for mask in (self, other))
        x1 = min(mask.x + mask.inside.shape[1] for mask in (self, other))
        if y1 <= y0 or x1 <= x0:
            return 0
        mine = self.inside[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]
        theirs = other.inside[y0 - other.y : y1 - other.y, x0 - other.x : x1 - other.x]
        return int(np.count_nonzero(mine & theirs))

    def iou(self, other: Mask) -> float:
        """Return the intersection over union with another mask; 0 where both are empty."""
        shared = self.shared(other)
        return shared / (self.area + other.area - shared) if shared else 0.0

    def full(self) -> NDArray[np.bool_]:
        """Return the mask at the size of the image: (height, width) bool."""
        canvas = np.zeros(self.size, dtype=bool)
        canvas[self.window] = self.inside
        return canvas
