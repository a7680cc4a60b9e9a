"""Masks → polygons with holes that give back exactly the mask when they are filled again.

Coordinates lie on pixel *edges*: the image spans 0…width and 0…height, the centre of its first
pixel is (0.5, 0.5). This is COCO's convention and that of GIS tools. OpenCV's `findContours`
gives pixel *centres*, which shrinks every object by half a pixel all around; it is used here on
the mask enlarged twice, where its contours determine the edges exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask

Ring = NDArray[np.floating[Any]]  # (n, 2) x, y; closed without repeating the first
Points = NDArray[np.int32]  # (n, 2) x, y of pixels

# Rings cut each corner of the pixel staircase half a pixel before it, so they pass every pixel
# centre at √2/4 = 0.354 pixels or more. Simplifying by less cannot move one to the other side.
TOLERANCE = 0.35
# The way from one part to another is looked for to so many parts around it, from so many points,
# and from one alone of a contour with fewer points than that.
NEIGHBORS, STARTS, SMALL = 8, 8, 8


@dataclass(frozen=True)
class Part:
    """One connected part of a mask (pixels that touch at a corner are connected).

    outer: its outline. holes: the outlines of the background enclosed in it.
    """

    outer: Ring
    holes: tuple[Ring, ...]


def trace(mask: Mask) -> list[Part]:
    """The parts of a mask, in no particular order; none for an empty mask.

    Filling the rings by the even-odd rule, a pixel being in when its centre is, gives the mask.
    """
    return [part for block in mask.blocks() for part in _parts(block)]


def _parts(mask: Mask) -> list[Part]:
    contours, tree = cv2.findContours(_twice(mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for index, (contour, parent) in enumerate(zip(contours, tree[0, :, 3].tolist(), strict=True)):
        ring = _ring(np.asarray(contour[:, 0], dtype=np.int32), mask)
        if parent < 0:
            outer[index] = ring
        else:
            holes.setdefault(parent, []).append(ring)
    return [Part(ring, tuple(holes.get(index, ()))) for index, ring in outer.items()]


def outlines(mask: Mask) -> list[NDArray[np.int32]]:
    """The outer contour of each part through the centers of its outermost pixels.

    Each is (n, 2) int32 x, y; n is 1 for a single pixel and 2 for a line. Drawn with OpenCV's
    `fillPoly`, which fills the contour's own pixels too, they give the mask with its holes filled.
    Clients that draw polygons themselves mostly do it like that; `trace` is exact for all others.
    """
    if not mask.inside.size:
        return []
    contours, _ = cv2.findContours(
        mask.inside.view(np.uint8),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(mask.x, mask.y),
    )
    return [np.asarray(contour[:, 0], dtype=np.int32) for contour in contours]


def bridged(mask: Mask, inset: float) -> list[Ring]:
    """One ring for each connected part of a mask, in no particular order; none for an empty mask.

    inset: pixels, 0 to 0.5, by which the ring keeps inside the edges of the part's pixels.

    Each ring is (n, 2) float64 x, y with n at least 4. Where the part has holes, the ring goes to
    each of them along a row of the part's pixels, around it, and back the same way. Filled by the
    even-odd rule it gives the part, and with an inset above 0 its points cut to whole numbers are
    the part's outermost pixels: OpenCV's `fillPoly` and Pillow's `polygon`, which fill the
    outline's own pixels too, then give the part as well.
    """
    paths = (path + _offset(one) for one in mask.blocks() for path in _paths(one, False))
    return [_coordinates(path, inset) for path in paths]


def joined(mask: Mask, inset: float) -> Ring | None:
    """The rings of `bridged` as one; None for an empty mask.

    It goes from each part to another part near it, straight from pixel to pixel, and back the same
    way. OpenCV's `fillPoly` draws every edge of what it fills: the pixels between two parts are
    those of one line, of which there are as few as the parts are apart.
    """
    paths: list[Points] = []
    for every in (False, True):  # each pixel is needed where there are parts to connect
        paths = [path + _offset(one) for one in mask.blocks() for path in _paths(one, every)]
        if len(paths) < 2:
            return _coordinates(paths[0], inset) if paths else None
    parts = [_Contour(path) for path in sorted(paths, key=lambda path: int(path[:, 0].min()))]
    pixels = [part.points >> 1 for part in parts]
    low, high = (np.array([f(one, axis=0) for one in pixels]) for f in (np.min, np.max))
    for index, part in enumerate(parts[1:], start=1):
        # Those whose boxes are nearest; all others would take a square of the number of parts.
        gaps = np.maximum(low[:index] - high[index], low[index] - high[:index]).max(axis=1)
        others = np.argpartition(gaps, NEIGHBORS)[:NEIGHBORS] if index > NEIGHBORS else range(index)
        near = [(*_closest(pixels[other], pixels[index]), other) for other in others]
        _, at, part.start, other = min(near)
        parts[other].branches.append((at, part))
    return _coordinates(_unrolled(parts[0]), inset)


def _closest(first: Points, second: Points) -> tuple[int, int, int]:
    """(distance, a point of the first, of the second) near each other; mostly none are nearer."""
    best = (np.iinfo(int).max, 0, 0)
    # From one path to the other and back until that comes no nearer, from points all around.
    for start in range(0, len(second), max(SMALL, -(-len(second) // STARTS))):
        here, length = start, np.iinfo(int).max
        while True:
            there, _ = _nearest(first, second[here])
            here, distance = _nearest(second, first[there])
            if distance >= length:
                break
            length = distance
            best = min(best, (length, there, here))
    return best


def _nearest(points: Points, to: Points) -> tuple[int, int]:
    """The point from which a line to another has the fewest pixels, and how many."""
    x, y = np.abs(points - to).T
    distances = np.maximum(x, y)
    nearest = int(distances.argmin())
    return nearest, int(distances[nearest])


@dataclass
class _Contour:
    """A closed path, and the paths that branch off from it.

    points: (n, 2). start: the point at which one comes to it and leaves it.
    branches: a point of this path, and the path that is reached from there.
    """

    points: Points
    start: int = 0
    branches: list[tuple[int, _Contour]] = field(default_factory=list)

    def pieces(self) -> Iterator[Points | _Contour]:
        """The path once around from its start to its start, with the branches where they begin."""
        count, done = len(self.points), 0
        turned = np.concatenate((self.points[self.start :], self.points[: self.start + 1]))
        for at, branch in sorted(
            (((at - self.start) % count, branch) for at, branch in self.branches),
            key=lambda item: item[0],
        ):
            yield turned[done : at + 1]
            yield branch
            done = at
        yield turned[done:]


def _unrolled(contour: _Contour) -> Points:
    """A path with everything that branches off, as one path whose last point is its first."""
    found, stack = [], [contour.pieces()]
    while stack:
        piece = next(stack[-1], None)
        if piece is None:
            stack.pop()
        elif isinstance(piece, _Contour):
            stack.append(piece.pieces())
        else:
            found.append(piece)
    return np.concatenate(found)


def _paths(mask: Mask, every: bool) -> Iterator[Points]:
    """For each part a closed path around it and its holes, in pixels of the mask enlarged twice.

    every: with each pixel on the way, not only those where the path turns.
    """
    twice = _twice(mask)
    found, tree = cv2.findContours(
        twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE if every else cv2.CHAIN_APPROX_SIMPLE
    )
    parents = tree[0, :, 3].tolist()
    if not every and max(parents) >= 0:  # a way to a hole begins anywhere on a contour
        yield from _paths(mask, True)
        return
    contours = [_with_corners(np.asarray(one[:, 0], dtype=np.int32), twice) for one in found]
    holes: dict[int, list[_Contour]] = {}
    for points, parent in zip(contours, parents, strict=True):
        if parent >= 0:
            holes.setdefault(parent, []).append(_Contour(points, int(points[:, 0].argmin())))
    for index, (points, parent) in enumerate(zip(contours, parents, strict=True)):
        if parent < 0:
            outer = _Contour(points)
            if index in holes:
                _reach(outer, holes[index], twice)
            yield _unrolled(outer)


def _with_corners(path: Points, inside: NDArray[np.uint8]) -> Points:
    """A contour that goes through the corners that OpenCV cuts, where they are in the mask.

    The points before and after a corner then lie on straight lines: two fewer for one more.
    """
    x, y = np.diff(path.T, append=path.T[:, :1])
    cuts = np.flatnonzero((np.abs(x) == 1) & (np.abs(y) == 1))
    before, after = path[cuts], path[(cuts + 1) % len(path)]
    across = np.stack((after[:, 0], before[:, 1]), axis=1)
    down = np.stack((before[:, 0], after[:, 1]), axis=1)
    corners = np.where(inside[across[:, 1], across[:, 0], None] != 0, across, down)
    inner = inside[corners[:, 1], corners[:, 0]] != 0
    return np.insert(path, cuts[inner] + 1, corners[inner], axis=0)


def _twice(mask: Mask) -> NDArray[np.uint8]:
    """The mask enlarged twice."""
    # Two equal bytes are a multiple of 257: many times faster than OpenCV's resize.
    wide = mask.inside.astype(np.uint16) * np.uint16(257)
    return np.repeat(wide.view(np.uint8), 2, axis=0)


def _reach(outer: _Contour, holes: list[_Contour], inside: NDArray[np.uint8]) -> None:
    """Let each hole branch off from what lies left of its leftmost point, in the same row."""
    holes.sort(key=lambda hole: int(hole.points[hole.start, 0]))
    # The leftmost path through a pixel is one that is reached without this hole.
    contours = (outer, *holes)
    firsts = np.cumsum([0, *(len(contour.points) for contour in contours)])
    points = np.concatenate([contour.points for contour in contours]).astype(np.int64)
    width = inside.shape[1]
    pixels, indices = np.unique(points[:, 1] * width + points[:, 0], return_index=True)
    for hole in holes:
        x, y = hole.points[hole.start].tolist()
        # False comes first where there is one: the background next to the run that ends here.
        run = int(inside[y, x::-1].view(bool).argmin()) or x + 1
        index = int(indices[np.searchsorted(pixels, y * width + x - run + 1)])
        owner = int(np.searchsorted(firsts, index, side="right")) - 1
        contours[owner].branches.append((index - int(firsts[owner]), hole))


def _offset(mask: Mask) -> Points:
    """Where the enlarged mask lies in the image, which is enlarged twice as well."""
    return np.array([2 * mask.x, 2 * mask.y], dtype=np.int32)


def _coordinates(path: Points, inset: float) -> Ring:
    """A path through pixels of the image enlarged twice, as a ring in the image."""
    # Pixels 2i and 2i + 1 of the enlarged image are the first and last of pixel i: they stand for
    # edges i and i + 1.
    if inset == 0:  # where the path cuts a corner, its pixels have an edge in common
        return _straight((path + 1) >> 1).astype(np.float64)
    path = _straight(path)
    return np.asarray(((path + 1) >> 1) + np.where(path & 1, -inset, inset))


def _straight(path: Points) -> Points:
    """A closed path without points that repeat, and without those on a straight line."""
    # Column by column: NumPy is slow along axes of two.
    x, y = np.diff(path.T, append=path.T[:, :1])
    moved = (x != 0) | (y != 0)
    path, x, y = path[moved], x[moved], y[moved]
    before_x, before_y = np.roll(x, 1), np.roll(y, 1)
    turned = (x * before_y != y * before_x) | (x * before_x + y * before_y < 0)
    return path[turned]


def _ring(contour: NDArray[np.int32], mask: Mask) -> Ring:
    """One contour of the mask enlarged twice, as a ring in the image."""
    # Pixels 2i and 2i + 1 of the enlarged mask are the first and last of pixel i, and the
    # contour runs through the outermost ones of the object: they stand for edges i and i + 1.
    corners = _bends((contour + 1) >> 1)
    following = np.roll(corners, -1, axis=0)
    half = np.sign(following - corners) / 2
    points = np.empty((2 * len(corners), 1, 2), dtype=np.float32)
    points[0::2, 0], points[1::2, 0] = corners + half, following - half
    simple = cv2.approxPolyDP(points, TOLERANCE, closed=True)[:, 0]
    return np.asarray(simple + np.array([mask.x, mask.y]), dtype=np.float32)


def _bends(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """The points at which a closed path of horizontal and vertical steps turns."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before = points - np.roll(points, 1, axis=0)
    after = np.roll(points, -1, axis=0) - points
    return points[(before[:, 0] == 0) != (after[:, 0] == 0)]
