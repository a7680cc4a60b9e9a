"""Masks without specks and small holes, at full size.

Pixels that touch at a corner belong to one part; background that touches at a corner alone does
not. A hole is background that the mask encloses; what lies at the image's border is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.detections import Detections, PackedMasks
from sam3_image.masks.mask import Mask


def largest_part(mask: Mask) -> Mask:
    """The mask with its largest connected part alone; of equal ones the topmost."""
    blocks = list(mask.blocks())
    found = [_largest(block) for block in blocks]
    if not blocks or (len(blocks) == 1 and found[0] is blocks[0]):
        return mask
    return max(found, key=lambda part: part.area)


def _largest(mask: Mask) -> Mask:
    # Most masks are of one part, which their outlines say sooner than their pixels.
    if len(_outlines(mask.inside, cv2.RETR_EXTERNAL)) == 1:
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.inside.view(np.uint8), connectivity=8
    )
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y, width, height = stats[best, :4].tolist()
    inside = np.ascontiguousarray(labels[y : y + height, x : x + width] == best)
    return Mask(inside, mask.y + y, mask.x + x, mask.size)


def fill_holes(mask: Mask, most: int) -> Mask:
    """The mask with each hole of at most `most` pixels filled."""
    filled = None
    for block in mask.blocks():
        holes = _holes(block.inside, most)
        if holes is not None:
            filled = mask.inside.copy() if filled is None else filled
            top, left = block.y - mask.y, block.x - mask.x
            height, width = holes.shape
            filled[top : top + height, left : left + width] |= holes
    return mask if filled is None else replace(mask, inside=filled)


def _holes(inside: NDArray[np.bool_], most: int) -> NDArray[np.bool_] | None:
    """The pixels of the holes of at most `most` pixels; None where there is none."""
    if (_outlines(inside, cv2.RETR_CCOMP)[:, 3] < 0).all():  # no outline lies within another
        return None
    background = (~inside).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
    is_hole = stats[:, cv2.CC_STAT_AREA] <= most
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_hole[edge] = False  # it goes on outside the region, or at the border of the image
    is_hole[0] = False  # the mask itself
    return is_hole[labels] if is_hole.any() else None


def _outlines(inside: NDArray[np.bool_], mode: int) -> NDArray[np.int32]:
    """What OpenCV says of the order of the outlines: a row for each, its parent in column 3."""
    tree = cv2.findContours(inside.view(np.uint8), mode, cv2.CHAIN_APPROX_SIMPLE)[1]
    return np.asarray(tree[0], dtype=np.int32)


@dataclass
class Cleaning:
    """Cleans the masks of detections and counts what it changed.

    keep_largest: whether only the largest part of each mask stays.
    most: holes of at most so many pixels are filled. smallest: masks of fewer pixels are dropped.
    parts, holes, dropped: how many masks lost parts, had holes filled, and were dropped.
    """

    keep_largest: bool
    most: int
    smallest: int
    parts: int = 0
    holes: int = 0
    dropped: int = 0

    def apply(self, detections: Detections) -> Detections:
        """The cleaned instances that stay, in order.

        With keep_largest, every box lies tightly around its mask.
        """
        kept: list[int] = []
        masks = self._kept(detections, kept)
        if not (self.keep_largest or self.most):
            for _ in masks:
                pass
            return detections.take(kept)
        source = PackedMasks.of(masks)
        cleaned = replace(detections.take(kept), source=source)
        return cleaned.with_mask_boxes() if self.keep_largest else cleaned

    def _kept(self, detections: Detections, kept: list[int]) -> Iterator[Mask]:
        """The cleaned masks that stay; their indices are added to `kept`."""
        for index, mask in enumerate(detections.masks()):
            whole = largest_part(mask) if self.keep_largest else mask
            # After the parts: what is no part of the object any more may lie in a hole of it.
            filled = fill_holes(whole, self.most) if self.most else whole
            self.parts += whole is not mask
            self.holes += filled is not whole
            if self.smallest and filled.area < self.smallest:
                self.dropped += 1
                continue
            kept.append(index)
            yield filled

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.parts} masks cut to their largest part, holes filled in {self.holes}, "
            f"{self.dropped} instances below min_area dropped"
        )
