"""Detections: what one request found in one image, best score first, with their masks.

Everything here is NumPy on the host. Masks stay as small as they came until someone writes them, so
memory does not grow with the size of the image times the number of instances: `LowResMasks` holds
the low-resolution maps of one look at the whole image, `PackedMasks` finished masks, for example
those found in several crops of the image, which share no map. Both make one full-size mask at a
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.mask import Mask
from sam3_image.masks.upsampling import Upsampler

Indices = NDArray[np.int64]


class MaskSource(Protocol):
    """N masks of one image."""

    def __len__(self) -> int:
        """Return the number of masks."""

    def mask(self, index: int) -> Mask:
        """Return the full-size mask of one instance, computed at each call (a few milliseconds)."""

    def take(self, chosen: Indices) -> MaskSource:
        """Return the masks at these indices, in that order."""


@dataclass(frozen=True)
class LowResMasks:
    """Low-resolution maps that span the image.

    values: (N, h, w) float32 or float16, logits or probabilities; a full-size pixel belongs to mask
        i when the bilinearly upsampled `values[i]`, in float32, is > `cut`.
    cut: the value to exceed, in the unit of `values`; may be infinite.
    size: (height, width) of the image in pixels.
    """

    values: NDArray[np.floating[Any]]
    cut: float
    size: tuple[int, int]

    @classmethod
    def of_logits(
        cls, values: NDArray[np.floating[Any]], mask_threshold: float, size: tuple[int, int]
    ) -> LowResMasks:
        """Return maps of logits (N, h, w) that are cut where the probability is `mask_threshold`.

        At 0 every pixel is in the mask, at 1 none.
        """
        return cls(values, logit(mask_threshold), size)

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def upsampler(self) -> Upsampler:
        """The interpolation weights from the maps to `size`, shared by all instances."""
        return Upsampler.between((self.values.shape[1], self.values.shape[2]), self.size)

    def mask(self, index: int) -> Mask:
        """Return the full-size mask of one map."""
        values = self.values[index].astype(np.float32, copy=False)
        return self.upsampler.mask(values, self.cut)

    def take(self, chosen: Indices) -> LowResMasks:
        """Return the maps at these indices, in that order."""
        return replace(self, values=self.values[chosen])


@dataclass(frozen=True)
class PackedMask:
    """A mask stored as eight pixels per byte.

    bits: `numpy.packbits` of the region's pixels, row by row. shape: (h, w) of the region.
    y, x, size: as in `Mask`.
    """

    bits: NDArray[np.uint8]
    shape: tuple[int, int]
    y: int
    x: int
    size: tuple[int, int]

    @classmethod
    def of(cls, mask: Mask) -> PackedMask:
        """Return the same mask, packed."""
        height, width = mask.inside.shape
        return cls(np.packbits(mask.inside), (height, width), mask.y, mask.x, mask.size)

    def mask(self) -> Mask:
        """Return the same mask, unpacked."""
        height, width = self.shape
        inside = np.unpackbits(self.bits, count=height * width).view(bool)
        return Mask(inside.reshape(height, width), self.y, self.x, self.size)


@dataclass(frozen=True)
class PackedMasks:
    """Finished masks, each packed into the region that holds it."""

    packed: tuple[PackedMask, ...]

    @classmethod
    def of(cls, masks: Iterable[Mask]) -> PackedMasks:
        """Pack the masks one after another; only one is unpacked at a time."""
        return cls(tuple(PackedMask.of(mask) for mask in masks))

    def __len__(self) -> int:
        return len(self.packed)

    def mask(self, index: int) -> Mask:
        """Return the mask of one instance."""
        return self.packed[index].mask()

    def take(self, chosen: Indices) -> PackedMasks:
        """Return the masks at these indices, in that order."""
        return PackedMasks(tuple(self.packed[index] for index in chosen))


def joined(sources: Sequence[MaskSource]) -> MaskSource:
    """Concatenate the masks of one or more sources of one image, in order.

    They stay `LowResMasks` if all are maps of one shape with one cut, else they are packed.
    """
    maps = [source for source in sources if isinstance(source, LowResMasks)]
    first = maps[0] if maps else None
    alike = {(source.values.shape[1:], source.cut) for source in maps}
    if first is not None and len(maps) == len(sources) and len(alike) == 1:
        return replace(first, values=np.concatenate([source.values for source in maps]))
    return PackedMasks.of(source.mask(index) for source in sources for index in range(len(source)))


def logit(probability: float) -> float:
    """Return the inverse of the sigmoid; -inf at 0 and inf at 1."""
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability))


@dataclass(frozen=True)
class Detections:
    """N instances of one image, sorted by score, best first.

    size: (height, width) of the image in pixels, as a person sees it (EXIF applied).
    source: the N masks.
    boxes: (N, 4) float32, xyxy in pixels, origin top left. Of the model for *find*, not clipped to
        the image; tightly around the mask for *pick*, and for all instances after `refine`.
    scores: (N,) float32 in 0–1. *find*: sigmoid(logit) · sigmoid(presence). *pick*: predicted IoU,
        which for SAM 3.1 is clipped to that range.
    presence: (N,) float32 in 0–1, the probability that the concept is in the image at all.
    concepts: N names, the concept that found each instance: its text, "example" where
        exemplars had none, "object" for *pick*.
    candidates: (N,) int64, for *pick* the index of the candidate mask, else 0.
    prompts: (N,) int64, the index of the prompt (concept, or object to pick) in the request.
    best: *find*: by prompt the best score there was, be it below the threshold.
    logits: *pick*: (N, h, w) float32, the model's own logits of each mask, for the next request
        about the object; else None.
    """

    size: tuple[int, int]
    source: MaskSource
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: NDArray[np.float32]
    concepts: tuple[str, ...]
    candidates: NDArray[np.int64]
    prompts: NDArray[np.int64]
    best: Mapping[int, float] = field(default_factory=dict)
    logits: NDArray[np.float32] | None = None

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
        best: Mapping[int, float] | None = None,
        logits: NDArray[np.float32] | None = None,
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
            best=best or {},
            logits=logits,
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
            best={key: value for part in parts for key, value in part.best.items()},
            logits=_joined_logits(parts),
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
            concepts=tuple(map(self.concepts.__getitem__, chosen.tolist())),
            candidates=self.candidates[chosen],
            prompts=self.prompts[chosen],
            logits=None if self.logits is None else self.logits[chosen],
        )

    def sorted(self) -> Detections:
        """Return the same instances, best score first; equal scores keep their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))

    def with_mask_boxes(self) -> Detections:
        """Return the same instances with `boxes` drawn tightly around their masks."""
        boxes = [mask.box for mask in self.masks()]
        return replace(self, boxes=np.array(boxes, dtype=np.float32).reshape(len(self), 4))


def _joined_logits(parts: Sequence[Detections]) -> NDArray[np.float32] | None:
    """All logits, if every part has them in one shape; else None."""
    found = [part.logits for part in parts if part.logits is not None]
    if len(found) < len(parts) or len({logits.shape[1:] for logits in found}) != 1:
        return None
    return np.concatenate(found)
