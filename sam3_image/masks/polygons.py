"""Masks → polygons with holes that give back exactly the mask when they are filled again.

Coordinates lie on pixel *edges*: the image spans 0…width and 0…height, the centre of its first
pixel is (0.5, 0.5). This is COCO's convention and that of GIS tools. OpenCV's `findContours`
gives pixel *centres*, which shrinks every object by half a pixel all around; it is used here on
the mask enlarged twice, where its contours determine the edges exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask

Ring = NDArray[np.floating[Any]]  # (n, 2) x, y; closed without repeating the first

# Rings cut each corner of the pixel staircase half a pixel before it, so they pass every pixel
# centre at √2/4 = 0.354 pixels or more. Simplifying by less cannot move one to the other side.
TOLERANCE = 0.35


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
    return [_coordinates(path, one, inset) for one in mask.blocks() for path in _paths(one)]


def joined(rings: Sequence[Ring]) -> Ring:
    """At least one ring as one: it goes from each to another near it and back the same way."""
    contours = [_Contour(ring) for ring in sorted(rings, key=lambda ring: float(ring[:, 0].min()))]
    before = contours[0].points
    owners = np.zeros(len(before), dtype=np.int64)
    firsts = [0]  # of each ring in `before`
    for number, contour in enumerate(contours[1:], start=1):
        start = near = 0
        for _ in range(3):  # from one to the other and back: two points that are near each other
            near = _nearest(before, contour.points[start])
            start = _nearest(contour.points, before[near])
        contour.start = start
        owner = int(owners[near])
        contours[owner].branches.append((near - firsts[owner], contour))
        firsts.append(len(before))
        before = np.concatenate((before, contour.points))
        owners = np.concatenate((owners, np.full(len(contour.points), number)))
    return _straight(_unrolled(contours[0]))


def _nearest(points: Ring, to: NDArray[np.float64]) -> int:
    return int(np.argmin(np.square(points - to).sum(axis=1)))


@dataclass
class _Contour:
    """A closed path, and the paths that branch off from it.

    points: (n, 2). start: the point at which one comes to it and leaves it.
    branches: a point of this path, and the path that is reached from there.
    """

    points: NDArray[Any]
    start: int = 0
    branches: list[tuple[int, _Contour]] = field(default_factory=list)

    def pieces(self) -> Iterator[NDArray[Any] | _Contour]:
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


def _unrolled(contour: _Contour) -> NDArray[Any]:
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


def _paths(mask: Mask) -> Iterator[NDArray[np.int32]]:
    """For each part a closed path around it and its holes, in pixels of the mask enlarged twice."""
    twice = _twice(mask)
    contours, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes: dict[int, list[_Contour]] = {}
    for contour, parent in zip(contours, tree[0, :, 3].tolist(), strict=True):
        if parent >= 0:
            points = contour[:, 0]
            holes.setdefault(parent, []).append(_Contour(points, int(np.argmin(points[:, 0]))))
    for index, contour in enumerate(contours):
        if tree[0, index, 3] < 0:
            outer = _Contour(contour[:, 0])
            if index in holes:
                _reach(outer, holes[index], twice)
            yield _unrolled(outer)


def _twice(mask: Mask) -> NDArray[Any]:
    """The mask enlarged twice, uint8."""
    return np.asarray(
        cv2.resize(mask.inside.view(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    )


def _reach(outer: _Contour, holes: list[_Contour], inside: NDArray[Any]) -> None:
    """Let each hole branch off from what lies left of its leftmost point, in the same row."""
    holes.sort(key=lambda hole: int(hole.points[hole.start, 0]))
    # The leftmost path through a pixel is one that is reached without this hole.
    through: dict[tuple[int, int], tuple[_Contour, int]] = {}
    for contour in (outer, *holes):
        for at, (x, y) in enumerate(contour.points.tolist()):
            through.setdefault((x, y), (contour, at))
    for hole in holes:
        x, y = hole.points[hole.start].tolist()
        background = np.flatnonzero(inside[y, :x] == 0)
        contour, at = through[(int(background[-1]) + 1 if background.size else 0, y)]
        contour.branches.append((at, hole))


def _coordinates(path: NDArray[np.int32], mask: Mask, inset: float) -> Ring:
    """A path through pixels of the mask enlarged twice, as a ring in the image."""
    # Pixels 2i and 2i + 1 of the enlarged mask are the first and last of pixel i.
    ring = (path >> 1) + np.where(path & 1, 1 - inset, inset)
    return _straight(ring + np.array([mask.x, mask.y]))


def _straight(path: Ring) -> Ring:
    """A closed path without points that repeat, and without those on a straight line."""
    path = path[np.any(path != np.roll(path, 1, axis=0), axis=1)]
    after = np.sign(np.roll(path, -1, axis=0) - path)
    return path[np.any(after != np.roll(after, 1, axis=0), axis=1)]


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
