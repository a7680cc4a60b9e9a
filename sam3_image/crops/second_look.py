"""A closer look at each instance, for finer edges than the grid of the first look gives.

The object is picked again, by the box and the middle of its first mask, in a crop in which it takes
about half the side. On the demo checkpoint this gave better masks than asking for the concept
again, or for the box alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.looks import Eye, Question
from sam3_image.crops.windows import Box, Window, around
from sam3_image.masks import Detections, Mask, Packed, Regions
from sam3_image.model import Pick, Point, Target

SHARE = 0.5  # of the crop's side that the longer side of the object takes
# A crop must show the object so many times larger than the whole picture does, or it gains nothing.
GAIN = 1.25
# IoU of the first and the second mask from which they agree; else the first remains.
AGREE = 0.6


def refine(eye: Eye, pixels: NDArray[np.uint8], found: Detections) -> Detections:
    """Return the same instances with finer masks, and boxes tightly around those replaced.

    pixels: (H, W, 3) uint8 RGB, the picture in which they were found. Scores and order stay those
    of the first look, and so do masks that are empty, large, or that the second look does not
    confirm.
    """
    packed = [Packed.of(mask) for mask in found.masks()]
    boxes = found.boxes.copy()
    for question, answer in eye.look(_questions(pixels, packed)):
        (index,) = question.prompts
        first, second = packed[index].mask(), moved(answer.mask(0), question.window, found.size)
        if first.iou(second) >= AGREE:
            packed[index] = Packed.of(second)
            boxes[index] = second.box
    return replace(found, source=Regions(tuple(packed)), boxes=boxes)


def moved(mask: Mask, window: Window, size: tuple[int, int]) -> Mask:
    """Return the mask of a window as one of the whole picture, of `size` = (height, width)."""
    return Mask(mask.inside, mask.y + window.y0, mask.x + window.x0, size)


def _questions(pixels: NDArray[np.uint8], packed: Sequence[Packed]) -> Iterator[Question]:
    size = pixels.shape[0], pixels.shape[1]
    for index, one in enumerate(packed):
        mask = one.mask()
        x0, y0, x1, y1 = mask.box
        window = around((x0, y0, x1, y1), max(x1 - x0, y1 - y0) / SHARE, size)
        gain = (
            max(whole / part for whole, part in zip(size, window.size, strict=True))
            if mask.area
            else 0.0
        )
        if gain < GAIN:
            continue
        x, y = _middle(mask)
        box: Box = (x0 - window.x0, y0 - window.y0, x1 - window.x0, y1 - window.y0)
        target = Target(points=((x - window.x0, y - window.y0),), labels=(1,), box=box)
        yield Question(window.of(pixels), Pick((target,), multimask=False), window, (index,))


def _middle(mask: Mask) -> Point:
    """Return the (x, y) pixel of a mask that is farthest from its edge."""
    distance = cv2.distanceTransform(np.pad(mask.inside, 1).view(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) - 1 + mask.x, float(y) - 1 + mask.y
