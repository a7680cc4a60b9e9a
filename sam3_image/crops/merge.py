"""Merge the instances found in tiles, in the whole image and in closer looks: each object once.

Everything here compares masks of one concept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam3_image.crops.detection import CropDetection, hull, shared
from sam3_image.crops.windows import Box

# Share of the smaller of two masks that lies in the other one from which they are one object.
SAME = 0.5
# Share of a large mask below which one instance inside it may be a corner of it.
SMALL = 0.25
# Ratio of the smallest to the largest of several objects from which they are of equal size.
ALIKE = 0.5
# IoU of two masks from which they also show the same of it.
EQUAL = 0.5
# IoU of two boxes of the model from which they are of one object. Two touching objects taken for
# one have a box that shares half with the box of each.
SAME_BOX = 0.6
# Ratio of a mask to the largest one with the same box below which it shows a part of the object.
PARTIAL = 0.6
# Share of a large mask below which several instances inside it may be corners of it.
SPARSE = 0.08
# How much more than the instances inside a large mask the cut pieces must be to confirm it.
MANY = 3
# Share of the smaller of two pieces that lies in the other one from which they are of one object.
# Neighboring objects' masks share a few pixels; pieces of one share a quarter of a tile.
JOINED = 0.1


@dataclass(frozen=True)
class Merged:
    """kept: each object once. doubtful: those that need a closer look, best score first."""

    kept: list[CropDetection]
    doubtful: list[CropDetection]


def merge(
    tiles: Iterable[CropDetection], overview: Iterable[CropDetection], tile_size: int
) -> Merged:
    """Merge what was found of one concept in the tiles and in the whole image (the overview).

    An object no longer than the tiles' overlap lies whole in at least one tile, so for these only
    instances that a tile holds whole count. An instance cut by a tile's border belongs to an object
    that is whole in another tile, unless it reaches deeper than the overlap: then, if no whole
    instance covers it, it is doubtful. So is an instance whose mask contradicts its box, and one
    that only the overview has although a tile would show it larger. The overview's instance
    replaces those of tiles only on evidence from the tiles: see `_with_overview`.
    """
    overlap = tile_size // 4
    seen = list(tiles)
    kept = unique(one for one in seen if one.whole)
    pieces = [one for one in seen if not one.whole]
    doubtful: list[CropDetection] = []
    for one in unique([one for one in overview if one.consistent and one.extent > overlap]):
        kept, alone = _with_overview(kept, one, pieces, overlap)
        if alone and one.extent <= tile_size / 2:
            doubtful.append(one)
        elif alone:
            kept.append(one)
    deep = [one for one in seen if one.consistent and overlap < one.depth < math.inf]
    unsure = [one for one in kept if not one.consistent]
    kept = [one for one in kept if one.consistent]
    doubtful += [one for one in (*deep, *unsure) if not any(_within(one, other) for other in kept)]
    return Merged(kept, sorted(doubtful, key=lambda one: -one.score))


def unique(instances: Iterable[CropDetection]) -> list[CropDetection]:
    """Keep, of instances that are one object, the one with the best score.

    Masks that show a part of the object come last: those that do not fill their box, and those less
    than `PARTIAL` times as large as another mask with the same box.
    """
    found = list(instances)
    partial = _partial(found)
    order = sorted(
        range(len(found)),
        key=lambda index: (partial[index], not found[index].consistent, -found[index].score),
    )
    ordered = [found[index] for index in order]
    boxes = np.array([one.around for one in ordered], dtype=np.float32).reshape(-1, 4)
    kept: list[int] = []
    for index, one in enumerate(ordered):
        x0, y0, x1, y1 = boxes[kept].T
        near = (x0 < one.around[2]) & (x1 > one.around[0])
        near &= (y0 < one.around[3]) & (y1 > one.around[1])
        if not any(same(one, ordered[kept[other]]) for other in np.flatnonzero(near)):
            kept.append(index)
    return [ordered[index] for index in kept]


def _partial(found: Sequence[CropDetection]) -> list[bool]:
    """For each instance, whether another one with about the same box has a much larger mask.

    In a crowd the model may give only fragments of a mask, with a sure score and the right box.
    """
    if not found:
        return []
    boxes = np.array([one.box for one in found], dtype=np.float32)
    areas = np.array([one.area for one in found])
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    partial = []
    for box, area, side in zip(boxes, areas, sides, strict=True):
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        common = np.maximum(high - low, 0).prod(axis=1)
        union = sides.prod(axis=1) + side.prod() - common
        partial.append(bool(((common >= SAME_BOX * union) & (area < PARTIAL * areas)).any()))
    return partial


def same(one: CropDetection, other: CropDetection) -> bool:
    """Whether two masks show one object: half of the smaller lies in the larger."""
    return shared(one, other) >= SAME * min(one.area, other.area)


def groups(doubtful: Iterable[CropDetection]) -> list[tuple[CropDetection, Box]]:
    """Join pieces of one object; each group is its best instance and the box around all of it."""
    found: list[list[CropDetection]] = []
    for one in doubtful:
        mine = [group for group in found if any(_joined(one, other) for other in group)]
        found = [group for group in found if group not in mine]
        found.append([other for group in mine for other in group] + [one])
    best = [(max(group, key=lambda one: one.score), group) for group in found]
    return [(first, hull(one.around for one in group)) for first, group in best]


def _joined(one: CropDetection, other: CropDetection) -> bool:
    return shared(one, other) >= JOINED * min(one.area, other.area)


def _with_overview(
    kept: list[CropDetection], one: CropDetection, pieces: Sequence[CropDetection], overlap: float
) -> tuple[list[CropDetection], bool]:
    """Weigh one instance of the overview against those that tiles hold whole.

    pieces: what inner borders of the tiles cut. Returns the tiles' instances that remain, and
    whether the overview's is an instance of its own beside them.
    """
    common = [shared(one, other) for other in kept]
    for index, (count, other) in enumerate(zip(common, kept, strict=True)):
        if count >= EQUAL * (one.area + other.area - count):
            best = max(one.score, other.score)
            return [*kept[:index], replace(other, score=best), *kept[index + 1 :]], False
    inside = [count >= SAME * other.area for count, other in zip(common, kept, strict=True)]
    parts = [other for part, other in zip(inside, kept, strict=True) if part]
    covered = sum(common) >= SAME * one.area
    if not _cut(parts, one, overlap) or not (covered or len(parts) == 1):
        if covered:
            return kept, False  # tiles explain most of it: a blur of several objects
        if _outweigh(parts, one) and not _confirmed(one, parts, kept, pieces):
            return kept, False
    # Parts of a large object that look like one themselves in a tile.
    return [other for part, other in zip(inside, kept, strict=True) if not part], True


def _outweigh(parts: Sequence[CropDetection], one: CropDetection) -> bool:
    """Whether the tiles' instances inside `one` speak against it, however little they cover.

    Among many equal objects the overview smears a mask over several of them and the gaps between.
    So several of about equal size do. Corners of one object that look like objects differ in size,
    are two at most, or cover next to nothing of it, and are less sure. A single instance speaks
    against it, too, if it is no mere corner and scores higher.
    """
    whole = [part for part in parts if part.consistent]
    areas = [part.area for part in whole]
    if len(areas) > 1 and min(areas) >= ALIKE * max(areas):
        surer = 2 * sum(part.score > one.score for part in whole) > len(whole)
        if surer or (len(areas) > 2 and sum(areas) >= SPARSE * one.area):
            return True
    return any(part.area >= SMALL * one.area and part.score > one.score for part in parts)


def _confirmed(
    one: CropDetection,
    parts: Sequence[CropDetection],
    kept: Sequence[CropDetection],
    pieces: Sequence[CropDetection],
) -> bool:
    """Whether tiles saw a large object in the place of `one`: pieces of it cut by their borders.

    Pieces of what another tile holds whole say nothing. Since tiles overlap, most of an object is
    in two pieces at least; the bound counts each. Less will do where `parts`, the instances inside
    `one`, are small beside the pieces.
    """
    cut = [piece for piece in pieces if _within(piece, one)]
    cut = [piece for piece in cut if not any(_within(piece, other) for other in kept)]
    against = MANY * sum(part.area for part in parts)
    return sum(piece.area for piece in cut) >= min(one.area, against)


def _cut(parts: list[CropDetection], one: CropDetection, overlap: float) -> bool:
    """Whether the tiles' instances are halves of `one`.

    An object longer than the overlap may be whole in no tile, and a model that is shown half of it
    may answer with a mask that ends before the border; its score is then lower than that of `one`.
    """
    return bool(parts) and all(part.extent > overlap and part.score < one.score for part in parts)


def _within(one: CropDetection, other: CropDetection) -> bool:
    return shared(one, other) >= SAME * one.area
