"""Drawn images on which a closer look can go wrong: touching, thin, nested and specked objects.

    pixels, objects = scene("touching", seed=7)

`pixels` is (H, W, 3) uint8 RGB, `objects` are `Drawn`. The same arguments give the same image.
`changes` asks a model about such an image with and without `refine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image import Instances, Sam
from tests.helpers.second_scenes import PALETTE, SHAPE_FIELDS, _photo_background, iou
from tests.http.test_prompts_http import central

KINDS = ("touching", "thin", "nested", "specked")
CONTRAST = 60  # between neighboring colors, of 255, in the channel that differs most


@dataclass(frozen=True)
class Drawn:
    """One drawn object.

    mask: (H, W) bool, the pixels of it that can be seen.
    whole: the same with everything that lies in front of it.
    front: the masks of what lies in front of it, without regard to what hides these.
    """

    shape: str
    mask: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    front: tuple[NDArray[np.bool_], ...] = ()

    def iou(self, mask: NDArray[np.bool_]) -> float:
        """IoU with the object, seen with or without what is in front of it: the better one."""
        seen = [self.mask, self.whole, *(self.whole & ~one for one in self.front)]
        return max(iou(one, mask) for one in seen)


@dataclass(frozen=True)
class Change:
    """IoU of one mask with what it shows, without and with `refine`."""

    what: str
    before: float
    after: float


class _Painter:
    def __init__(self, rng: np.random.Generator) -> None:
        side, ratio = rng.uniform(450, 1300), np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
        self.rng = rng
        self.size = round(side / np.sqrt(ratio)), round(side * np.sqrt(ratio))
        self.pixels, self.tone = _photo_background(self.size[1], self.size[0], rng)
        self.objects: list[Drawn] = []

    def color(self, other: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """A color that can be told from `other`, by default from the background."""
        other = self.tone if other is None else other
        tones = [np.array(rgb, float) for pair in PALETTE.values() for rgb in pair]
        return self.rng.choice([rgb for rgb in tones if np.abs(rgb - other).max() >= CONTRAST])

    def paint(
        self,
        shape: str,
        rgb: NDArray[np.float64],
        center: tuple[float, float],
        extents: tuple[float, float],
        turn: float = 0.0,
    ) -> None:
        """Paint one object in front of the others; center and extents (x, y) in pixels."""
        height, width = self.size
        x = (np.arange(width) + 0.5 - center[0])[None]
        y = (np.arange(height) + 0.5 - center[1])[:, None]
        u = (x * np.cos(turn) + y * np.sin(turn)) / (extents[0] / 2)
        v = (y * np.cos(turn) - x * np.sin(turn)) / (extents[1] / 2)
        mask = SHAPE_FIELDS[shape](u, v) < 0
        cover = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6)[..., None]
        self.pixels += cover * (rgb - self.pixels)
        self.objects = [
            Drawn(one.shape, one.mask & ~mask, one.whole, (*one.front, mask))
            if (one.whole & mask).any()
            else one
            for one in self.objects
        ]
        self.objects.append(Drawn(shape, mask, mask))

    def touching(self) -> None:
        """A row of objects of one shape, mostly of one color too, up to 6 pixels apart."""
        count, gap = int(self.rng.integers(2, 5)), self.rng.uniform(0, 6)
        across = int(self.rng.integers(2))
        room = min(self.size[1 - across] / count, self.size[across])
        extent = room * self.rng.uniform(0.3, 0.8)
        shape, rgb = str(self.rng.choice(list(SHAPE_FIELDS))), self.color()
        reach = 0.8 if shape == "square" else 0.95  # of half the extent
        step = extent * reach + gap
        for index in range(count):
            along = (index - (count - 1) / 2) * step
            center = np.array(self.size[::-1]) / 2 + np.array([along, 0])[:: -1 if across else 1]
            own = rgb if self.rng.random() < 0.7 else self.color()
            self.paint(shape, own, (center[0], center[1]), (extent, extent))

    def apart(self, thin: bool) -> None:
        """Up to four objects, each in its own quarter."""
        height, width = self.size
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if self.rng.random() < 0.25:
                continue
            long = min(self.size) / 2 * self.rng.uniform(0.35, 0.85)
            short = long * (self.rng.uniform(0.06, 0.25) if thin else self.rng.uniform(0.6, 1))
            center = (width * (0.25 + 0.5 * column), height * (0.25 + 0.5 * row))
            shapes = ["square", "ring", "circle", "triangle"] if thin else list(SHAPE_FIELDS)
            turn = self.rng.uniform(0, np.pi)
            self.paint(str(self.rng.choice(shapes)), self.color(), center, (long, short), turn)

    def nested(self) -> None:
        """One or two objects, each with one or two others in front of its middle."""
        height, width = self.size
        for column in range(int(self.rng.integers(1, 3))):
            extent = min(height, width / 2) * self.rng.uniform(0.4, 0.85)
            center = (width * (0.25 + 0.5 * column), height * self.rng.uniform(0.45, 0.55))
            rgb = self.color()
            for _ in range(int(self.rng.integers(2, 4))):
                shape = str(self.rng.choice(["circle", "square", "hexagon", "heart", "star"]))
                self.paint(shape, rgb, center, (extent, extent), self.rng.uniform(0, np.pi))
                extent *= self.rng.uniform(0.35, 0.6)
                rgb = self.color(rgb)

    def specked(self) -> None:
        """Objects apart, and specks of their colors all over the image."""
        self.apart(thin=False)
        colors = [self.pixels[one.mask].mean(axis=0) for one in self.objects] or [self.color()]
        for _ in range(int(self.rng.integers(5, 60))):
            x, y = (int(self.rng.uniform(0, side)) for side in self.size[::-1])
            if any(
                one.mask[max(0, y - 12) : y + 12, max(0, x - 12) : x + 12].any()
                for one in self.objects
            ):
                continue
            rgb = tuple(float(v) for v in colors[self.rng.integers(len(colors))])
            cv2.circle(self.pixels, (x, y), int(self.rng.integers(2, 9)), rgb, -1, cv2.LINE_AA)


def scene(kind: str, seed: int) -> tuple[NDArray[np.uint8], list[Drawn]]:
    """One image of a kind, and what was drawn on it, in drawing order."""
    rng = np.random.default_rng([seed, 82, KINDS.index(kind)])
    painter = _Painter(rng)
    {
        "touching": painter.touching,
        "thin": lambda: painter.apart(thin=True),
        "nested": painter.nested,
        "specked": painter.specked,
    }[kind]()
    noise = rng.normal(0, rng.uniform(0, 8), painter.pixels.shape)
    pixels = np.clip(painter.pixels + noise, 0, 255).astype(np.uint8)
    return pixels, [one for one in painter.objects if one.mask.sum() >= 200]


def changes(sam: Sam, kind: str, seed: int) -> Iterator[Change]:
    """What `refine` does to every mask of one scene, found by words, by clicks and by boxes.

    A mask shows the object with which it has the highest IoU, or the row of touching objects; a
    mask with an IoU below 0.5 shows nothing and is left out.
    """
    pixels, objects = scene(kind, seed)
    rows = objects[:]
    if kind == "touching":
        for first in range(len(objects)):
            for last in range(first + 2, len(objects) + 1):
                row = np.logical_or.reduce([one.mask for one in objects[first:last]])
                rows.append(Drawn("row", row, row))
    for what, ask in _prompts(sam, pixels, objects):
        for index, (before, after) in enumerate(
            zip(ask(refine=False).masks(), ask(refine=True).masks(), strict=True)
        ):
            shown = max(rows, key=lambda one: one.iou(before), default=None)
            if shown is not None and shown.iou(before) >= 0.5:
                name = f"{kind} {seed} {what} {index}"
                yield Change(name, shown.iou(before), shown.iou(after))


def _prompts(
    sam: Sam, pixels: NDArray[np.uint8], objects: Sequence[Drawn]
) -> Iterator[tuple[str, Callable[..., Instances]]]:
    for word in ("shape", *dict.fromkeys(one.shape for one in objects)):
        yield f"find {word}", partial(sam.find, pixels, word)
    for one in objects:
        yield f"click on {one.shape}", partial(sam.pick, pixels, points=[central(one.mask)])
    for one in objects:
        x, y, width, height = cv2.boundingRect(one.whole.astype(np.uint8))
        box = [[x, y, x + width, y + height]]
        yield f"box around {one.shape}", partial(sam.pick, pixels, boxes=box)
