"""Drawn images for the merging of tiles: many equal objects, by a seeded generator.

By hand, figures of each kind, seed and tile size:
.venv/bin/python -m tests.helpers.regular_scenes FIRST LAST

An answer with tiles is compared with what each tile alone and the whole image alone show.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

import sam3_image
from sam3_image.crops.windows import Window, grid
from sam3_image.masks import Mask
from tests.helpers.cog_server import REPOSITORY
from tools.crops_measures import HIT

COLOURS = ((205, 32, 31), (34, 139, 34), (0, 90, 200), (245, 130, 32), (120, 40, 160))
GROUNDS = (128, 170, 200, 230, 255)
KINDS = ("grid", "row", "cluster", "nested", "touching", "large beside small")
TILES = (3, 5, 8)  # sides of the tiles, in sides of the small objects
GAP = 6  # pixels at least between objects that neither touch nor lie in one another

Square = tuple[int, int, int]  # left, top, side


@dataclass(frozen=True)
class Scene:
    """pixels: (H, W, 3) uint8. numbers: (H, W) int, 0 or the number of the object there, from 1."""

    pixels: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    word: str
    tile_sizes: tuple[int, ...]

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of the background and of each object."""
        return np.bincount(self.numbers.ravel())


def scene(kind: str, seed: int) -> Scene:
    """Draw squares or circles of 36 to 63 pixels on a plain background."""
    rng = np.random.default_rng([seed, 83, KINDS.index(kind)])
    side = int(rng.integers(36, 64))
    width, height = int(rng.integers(14, 20)) * side, int(rng.integers(9, 13)) * side
    places = _places(kind, side, (width, height), rng)
    word = str(rng.choice(("square", "circle")))
    first = int(rng.integers(len(COLOURS)))
    pixels = np.full((height, width, 3), rng.choice(GROUNDS), np.uint8)
    numbers = np.zeros((height, width), np.int64)
    plain = kind in ("grid", "row")
    for number, (x, y, own) in enumerate(places, start=1):
        shape = np.ones((own, own), np.uint8)
        if word == "circle":
            shape = cv2.circle(np.zeros_like(shape), (own // 2, own // 2), own // 2 - 1, 1, -1)
        colour = COLOURS[(first if plain else first + number) % len(COLOURS)]
        pixels[y : y + own, x : x + own][shape > 0] = colour
        numbers[y : y + own, x : x + own][shape > 0] = number
    return Scene(pixels, numbers, word, tuple(times * side for times in TILES))


def _places(kind: str, side: int, size: tuple[int, int], rng: np.random.Generator) -> list[Square]:
    width, height = size

    def somewhere(own: int) -> Square:
        return int(rng.integers(4, width - own - 4)), int(rng.integers(4, height - own - 4)), own

    if kind in ("grid", "row"):
        across, down = (side + int(rng.integers(side // 3, side)) for _ in range(2))
        down = down if kind == "grid" else 3 * side
        rows, columns = range(8, height - side, down), range(8, width - side, across)
        return [(x, y, side) for y in rows for x in columns]
    if kind == "touching":
        pairs = _apart(somewhere(2 * side) for _ in range(30))
        return [(x + step, y, side) for x, y, _ in pairs for step in (0, side)]
    if kind == "nested":
        large = _apart(somewhere(int(rng.integers(3 * side, 4 * side))) for _ in range(20))
        inner = [(x + (own - side) // 2, y + (own - side) // 2, side) for x, y, own in large]
        return [one for pair in zip(large, inner, strict=True) for one in pair]
    if kind == "large beside small":
        large = [somewhere(int(rng.integers(4 * side, 6 * side))) for _ in range(3)]
        return _apart([*large, *(somewhere(side) for _ in range(40))])
    middles = [somewhere(side) for _ in range(4)]
    shifts = rng.normal(0, 1.6 * side, (12, 4, 2)).astype(int)
    near = [
        (x + dx, y + dy, side)
        for own in shifts.tolist()
        for (x, y, _), (dx, dy) in zip(middles, own, strict=True)
    ]
    return _apart(one for one in near if 0 < one[0] < width - side and 0 < one[1] < height - side)


def _apart(places: Iterable[Square]) -> list[Square]:
    """Drop what is nearer than GAP to an earlier one."""
    kept: list[Square] = []
    for x, y, own in places:
        if all(
            max(x - u - other, u - x - own, y - v - other, v - y - own) >= GAP
            for u, v, other in kept
        ):
            kept.append((x, y, own))
    return kept


def hits(scene: Scene, masks: Iterable[Mask], window: Window | None = None) -> list[int]:
    """The object that each mask shows with an IoU of HIT, or 0; masks are in pixels of `window`."""
    numbers, areas = scene.numbers, scene.areas
    if window is not None:
        numbers = window.of(numbers)  # type: ignore[arg-type, assignment]
    found = []
    for mask in masks:
        shared = np.bincount(numbers[mask.window][mask.inside], minlength=len(areas))
        own = int(shared[1:].argmax()) + 1
        hit = shared[own] >= HIT * (mask.area + areas[own] - shared[own])
        found.append(own if hit else 0)
    return found


def compare(sam: sam3_image.Sam, scene: Scene, tile_size: int) -> Counter[str]:
    """Count objects: drawn, whole in a tile, found by such a tile alone, found with tiles, lost.

    An object is lost where a tile alone finds it, and the answer neither has it nor covers it with
    another drawn object.
    """
    answer = sam.find(scene.pixels, scene.word, tile_size=tile_size).detections
    own = hits(scene, answer.masks())
    alone: set[int] = set()
    held: set[int] = set()
    for window in grid(scene.numbers.shape, tile_size):  # type: ignore[arg-type]
        part = np.ascontiguousarray(window.of(scene.pixels))
        inside = np.bincount(window.of(scene.numbers).ravel(), minlength=len(scene.areas))
        whole = {int(one) for one in np.flatnonzero(inside == scene.areas) if one and inside[one]}
        seen = hits(scene, sam.find(part, scene.word).detections.masks(), window)
        held |= whole
        alone |= whole & set(seen)
    masks = list(answer.masks())
    lost = {one for one in alone - set(own) if not _covered(scene, one, masks, own)}
    plain = hits(scene, sam.find(scene.pixels, scene.word).detections.masks())
    return Counter(
        drawn=len(scene.areas) - 1,
        answers=len(own),
        found=len(set(own) - {0}),
        whole=len(held),
        alone=len(alone),
        lost=len(lost),
        doubles=sum(a == b != 0 for a, b in combinations(own, 2)),
        plain=len(set(plain) - {0}),
        plain_answers=len(plain),
    )


def _covered(scene: Scene, number: int, masks: list[Mask], own: list[int]) -> bool:
    area = scene.areas[number]
    return any(
        hit and np.count_nonzero(scene.numbers[mask.window][mask.inside] == number) >= area / 2
        for mask, hit in zip(masks, own, strict=True)
    )


def f1(counts: Counter[str]) -> float:
    """F1 of the answer with tiles."""
    return 2 * counts["found"] / max(1, counts["drawn"] + counts["answers"])


def main(first: int, last: int) -> None:
    """Print one line for each kind over all seeds and tile sizes."""
    sam = sam3_image.load(REPOSITORY / "weights" / "demo", device="cpu")
    for kind in KINDS:
        for index, times in enumerate(TILES):
            counts: Counter[str] = Counter()
            for seed in range(first, last + 1):
                drawn = scene(kind, seed)
                counts += compare(sam, drawn, drawn.tile_sizes[index])
            print(
                f"{kind}, tiles of {times} sides: F1 {f1(counts):.3f}, {dict(counts)}", flush=True
            )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
