"""Where the masks of N instances come from, before anybody needs them at full size.

`LowResMasks` is what one look of the model at the whole image gives. `PackedMasks` holds masks that
are ready, wherever they came from: several looks at crops of the image have no map in common.
Both are small beside N full-size masks, and both make one `Mask` at a time.
"""

from __future__ import annotations

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
        """How many."""

    def mask(self, index: int) -> Mask:
        """Return the full-size mask of one instance, computed at each call (a few milliseconds)."""

    def take(self, chosen: Indices) -> MaskSource:
        """Those masks, in that order."""


@dataclass(frozen=True)
class LowResMasks:
    """Low-resolution maps that span the image.

    values: (N, h, w) float32; a full-size pixel belongs to mask i when the bilinearly upsampled
        `values[i]` is > `cut`. For *find* they are probabilities, for *pick* logits, each as in
        transformers' own post-processing.
    cut: the value to exceed, in the unit of `values`.
    size: (height, width) of the image in pixels.
    """

    values: NDArray[np.float32]
    cut: float
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def upsampler(self) -> Upsampler:
        """The weights that turn maps into masks of `size`, shared by all instances."""
        return Upsampler.between((self.values.shape[1], self.values.shape[2]), self.size)

    def mask(self, index: int) -> Mask:
        """Return the full-size mask of one map."""
        return self.upsampler.mask(self.values[index], self.cut)

    def take(self, chosen: Indices) -> LowResMasks:
        """Those maps, in that order."""
        return replace(self, values=self.values[chosen])


@dataclass(frozen=True)
class PackedMask:
    """A mask at eight pixels a byte.

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
    """Ready masks, each packed into the region that holds it."""

    packed: tuple[PackedMask, ...]

    @classmethod
    def of(cls, masks: Iterable[Mask]) -> PackedMasks:
        """Those masks; only one of them is unpacked at a time."""
        return cls(tuple(PackedMask.of(mask) for mask in masks))

    def __len__(self) -> int:
        return len(self.packed)

    def mask(self, index: int) -> Mask:
        """Return the mask of one instance."""
        return self.packed[index].mask()

    def take(self, chosen: Indices) -> PackedMasks:
        """Those masks, in that order."""
        return PackedMasks(tuple(self.packed[index] for index in chosen))


def joined(sources: Sequence[MaskSource]) -> MaskSource:
    """Return the masks of all sources of one image, at least one, in order.

    Maps stay maps where all of them are, of one shape and with one cut; else all become regions.
    """
    maps = [source for source in sources if isinstance(source, LowResMasks)]
    first = maps[0] if maps else None
    alike = {(source.values.shape[1:], source.cut) for source in maps}
    if first is not None and len(maps) == len(sources) and len(alike) == 1:
        return replace(first, values=np.concatenate([source.values for source in maps]))
    return PackedMasks.of(source.mask(index) for source in sources for index in range(len(source)))
