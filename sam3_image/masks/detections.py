"""Detections: what one request found in one image, best score first.

Everything here is NumPy on the host. Masks stay as small as they came until someone writes them,
so memory does not grow with the size of the image times the number of instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask
from sam3_image.masks.sources import MaskSource, joined


@dataclass(frozen=True)
class Detections:
    """N instances of one image, sorted by score, best first.

    size: (height, width) of the image in pixels, as a person sees it (EXIF applied).
    source: the N masks.
    boxes: (N, 4) float32, xyxy in pixels, origin top left. Of the model for *find*, not clipped to
        the image; tightly around the mask for *pick*, and for all instances after `refine`.
    scores: (N,) float32 in 0–1. *find*: sigmoid(logit) · sigmoid(presence). *pick*: predicted IoU.
    presence: (N,) float32 in 0–1, the probability that the concept is in the image at all.
    concepts: N names, the concept that found each instance: its text, "example" where
        exemplars had none, "object" for *pick*.
    candidates: (N,) int64, for *pick* the index of the candidate mask, else 0.
    prompts: (N,) int64, the index of the prompt (concept, or object to pick) in the request.
    """

    size: tuple[int, int]
    source: MaskSource
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: NDArray[np.float32]
    concepts: tuple[str, ...]
    candidates: NDArray[np.int64]
    prompts: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        *,
        source: MaskSource,
        size: tuple[int, int],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        presence: NDArray[np.float32],
        concept: str,
        prompt: int | NDArray[np.int64],
        candidates: NDArray[np.int64] | None = None,
    ) -> Detections:
        """Detections of one concept, in the order given.

        prompt: one index for all of them, or one for each.
        """
        count = len(scores)
        return cls(
            size=size,
            source=source,
            boxes=boxes,
            scores=scores,
            presence=presence,
            concepts=(concept,) * count,
            candidates=np.zeros(count, dtype=np.int64) if candidates is None else candidates,
            prompts=np.broadcast_to(np.asarray(prompt, dtype=np.int64), (count,)),
        )

    @classmethod
    def joined(cls, parts: Sequence[Detections]) -> Detections:
        """Instances of one image, at least one part, in the order of the parts."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return replace(
            first,
            source=joined([part.source for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            presence=np.concatenate([part.presence for part in parts]),
            concepts=tuple(name for part in parts for name in part.concepts),
            candidates=np.concatenate([part.candidates for part in parts]),
            prompts=np.concatenate([part.prompts for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.concepts)

    def mask(self, index: int) -> Mask:
        """Return the full-size mask of one instance, computed at each call (a few milliseconds)."""
        return self.source.mask(index)

    def masks(self) -> Iterator[Mask]:
        """Return the full-size masks one after the other, best score first."""
        return (self.mask(index) for index in range(len(self)))

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Detections:
        """Those instances, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            source=self.source.take(chosen),
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            presence=self.presence[chosen],
            concepts=tuple(self.concepts[i] for i in chosen),
            candidates=self.candidates[chosen],
            prompts=self.prompts[chosen],
        )

    def sorted(self) -> Detections:
        """Return the same instances, best score first; equal scores keep their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))

    def with_mask_boxes(self) -> Detections:
        """Return the same instances with `boxes` drawn tightly around their masks."""
        boxes = [mask.box for mask in self.masks()]
        return replace(self, boxes=np.array(boxes, dtype=np.float32).reshape(len(self), 4))
