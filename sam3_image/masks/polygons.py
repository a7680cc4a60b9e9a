"""Masks → polygons with holes that give back exactly the mask when they are filled again.

Coordinates lie on pixel *edges*: the image spans 0…width and 0…height, the centre of its first
pixel is (0.5, 0.5). This is COCO's convention and that of GIS tools. OpenCV's `findContours`
gives pixel *centres*, which shrinks every object by half a pixel all around; it is used here on
the mask enlarged twice, where its contours determine the edges exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask

Ring = NDArray[np.float32]  # (n, 2) x, y on pixel edges; closed without repeating the first

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
    """Return the parts of a mask, in no particular order; none for an empty mask.

    Filling the rings by the even-odd rule, a pixel being in when its centre is, gives the mask.
    """
    if not mask.inside.size:
        return []
    twice = cv2.resize(
        mask.inside.view(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST
    )
    contours, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
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
    """Return the outer contour of each part through the centers of its outermost pixels.

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
    """Return the points at which a closed path of horizontal and vertical steps turns."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before = points - np.roll(points, 1, axis=0)
    after = np.roll(points, -1, axis=0) - points
    return points[(before[:, 0] == 0) != (after[:, 0] == 0)]
