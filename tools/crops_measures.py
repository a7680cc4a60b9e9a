"""How the answers of several looks are measured: matches, doubles, edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from tests.helpers.second_scenes import iou

HIT = 0.5  # mask IoU from which an object counts as found
BAND = 5  # pixels along the edge that boundary IoU looks at


@dataclass
class Counts:
    """Over one or many answers; ious are those of the hits.

    doubles: answers that lie on an object which another answer has found.
    """

    truths: int = 0
    found: int = 0
    doubles: int = 0
    ious: list[float] = field(default_factory=list)

    def __iadd__(self, other: Counts) -> Counts:
        self.truths += other.truths
        self.found += other.found
        self.doubles += other.doubles
        self.ious += other.ious
        return self

    @property
    def hits(self) -> int:
        """How many objects were found."""
        return len(self.ious)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.hits / max(1, self.truths + self.found)

    @property
    def mean_iou(self) -> float:
        """Of the hits."""
        return float(np.mean(self.ious)) if self.ious else 0.0


def counted(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> Counts:
    """One answer: bool masks (H, W) against the true ones."""
    table = [[iou(mask, own) for mask in found] for own in truth]
    return matched(np.array(table).reshape(len(truth), len(found)))


def matched(table: np.ndarray) -> Counts:
    """One answer, from the IoU of each true mask (rows) with each found one; best pairs first."""
    truths, found = table.shape
    on_any = int((table >= HIT).any(axis=0).sum())
    ious = []
    while table.size and table.max() >= HIT:
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        ious.append(float(table[row, column]))
        table[row], table[:, column] = 0, 0
    return Counts(truths, found, on_any - len(ious), ious)


def boundary_iou(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of the bands of BAND pixels inside the edges of two masks (arXiv 2103.16562)."""
    return iou(_band(one), _band(other))


def _band(mask: np.ndarray) -> np.ndarray:
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return mask & (distance <= BAND)
