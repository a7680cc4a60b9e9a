"""Where the masks of N instances come from, before anybody needs them at full size.

`Maps` is what one look of the model at the whole image gives. `Regions` holds masks that are
ready, wherever they came from: several looks at parts of the image have no map in common.
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


class Source(Protocol):
    """N masks of one image."""

    def __len__(self) -> int:
        """How many."""

    def mask(self, index: int) -> Mask:
        """Return the full-size mask of one instance, computed at each call (a few milliseconds)."""

    def take(self, chosen: Indices) -> Source:
        """Those masks, in that order."""


@dataclass(frozen=True)
class Maps:
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

    def take(self, chosen: Indices) -> Maps:
        """Those maps, in that order."""
        return replace(self, values=self.values[chosen])


@dataclass(frozen=True)
class Packed:
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
    def of(cls, mask: Mask) -> Packed:
        """Return the same mask, packed."""
        height, width = mask.inside.shape
        return cls(np.packbits(mask.inside), (height, width), mask.y, mask.x, mask.size)

    def mask(self) -> Mask:
        """Return the same mask, unpacked."""
        height, width = self.shape
        inside = np.unpackbits(self.bits, count=height * width).view(bool)
        return Mask(inside.reshape(height, width), self.y, self.x, self.size)


@dataclass(frozen=True)
class Regions:
    """Ready masks, each packed into the region that holds it."""

    packed: tuple[Packed, ...]

    @classmethod
    def of(cls, masks: Iterable[Mask]) -> Regions:
        """Those masks; only one of them is unpacked at a time."""
        return cls(tuple(Packed.of(mask) for mask in masks))

    def __len__(self) -> int:
        return len(self.packed)

    def mask(self, index: int) -> Mask:
        """Return the mask of one instance."""
        return self.packed[index].mask()

    def take(self, chosen: Indices) -> Regions:
        """Those masks, in that order."""
        return Regions(tuple(self.packed[index] for index in chosen))


def joined(sources: Sequence[Source]) -> Source:
    """Return the masks of all sources of one image, at least one, in order.

    Maps stay maps where all of them are, of one shape and with one cut; else all become regions.
    """
    maps = [source for source in sources if isinstance(source, Maps)]
    first = maps[0] if maps else None
    alike = {(source.values.shape[1:], source.cut) for source in maps}
    if first is not None and len(maps) == len(sources) and len(alike) == 1:
        return replace(first, values=np.concatenate([source.values for source in maps]))
    return Regions.of(source.mask(index) for source in sources for index in range(len(source)))
