"""Boxes, outlines, concepts and scores drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.colors import Color
from sam3_image.instances import Instances
from sam3_image.masks import Mask


def outlines(mask: Mask) -> tuple[NDArray[np.int32], ...]:
    """Outlines of a mask, each (n, 1, 2) int32 x, y of boundary pixels in the whole image."""
    if not mask.inside.size:
        return ()
    found, _ = cv2.findContours(
        mask.inside.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.x, mask.y)
    )
    return tuple(np.asarray(ring, dtype=np.int32) for ring in found)


def draw_labels(
    picture: NDArray[np.uint8],
    instances: Instances,
    rings: Sequence[Sequence[NDArray[np.int32]]],
    colors: Sequence[Color],
) -> None:
    """Draws on `picture` (H, W, 3) uint8 RGB, in place."""
    for index in reversed(range(len(instances))):
        cv2.drawContours(picture, list(rings[index]), -1, colors[index], 1, cv2.LINE_AA)
