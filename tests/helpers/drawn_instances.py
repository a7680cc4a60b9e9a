"""Detections and pictures made by hand, so that a test knows every pixel of every mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam3_image.masks.detections import Detections, LowResMasks
from sam3_image.output.canvas import Canvas, Pixels, Style

Bools = NDArray[np.bool_]


def instances_of(
    masks: Sequence[Bools],
    size: tuple[int, int] | None = None,
    concepts: Sequence[str] | None = None,
    prompts: Sequence[int] | None = None,
) -> Detections:
    """Detections with exactly these masks, each (H, W) bool; scores fall from 0.95.

    The maps have the size of the image, where upsampling changes nothing.
    """
    size = size or masks[0].shape
    count = len(masks)
    boxes = np.zeros((count, 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if rows.size:
            box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return Detections(
        size=size,
        source=LowResMasks(np.array(masks, dtype=np.float32).reshape(count, *size), 0.5, size),
        boxes=boxes,
        scores=np.linspace(0.95, 0.55, count, dtype=np.float32),
        presence=np.full(count, 0.97, dtype=np.float32),
        concepts=tuple(concepts or ["thing"] * count),
        candidates=np.arange(count, dtype=np.int64) % 3,
        prompts=np.array(prompts or [0] * count, dtype=np.int64),
    )


def photo(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 noise: every value occurs, nothing is flat."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Bools:
    """Pixels whose centre is at most `radius` from `centre` = (y, x)."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def ring(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Bools:
    """A disc with a hole of half its radius."""
    return disc(size, centre, radius) & ~disc(size, centre, radius / 2)


def many_masks(count: int, size: tuple[int, int], seed: int) -> list[Bools]:
    """The shapes that break encoders, then random ones: blobs, noise, rings, several parts."""
    rng = np.random.default_rng(seed)
    empty = np.zeros(size, dtype=bool)
    masks = [empty, ~empty]
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1), (size[0] // 2, size[1] // 2)):
        pixel, without = empty.copy(), ~empty
        pixel[y, x] = True
        without[y, x] = False
        masks += [pixel, without]
    column, rows, checks, corner = (empty.copy() for _ in range(4))
    column[:, 3:6] = True  # whole columns: their runs join
    rows[[0, -1]] = True  # the end of each column joins the start of the next
    checks[::2, ::2] = checks[1::2, 1::2] = True  # parts that touch at corners only
    corner[-7:, -9:] = True
    masks += [column, rows, checks, corner]
    for index in range(count - len(masks)):
        centre = rng.uniform(0, 1, 2) * size
        radius = rng.uniform(0.02, 0.6) * min(size)
        kinds = (
            disc(size, centre, radius),
            ring(size, centre, radius),
            disc(size, centre, radius) & (rng.random(size) > 0.1),
            ring(size, centre, radius) | disc(size, rng.uniform(0, 1, 2) * size, radius / 3),
            rng.random(size) > rng.uniform(0.02, 0.98),
        )
        masks.append(kinds[index % len(kinds)])
    return masks


def scene(seed: int) -> list[Bools]:
    """Ten masks of one image that formats get wrong: holes, parts, one pixel, one at each border.

    The image has 60 to 160 pixels a side.
    """
    rng = np.random.default_rng(seed)
    height, width = size = (int(rng.integers(60, 160)), int(rng.integers(60, 160)))
    centre = rng.uniform(0.4, 0.6, 2) * size
    two_holes = disc(size, centre, 26) & ~disc(size, centre + np.array([0, 12]), 6)
    two_holes &= ~disc(size, centre - np.array([8, 12]), 5)
    parts = disc(size, (15, 15), 9) | ring(size, (height - 20, width - 22), 14)
    island = ring(size, centre, 24) | disc(size, centre, 5)
    pixel = np.zeros(size, dtype=bool)
    pixel[tuple(rng.integers(0, size))] = True
    middles = ((0, width / 2), (height - 1, width / 2), (height / 2, 0), (height / 2, width - 1))
    borders = [disc(size, middle, rng.uniform(5, 15)) for middle in middles]
    frayed = disc(size, centre, 20) & (rng.random(size) > 0.2)
    return [two_holes, parts, island, pixel, *borders, frayed, ring(size, centre, 9)]


def canvas_of(pixels: Pixels, instances: Detections, style: Style | None = None) -> Canvas:
    """The canvas with every instance drawn on it, as a prediction does it."""
    canvas = Canvas(pixels, style)
    for mask in instances.masks():
        canvas.add(mask)
    return canvas


def overlay(pixels: Pixels, instances: Detections, style: Style) -> Pixels:
    """The picture with every instance tinted."""
    return canvas_of(pixels, instances, style).overlay(instances)


def filled(rings: list[Any], size: tuple[int, int]) -> Bools:
    """Even-odd filling, a pixel being in when its centre is; no library, so no convention."""
    crossings = np.zeros((size[0], size[1] + 1), dtype=np.int64)
    if rings:
        starts = np.concatenate([np.asarray(r, dtype=np.float64) for r in rings])
        stops = np.concatenate(
            [np.roll(np.asarray(r, dtype=np.float64), -1, axis=0) for r in rings]
        )
        low, high = np.minimum(starts[:, 1], stops[:, 1]), np.maximum(starts[:, 1], stops[:, 1])
        first, end = np.ceil(low - 0.5).astype(int), np.ceil(high - 0.5).astype(int)
        edge = np.repeat(np.arange(len(starts)), end - first)  # once for each row that it crosses
        row = np.arange(len(edge)) - np.repeat(np.cumsum(end - first) - end, end - first)
        (x0, y0), (x1, y1) = starts[edge].T, stops[edge].T
        crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(crossings, (row, np.ceil(crossing - 0.5).astype(int)), 1)
    return (crossings.cumsum(axis=1)[:, :-1] % 2).astype(bool)
