"""A closer look at each instance, for finer edges than the grid of the first look gives.

The object is picked again, by the box and an inner point of its first mask, in a crop in which it
takes about half the side, and once more in the mirror image of that crop. The mean of the two is
the new mask: an error at an edge in one of them is seldom repeated in the other.

A closer look is there to move edges, not to decide again what the object is. So the new mask is
taken only if it differs from the first one along the edge alone, within a cell of the grid on which
the first look drew it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.runner import CropRunner, Question
from sam3_image.crops.windows import Window, around
from sam3_image.masks import Detections, LowResMasks, Mask, PackedMask, PackedMasks
from sam3_image.model import Pick, Point, Target

SHARE = 0.5  # of the crop's side that the longer side of the object takes
# A crop must show the object so many times larger than the whole image does, or it gains nothing.
GAIN = 1.25
# Connected parts smaller than this share of the mask's largest one are specks, not the object.
SPECK = 0.1
# Least IoU of the object in the first mask with the new mask; else the first mask remains.
AGREE = 0.6
# Most pixels, as a share of the object's, that may change farther than a cell from its edge.
# Found on tests/helpers/refine_scenes.py: at 0.01 masks get worse by up to 0.18 IoU, at 0.005 by
# 0.015.
BEYOND = 0.005


def refine(
    runner: CropRunner, pixels: NDArray[np.uint8], found: Detections, tile_size: int | None = None
) -> Detections:
    """Return the same instances with finer masks, and with boxes tightly around the masks.

    Scores and order stay those of the first look. So do masks that are empty or large, and those
    that the closer look does not confirm. What replaces a mask has none of its specks.

    pixels: (H, W, 3) uint8 RGB, the image in which they were found.
    tile_size: side in pixels of the tiles in which they were found; None without tiles.
    """
    firsts, objects, boxes = [], [], []
    for mask in found.masks():
        firsts.append(PackedMask.of(mask))
        objects.append(PackedMask.of(_object(mask)))
        boxes.append(mask.box)
    answers = runner.look(_questions(pixels, objects))
    masks = list(firsts)
    for (question, plain), (_, mirrored) in zip(answers, answers, strict=True):
        (index,) = question.prompts
        maps = _mean(plain, mirrored)
        local, window = maps.mask(0), question.window
        second = Mask(local.inside, local.y + window.y0, local.x + window.x0, found.size)
        # The first look drew on as many cells, stretched over the image or a tile.
        looked = [min(side, tile_size or side) for side in found.size]
        cell = [pixels / cells for pixels, cells in zip(looked, maps.values.shape[1:], strict=True)]
        if _confirmed(firsts[index].mask(), objects[index].mask(), second, window, cell):
            masks[index] = PackedMask.of(second)
            boxes[index] = second.box
    return replace(
        found,
        source=PackedMasks(tuple(masks)),
        boxes=np.array(boxes, dtype=np.float32).reshape(len(found), 4),
    )


def _object(mask: Mask) -> Mask:
    """Return the mask without its specks, cut to its box."""
    if not mask.area:
        return mask
    number, parts, stats, _ = cv2.connectedComponentsWithStats(mask.inside.view(np.uint8))
    if number == 2:  # the background and one part
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background
    kept = areas >= SPECK * areas.max()
    kept[0] = False
    left, top = stats[kept, :2].min(axis=0)
    right, bottom = (stats[kept, :2] + stats[kept, 2:4]).max(axis=0)
    inside = kept[parts[top:bottom, left:right]]
    return Mask(inside, mask.y + int(top), mask.x + int(left), mask.size)


def _confirmed(first: Mask, own: Mask, second: Mask, window: Window, cell: Sequence[float]) -> bool:
    """Whether the second mask shows the same object as the first, with other edges at most.

    own: the object in the first mask. window: holds the object and the second mask.
    cell: (height, width) in pixels of the grid that the first mask was drawn on.
    """
    if own.iou(second) < AGREE:
        return False
    reach = cv2.getStructuringElement(
        cv2.MORPH_RECT, (2 * round(cell[1]) + 1, 2 * round(cell[0]) + 1)
    )
    after = _within(second, window)
    outside = after > cv2.dilate(_within(first, window), reach)
    missing = after < cv2.erode(_within(own, window), reach)
    beyond = np.count_nonzero(outside) + np.count_nonzero(missing)
    return bool(beyond <= BEYOND * own.area)


def _within(mask: Mask, window: Window) -> NDArray[np.uint8]:
    """Return what a window shows of a mask: (h, w) uint8, 1 inside."""
    shown = np.zeros(window.size, dtype=np.uint8)
    y, x = mask.y - window.y0, mask.x - window.x0
    top, left = max(0, y), max(0, x)
    part = mask.inside[top - y : window.size[0] - y, left - x : window.size[1] - x]
    shown[top : top + part.shape[0], left : left + part.shape[1]] = part
    return shown


def _questions(pixels: NDArray[np.uint8], objects: Sequence[PackedMask]) -> Iterator[Question]:
    """Yield two questions for each object that may gain: the crop and its mirror image."""
    size = pixels.shape[0], pixels.shape[1]
    for index, one in enumerate(objects):
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
        # Logits of the two answers are averaged: filled holes would outweigh the other answer's.
        pick = Pick((target,), multimask=False, fill_holes=False)
        yield Question(crop, pick, window, (index,))
        pick = replace(pick, targets=(_mirrored(target, crop.shape[1]),))
        yield Question(crop[:, ::-1], pick, window, (index,))


def _mirrored(target: Target, width: int) -> Target:
    """Return the same target in the mirror image of a crop that is `width` pixels wide."""
    points = tuple((width - 1 - x, y) for x, y in target.points)
    if target.box is None:
        return replace(target, points=points)
    x0, y0, x1, y1 = target.box
    return replace(target, points=points, box=(width - x1, y0, width - x0, y1))


def _mean(plain: Detections, mirrored: Detections) -> LowResMasks:
    """Return the mean of two answers, the second of which is in mirror image, as one map."""
    one, other = plain.source, mirrored.source
    if not isinstance(one, LowResMasks) or not isinstance(other, LowResMasks):
        raise TypeError("the answers to a pick are maps")
    values = (one.values + other.values[..., ::-1]).astype(np.float32)
    return replace(one, values=values, cut=2 * one.cut)


def _middle(mask: Mask) -> Point:
    """Return the (x, y) pixel of a mask that is farthest from its edge."""
    distance = cv2.distanceTransform(np.pad(mask.inside, 1).view(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) - 1 + mask.x, float(y) - 1 + mask.y
