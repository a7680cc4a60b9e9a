"""everything: every object of an image, found by a grid of points, without a prompt.

Each point of the grid has three candidate masks. Most go before any mask of them is computed, by
the IoU that the model estimates for it; the others by their low-resolution logits. Only what is
left is ever upsampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from sam3_image.masks import Detections, LowResMasks, logit
from sam3_image.model.encoder import Features
from sam3_image.model.parts import Parts
from sam3_image.model.picker import OBJECT, Picker, fill_small_holes, targets_in_pass
from sam3_image.model.picker import head as picker_of
from sam3_image.model.prompts import Everything
from sam3_image.model.transfer import to_host
from sam3_image.model.transformers_adapter import (
    candidate_masks,
    decode_points,
    fine_features,
)

# Points of one turn on the device: between two turns other requests get theirs, and a canceled
# request ends.
TURN_POINTS = 64
# The most objects of one look: a bound on memory, 332 MB of logits at full size.
MOST_OBJECTS = 1000
# The stability of a mask is the area where its logits are so far above its cut, as a share of the
# area where they are no farther below. Below the bound an answer is no object; above it, stability
# says which of several masks shows the object best. Meta's mask generator for SAM 2 has 0.95, which
# small objects never reach: their edges are a large part of them.
STABILITY_OFFSET = 1.0
STABLE = 0.5
# Share of the smaller of two masks that lies in the other one from which they are one object, as
# where tiles are merged.
SAME = 0.5


class _Candidates:
    """The best masks so far, none the double of another."""

    def __init__(self, cut: float, shape: tuple[int, int]) -> None:
        """For maps of `shape` (h, w), of which what is above `cut` is the mask."""
        self.cut = cut
        self.logits = np.zeros((0, *shape), dtype=np.float32)
        self.scores = np.zeros(0, dtype=np.float32)
        self.presence = np.zeros(0, dtype=np.float32)
        self._ranks = np.zeros(0, dtype=np.float32)
        self._packed = np.zeros((0, -(-shape[0] * shape[1] // 8)), dtype=np.uint8)
        self._boxes = np.zeros((0, 4), dtype=np.int64)

    def take_in(
        self,
        logits: NDArray[np.float32],
        scores: NDArray[np.float32],
        presence: NDArray[np.float32],
        stability: NDArray[np.float32],
    ) -> None:
        """Add n more (n, h, w), then drop doubles of better ones, and the worst of too many.

        A mask is the better one by its score times its stability.
        """
        masks = logits > self.cut
        packed = np.concatenate([self._packed, np.packbits(masks.reshape(len(masks), -1), axis=1)])
        boxes = np.concatenate([self._boxes, [_box(mask) for mask in masks]])
        ranks = np.concatenate([self._ranks, scores * stability])
        kept: list[int] = []
        for index in np.argsort(-ranks, kind="stable").tolist():
            if not _is_double(index, kept, packed, boxes):
                kept.append(index)
        kept = kept[:MOST_OBJECTS]
        self.logits = np.concatenate([self.logits, logits])[kept]
        self.presence = np.concatenate([self.presence, presence])[kept]
        self.scores = np.concatenate([self.scores, scores])[kept]
        self._ranks, self._packed, self._boxes = ranks[kept], packed[kept], boxes[kept]

    def none(self, size: tuple[int, int]) -> Detections:
        """No detections in an image of `size` (height, width)."""
        return self._detections(size, slice(0))

    def detections(self, size: tuple[int, int]) -> Detections:
        """All of them; boxes are zeros."""
        return self._detections(size, slice(None))

    def _detections(self, size: tuple[int, int], some: slice) -> Detections:
        scores = self.scores[some]
        return Detections.of(
            size=size,
            source=LowResMasks(self.logits[some], self.cut, size),
            boxes=np.zeros((len(scores), 4), dtype=np.float32),
            scores=scores.clip(0, 1),
            presence=self.presence[some],
            concept=OBJECT,
            prompt=0,
        )


@dataclass(frozen=True)
class ObjectFinder:
    """Answers `Everything`, with the tracker of a picker."""

    picker: Picker

    def steps(
        self, features: Features, request: Everything, mask_threshold: float
    ) -> list[Callable[[], Detections]]:
        """Calls that look at some points of the grid each; the last one returns what all found.

        The others return no detections. mask_threshold: probability above which a pixel is in the
        mask.
        """
        height, width = features.hidden.shape[-2:]
        found = _Candidates(logit(mask_threshold), (4 * height, 4 * width))
        places = (torch.arange(request.points_per_side) + 0.5) / request.points_per_side
        grid = torch.cartesian_prod(places, places).flip(-1)  # row by row: (x, y) in 0–1
        turns = [
            partial(self._turn, features, request, found, points)
            for points in grid.split(TURN_POINTS)
        ]
        return [*turns, partial(found.detections, features.size)]

    @torch.inference_mode()
    def _turn(
        self, features: Features, request: Everything, found: _Candidates, points: torch.Tensor
    ) -> Detections:
        """Add the objects at some points (n, 2), x and y in 0–1; returns no detections yet."""
        tracker, placement = self.picker.tracker, self.picker.placement
        levels = self.picker.levels(features)
        fine = self.picker.encoder.kept(features, "fine", partial(fine_features, tracker, levels))
        side = tracker.prompt_encoder.input_image_size
        fills = self.picker.reference.fill_holes and request.fill_holes
        for part in points.split(targets_in_pass(features, placement)):
            decoded = decode_points(tracker, levels[-1], (part * side).to(placement.device))
            if not decoded.scores.isfinite().all():
                raise placement.not_finite()
            sure = (decoded.scores > request.threshold).any(dim=1).nonzero()[:, 0]
            if not len(sure):
                continue
            logits = candidate_masks(tracker, fine, decoded, sure).float()
            stability = _stability(logits, found.cut)
            kept = (decoded.scores[sure] > request.threshold) & (stability >= STABLE)
            if not kept.any():
                continue
            maps = to_host(logits[kept])
            for one in maps if fills else ():
                fill_small_holes(one, found.cut)
            presence = decoded.presence.float().sigmoid()[sure, None].expand(-1, kept.shape[1])
            scores = decoded.scores[sure][kept].float()
            found.take_in(maps, *map(to_host, (scores, presence[kept], stability[kept])))
        return found.none(features.size)


def head(parts: Parts) -> ObjectFinder | None:
    """What answers `Everything`, if the checkpoint has a tracker."""
    picker = picker_of(parts)
    return None if picker is None else ObjectFinder(picker)


def _stability(logits: torch.Tensor, cut: float) -> torch.Tensor:
    """The stability (n, 3), 0 to 1, of masks (n, 3, h, w); 0 for empty ones."""
    inner, own, outer = (
        (logits > cut + offset).sum(dim=(-2, -1))
        for offset in (STABILITY_OFFSET, 0.0, -STABILITY_OFFSET)
    )
    return torch.where(own > 0, inner / outer.clamp(min=1), 0.0)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """xyxy in cells, tightly around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _is_double(
    index: int, kept: list[int], packed: NDArray[np.uint8], boxes: NDArray[np.int64]
) -> bool:
    """Whether a mask shows the same object as one of those that are kept: see `SAME`."""
    low = np.maximum(boxes[kept, :2], boxes[index, :2])
    high = np.minimum(boxes[kept, 2:], boxes[index, 2:])
    own = np.bitwise_count(packed[index]).sum()
    for other in np.array(kept, dtype=np.int64)[(high > low).all(axis=1)]:
        shared = np.bitwise_count(packed[other] & packed[index]).sum()
        if shared >= SAME * min(own, np.bitwise_count(packed[other]).sum()):
            return True
    return False
