"""Which parts of an image to look at: a grid of tiles, and squares around what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAP = 4  # neighbouring tiles share one part in four of their side
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Window:
    """A part of an image: columns x0 up to x1, rows y0 up to y1, in whole pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the window's pixels of an image (H, W, 3): a view."""
        return pixels[self.y0 : self.y1, self.x0 : self.x1]

    def holds(self, box: Box) -> bool:
        """Whether a box (xyxy in pixels of the image) lies in it entirely."""
        return self.x0 <= box[0] and self.y0 <= box[1] and box[2] <= self.x1 and box[3] <= self.y1

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Window:
        """Return all of an image of `size` = (height, width)."""
        return cls(0, 0, size[1], size[0])


def grid(size: tuple[int, int], tile_size: int) -> list[Window]:
    """Return square tiles that cover an image, row by row.

    size: (height, width) in pixels. Neighbours overlap by a quarter of `tile_size` or, as the
    tiles are spread evenly, a little more. Along a side that is shorter, a tile is that side.
    """
    rows, columns = (_starts(length, tile_size) for length in size)
    height, width = (min(length, tile_size) for length in size)
    return [Window(x, y, x + width, y + height) for y in rows for x in columns]


def count(size: tuple[int, int], tile_size: int) -> int:
    """Return how many tiles `grid` gives."""
    return math.prod(len(_starts(length, tile_size)) for length in size)


def around(box: Box, side: float, size: tuple[int, int]) -> Window:
    """Return the square of about `side` pixels around a box's middle, moved into the image.

    box: xyxy in pixels. size: (height, width) of the image; the window is cut to it where the
    image is smaller than the square.
    """
    x0, x1 = _span((box[0] + box[2]) / 2, side, size[1])
    y0, y1 = _span((box[1] + box[3]) / 2, side, size[0])
    return Window(x0, y0, x1, y1)


def _starts(length: int, tile: int) -> list[int]:
    if length <= tile:
        return [0]
    steps = math.ceil((length - tile) / (tile - tile // OVERLAP))
    return [round(index * (length - tile) / steps) for index in range(steps + 1)]


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    wide = min(math.ceil(side), length)
    start = min(max(round(middle - wide / 2), 0), length - wide)
    return start, start + wide
