"""Exemplars from elsewhere: what looks like a part of another image, or of another tile.

SAM 3 reads an exemplar off the features of the image that it searches: a box in another image
means nothing to it. So the exemplars are pasted into a strip beside the image, the boxes are put
around them there, and what is found in the strip is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.runner import Question
from sam3_image.crops.windows import Box, Window
from sam3_image.model import Find

# Width of the strip as a part of the whole; the figures are in docs/prompts.md.
SHARE = 0.25
# What is pasted is the box and this much around it on each side, as parts of its sides.
MARGIN = 0.25


@dataclass(frozen=True)
class Exemplar:
    """A box around an object in some image.

    pixels: (H, W, 3) uint8 RGB. box: xyxy in pixels of it.
    label: 1 for "find more like this", 0 for "exclude what looks like this".
    """

    pixels: NDArray[np.uint8]
    box: Box
    label: int = 1


@dataclass(frozen=True)
class Exemplars:
    """own: in the image that is searched. others: in other images."""

    own: Sequence[Exemplar] = ()
    others: Sequence[Exemplar] = ()

    def question(
        self,
        pixels: NDArray[np.uint8],
        window: Window,
        concepts: Sequence[str],
        thresholds: Sequence[float],
        prompts: Sequence[int],
    ) -> Question:
        """A question for the concepts, with all exemplars, about a window of the image.

        thresholds, prompts: one for each concept.
        """
        here = [one for one in self.own if window.holds(one.box)]
        away = [one for one in self.own if not window.holds(one.box)] + list(self.others)
        part = window.of(pixels)
        strip, boxes = _strip(away, window.size)
        if away:
            part = np.concatenate([strip, part], axis=1)
        x, y = strip.shape[1] - window.x0, -window.y0
        boxes += [(b[0] + x, b[1] + y, b[2] + x, b[3] + y) for b in (one.box for one in here)]
        labels = tuple(one.label for one in [*away, *here])
        return Question(
            pixels=part,
            request=Find(tuple(concepts), tuple(thresholds), tuple(boxes), labels),
            window=window,
            prompts=prompts,
            strip=strip.shape[1],
        )


def _strip(
    exemplars: Sequence[Exemplar], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Return exemplars below each other, for a part of `size`, and the box of each of them."""
    height, width = size
    if not exemplars:
        return np.zeros((height, 0, 3), dtype=np.uint8), []
    wide = max(1, round(width * SHARE / (1 - SHARE)))
    crops = [_with_margin(one) for one in exemplars]
    ground = np.median(np.concatenate([_rim(crop) for crop, _ in crops]), axis=0)
    strip = np.empty((height, wide, 3), dtype=np.uint8)
    strip[:] = ground.astype(np.uint8)
    high = height / len(exemplars)
    boxes = []
    for index, (crop, box) in enumerate(crops):
        scale = min(wide / crop.shape[1], high / crop.shape[0])
        h = min(max(1, round(crop.shape[0] * scale)), height)
        w = min(max(1, round(crop.shape[1] * scale)), wide)
        x, y = (wide - w) // 2, min(round((index + 0.5) * high - h / 2), height - h)
        y = max(y, 0)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        strip[y : y + h, x : x + w] = cv2.resize(crop, (w, h), interpolation=way)
        sx, sy = w / crop.shape[1], h / crop.shape[0]
        boxes.append((x + box[0] * sx, y + box[1] * sy, x + box[2] * sx, y + box[3] * sy))
    return strip, boxes


def _with_margin(one: Exemplar) -> tuple[NDArray[np.uint8], Box]:
    """Cut out an exemplar with some of what is around it; returns its box in there too."""
    height, width = one.pixels.shape[:2]
    x0, y0, x1, y1 = one.box
    across, down = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    left, top = max(0, int(x0 - across)), max(0, int(y0 - down))
    right, bottom = min(width, int(np.ceil(x1 + across))), min(height, int(np.ceil(y1 + down)))
    crop = np.ascontiguousarray(one.pixels[top:bottom, left:right])
    return crop, (x0 - left, y0 - top, x1 - left, y1 - top)


def _rim(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels along the edges of a crop, (n, 3)."""
    return np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
