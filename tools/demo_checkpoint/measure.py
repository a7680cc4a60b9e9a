"""Measures on masks: IoU, matches, precision and recall, and where a person would click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two bool masks of one shape; 0 when both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def match_ious(found: np.ndarray, truth: Sequence[np.ndarray]) -> list[float]:
    """Return the IoU of each true object with the found mask matched to it, best pairs first; 0 if
    none.

    Each found mask is used once.
    """
    table = np.array([[mask_iou(mask, own) for mask in found] for own in truth], dtype=float)
    table = table.reshape(len(truth), len(found))
    best = [0.0] * len(truth)
    for _ in range(min(table.shape)):
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        if table[row, column] <= 0:
            break
        best[int(row)] = float(table[row, column])
        table[row, :] = table[:, column] = -1
    return best


@dataclass
class Tally:
    """Counts over many questions; `ious` are those of matches at IoU 0.5."""

    truths: int = 0
    founds: int = 0
    hits: dict[float, int] = field(default_factory=lambda: {0.5: 0, 0.75: 0})
    ious: list[float] = field(default_factory=list)

    def add(self, found: np.ndarray, truth: Sequence[np.ndarray]) -> None:
        """Count one question's found masks (instances, H, W) against the true ones."""
        best = match_ious(found, truth)
        self.truths += len(truth)
        self.founds += len(found)
        for level in self.hits:
            self.hits[level] += sum(iou >= level for iou in best)
        self.ious += [iou for iou in best if iou >= 0.5]

    def merge(self, other: Tally) -> None:
        """Add another tally's counts."""
        self.truths += other.truths
        self.founds += other.founds
        for level in self.hits:
            self.hits[level] += other.hits[level]
        self.ious += other.ious

    def f1(self, level: float = 0.5) -> float:
        """Return the harmonic mean of precision and recall at an IoU of `level`."""
        return 2 * self.hits[level] / max(1, self.truths + self.founds)

    @property
    def precision(self) -> float:
        """Share of the found masks that match an object at IoU 0.5."""
        return self.hits[0.5] / max(1, self.founds)

    @property
    def recall(self) -> float:
        """Share of the objects that were found at IoU 0.5."""
        return self.hits[0.5] / max(1, self.truths)

    @property
    def mean_iou(self) -> float:
        """Of the matches at IoU 0.5."""
        return float(np.mean(self.ious)) if self.ious else 0.0


def deepest_point(mask: np.ndarray) -> tuple[float, float]:
    """Return the (x, y) pixel of a bool mask that is farthest from its edge, near enough."""
    height, width = mask.shape
    scale = max(1.0, max(height, width) / 160)
    small = (max(1, round(width / scale)), max(1, round(height / scale)))
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize(small, Image.Resampling.BOX)
    inside = np.pad(np.asarray(picture) > 127, 1)
    if not inside.any():
        rows, columns = np.nonzero(mask)
        return float(columns[len(columns) // 2]), float(rows[len(rows) // 2])
    while True:
        core = inside[1:-1, 1:-1]
        eroded = core & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        if not eroded.any():
            break
        inside = np.pad(eroded, 1)
    rows, columns = np.nonzero(inside[1:-1, 1:-1])
    middle = len(rows) // 2
    x = (columns[middle] + 0.5) * width / small[0]
    y = (rows[middle] + 0.5) * height / small[1]
    return min(float(x), width - 1.0), min(float(y), height - 1.0)


def next_click(found: np.ndarray, truth: np.ndarray) -> tuple[tuple[float, float], int]:
    """Where a person corrects: the larger of what is missing and what is too much."""
    missing, surplus = truth & ~found, found & ~truth
    if np.count_nonzero(missing) >= np.count_nonzero(surplus):
        return deepest_point(missing if missing.any() else truth), 1
    return deepest_point(surplus), 0
