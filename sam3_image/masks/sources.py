"""Compact sources of the masks of N instances, from which full-size masks are made one at a time.

`LowResMasks` holds the low-resolution maps of one model run on the whole image. `PackedMasks` holds
finished masks, for example those found in several crops of the image, which share no map. Both are
small compared with N full-size masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

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

    values: (N, h, w) float32, logits or probabilities; a full-size pixel belongs to mask i when
        the bilinearly upsampled `values[i]` is > `cut`.
    cut: the value to exceed, in the unit of `values`; may be infinite.
    size: (height, width) of the image in pixels.
    """

    values: NDArray[np.float32]
    cut: float
    size: tuple[int, int]

    @classmethod
    def of_logits(
        cls, values: NDArray[np.float32], mask_threshold: float, size: tuple[int, int]
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
        return self.upsampler.mask(self.values[index], self.cut)

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
