"""A closer look at each instance, for finer edges than the grid of the first look gives.

The object is picked again, by the box and the middle of its first mask, in a crop in which it takes
about half the side, and once more in the mirror image of that crop; the mean of the two is its new
mask. What the model gets wrong at an edge in one of them it seldom gets wrong in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.runner import CropRunner, Question
from sam3_image.crops.windows import around
from sam3_image.masks import Detections, LowResMasks, Mask, PackedMask, PackedMasks
from sam3_image.model import Pick, Point, Target

SHARE = 0.5  # of the crop's side that the longer side of the object takes
# A crop must show the object so many times larger than the whole picture does, or it gains nothing.
GAIN = 1.25
# IoU of the first and the second mask from which they agree; else the first remains.
AGREE = 0.6


def refine(runner: CropRunner, pixels: NDArray[np.uint8], found: Detections) -> Detections:
    """Return the same instances with finer masks, and boxes tightly around those replaced.

    pixels: (H, W, 3) uint8 RGB, the picture in which they were found. Scores and order stay those
    of the first look, and so do masks that are empty, large, or that the second look does not
    confirm.
    """
    packed = [PackedMask.of(mask) for mask in found.masks()]
    boxes = found.boxes.copy()
    answers = runner.look(_questions(pixels, packed))
    for (question, plain), (_, mirrored) in zip(answers, answers, strict=True):
        (index,) = question.prompts
        local = _mean(plain, mirrored)
        window = question.window
        second = Mask(local.inside, local.y + window.y0, local.x + window.x0, found.size)
        if packed[index].mask().iou(second) >= AGREE:
            packed[index] = PackedMask.of(second)
            boxes[index] = second.box
    return replace(found, source=PackedMasks(tuple(packed)), boxes=boxes)


def _questions(pixels: NDArray[np.uint8], packed: Sequence[PackedMask]) -> Iterator[Question]:
    """Yield two questions for each mask that may gain: the crop and its mirror image."""
    size = pixels.shape[0], pixels.shape[1]
    for index, one in enumerate(packed):
        mask = one.mask()
        x0, y0, x1, y1 = mask.box
        window = around((x0, y0, x1, y1), max(x1 - x0, y1 - y0) / SHARE, size)
        gain = max(whole / max(1, own) for whole, own in zip(size, window.size, strict=True))
        if gain < GAIN or not mask.area:
            continue
        x, y = _middle(mask)
        target = Target(
            points=((x - window.x0, y - window.y0),),
            labels=(1,),
            box=(x0 - window.x0, y0 - window.y0, x1 - window.x0, y1 - window.y0),
        )
        crop = window.of(pixels)
        yield Question(crop, Pick((target,), multimask=False), window, (index,))
        target = _mirrored(target, crop.shape[1])
        yield Question(crop[:, ::-1], Pick((target,), multimask=False), window, (index,))


def _mirrored(target: Target, width: int) -> Target:
    """Return the same target in the mirror image of a crop of that width."""
    points = tuple((width - 1 - x, y) for x, y in target.points)
    if target.box is None:
        return replace(target, points=points)
    x0, y0, x1, y1 = target.box
    return replace(target, points=points, box=(width - x1, y0, width - x0, y1))


def _mean(plain: Detections, mirrored: Detections) -> Mask:
    """Return the mask of the mean of two answers, the second of which is in mirror image."""
    one, other = plain.source, mirrored.source
    if not isinstance(one, LowResMasks) or not isinstance(other, LowResMasks):
        raise TypeError("the answers to a pick are maps")
    values = (one.values + other.values[..., ::-1]).astype(np.float32)
    return replace(one, values=values, cut=2 * one.cut).mask(0)


def _middle(mask: Mask) -> Point:
    """Return the (x, y) pixel of a mask that is farthest from its edge."""
    distance = cv2.distanceTransform(np.pad(mask.inside, 1).view(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) - 1 + mask.x, float(y) - 1 + mask.y
