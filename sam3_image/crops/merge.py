"""What several looks saw of one picture → each object once, whole.

Three kinds of looks overlap: tiles, the picture as a whole, and closer looks at what no tile holds
whole. Everything here compares masks of one concept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from sam3_image.crops.detection import CropDetection, hull, shared
from sam3_image.crops.windows import Box

# Share of the smaller of two masks that lies in the other one from which they are one object.
SAME = 0.5
# IoU of two masks from which they also show the same of it.
EQUAL = 0.5


@dataclass(frozen=True)
class Merged:
    """kept: each object once. doubtful: what another look has to decide, best score first."""

    kept: list[CropDetection]
    doubtful: list[CropDetection]


def merge(
    tiles: Iterable[CropDetection], overview: Iterable[CropDetection], tile_size: int
) -> Merged:
    """Combine what the tiles and the look at the whole picture saw of one concept.

    An object no longer than the tiles' overlap lies whole in one tile at least, so of these only
    what a tile holds whole counts. What a border cuts is part of an object that is whole
    elsewhere, unless it reaches beyond the overlap: then, if nothing whole covers it, it is
    doubtful. So is what the overview saw alone although a tile would show it more closely.
    """
    overlap = tile_size // 4
    seen = list(tiles)
    kept = unique(one for one in seen if one.whole)
    doubtful: list[CropDetection] = []
    for one in unique([one for one in overview if one.consistent and one.extent > overlap]):
        kept, alone = _with_overview(kept, one, overlap)
        if alone and one.extent <= tile_size / 2:
            doubtful.append(one)
        elif alone:
            kept.append(one)
    deep = [one for one in seen if one.consistent and overlap < one.depth < math.inf]
    doubtful += [one for one in deep if not any(_within(one, other) for other in kept)]
    return Merged(kept, sorted(doubtful, key=lambda one: -one.score))


def unique(instances: Iterable[CropDetection]) -> list[CropDetection]:
    """Keep, of instances that are one object, the one with the best score."""
    ordered = sorted(instances, key=lambda one: -one.score)
    boxes = np.array([one.around for one in ordered], dtype=np.float32).reshape(-1, 4)
    kept: list[int] = []
    for index, one in enumerate(ordered):
        x0, y0, x1, y1 = boxes[kept].T
        near = (x0 < one.around[2]) & (x1 > one.around[0])
        near &= (y0 < one.around[3]) & (y1 > one.around[1])
        if not any(same(one, ordered[kept[other]]) for other in np.flatnonzero(near)):
            kept.append(index)
    return [ordered[index] for index in kept]


def same(one: CropDetection, other: CropDetection) -> bool:
    """Whether two masks show one object: half of the smaller one lies in the other."""
    return shared(one, other) >= SAME * min(one.area, other.area)


def groups(doubtful: Iterable[CropDetection]) -> list[tuple[CropDetection, Box]]:
    """Return pieces that overlap as one: the best of them, and the box around all."""
    found: list[list[CropDetection]] = []
    for one in doubtful:
        mine = [group for group in found if any(shared(one, other) for other in group)]
        found = [group for group in found if group not in mine]
        found.append([other for group in mine for other in group] + [one])
    best = [(max(group, key=lambda one: one.score), group) for group in found]
    return [(first, hull(one.around for one in group)) for first, group in best]


def _with_overview(
    kept: list[CropDetection], one: CropDetection, overlap: float
) -> tuple[list[CropDetection], bool]:
    """Weigh one instance of the overview; returns those of the tiles, and if it is one more."""
    common = [shared(one, other) for other in kept]
    for index, (count, other) in enumerate(zip(common, kept, strict=True)):
        if count >= EQUAL * (one.area + other.area - count):
            best = max(one.score, other.score)
            return [*kept[:index], replace(other, score=best), *kept[index + 1 :]], False
    inside = [count >= SAME * other.area for count, other in zip(common, kept, strict=True)]
    parts = [other for part, other in zip(inside, kept, strict=True) if part]
    if sum(common) >= SAME * one.area and not _cut(parts, one, overlap):
        return kept, False  # a blur of several objects
    # Parts of a large object that look like one themselves in a tile.
    return [other for part, other in zip(inside, kept, strict=True) if not part], True


def _cut(parts: list[CropDetection], one: CropDetection, overlap: float) -> bool:
    """Whether what tiles took for objects are parts of `one` that they cut.

    What is longer than the overlap need not lie whole in any tile, and a model that sees half an
    object may answer with a mask that ends before the border: then its score is the lower one.
    """
    return bool(parts) and all(part.extent > overlap and part.score < one.score for part in parts)


def _within(one: CropDetection, other: CropDetection) -> bool:
    return shared(one, other) >= SAME * one.area
