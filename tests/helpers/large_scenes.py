"""Pictures for several looks: crowds, objects across seams, references. By the second hand.

Everything is drawn by `second_scenes`; here an object is painted into a window of the picture
alone, so that hundreds of them on megapixels take a second.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests.helpers.second_scenes import (
    PALETTE,
    SHAPE_FIELDS,
    TEXTURES,
    Drawn,
    _paint,
    _photo_background,
)

SHAPES = tuple(SHAPE_FIELDS)
CONTRAST = 60  # between an object and the background, of 255, in the channel that differs most
GAP = 4  # pixels at least between two objects' circles


class Canvas:
    """A picture that objects are painted on, apart from each other."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        """A photo-like background. size: (width, height) in pixels."""
        self.width, self.height = size
        self.rng = rng
        self.picture, self.tone = _photo_background(*size, rng)
        self.drawn: list[Drawn] = []
        self._circles: list[tuple[float, float, float]] = []

    def free(self, centre: tuple[float, float], extent: float) -> bool:
        """Whether an object there would touch no other."""
        return all(
            np.hypot(centre[0] - x, centre[1] - y) > (extent + other) / 2 + GAP
            for x, y, other in self._circles
        )

    def somewhere(self, extent: float) -> tuple[float, float] | None:
        """A free centre for an object of that extent, or None after 200 attempts."""
        for _ in range(200):
            margin = extent / 2 + 2
            centre = (
                self.rng.uniform(margin, self.width - margin),
                self.rng.uniform(margin, self.height - margin),
            )
            if self.free(centre, extent):
                return centre
        return None

    def colour(self) -> str:
        """A random colour that can be told from the background."""
        return str(self.rng.choice([c for c in PALETTE if self.visible(c)]))

    def visible(self, colour: str) -> bool:
        """Whether both tones of a colour differ enough from the background."""
        return all(np.abs(np.subtract(rgb, self.tone)).max() >= CONTRAST for rgb in PALETTE[colour])

    def add(
        self,
        shape: str,
        colour: str,
        centre: tuple[float, float],
        extent: float,
        texture: str = "solid",
    ) -> Drawn:
        """Paint one object; `centre` (x, y) and `extent` in pixels."""
        reach = extent / 2 + 3
        x0, y0 = max(0, int(centre[0] - reach)), max(0, int(centre[1] - reach))
        x1, y1 = (
            min(self.width, int(centre[0] + reach) + 1),
            min(self.height, int(centre[1] + reach) + 1),
        )
        rgb = PALETTE[colour][self.rng.integers(2)]
        turn = self.rng.uniform(0, 2 * np.pi) if self.rng.random() < 0.6 else 0.0
        inside = _paint(
            self.picture[y0:y1, x0:x1],
            shape,
            rgb,
            texture,
            (centre[0] - x0, centre[1] - y0),
            extent,
            turn,
            self.rng,
        )
        mask = np.zeros((self.height, self.width), dtype=bool)
        mask[y0:y1, x0:x1] = inside
        self._circles.append((*centre, extent))
        self.drawn.append(Drawn(shape, colour, texture, mask))
        return self.drawn[-1]

    def image(self) -> Image.Image:
        """The picture with noise, through JPEG."""
        noise = self.rng.normal(0, self.rng.uniform(0, 8), self.picture.shape).astype(np.float32)
        pixels = np.clip(self.picture + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        quality = int(self.rng.integers(50, 93))
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")


def crowd(
    seed: int,
    size: tuple[int, int] = (3000, 2000),
    count: int = 300,
    extents: tuple[float, float] = (36, 84),
) -> tuple[Image.Image, list[Drawn]]:
    """`count` solid objects of those extents in pixels, apart from each other."""
    canvas = Canvas(size, np.random.default_rng([seed, 78]))
    for _ in range(count):
        extent = canvas.rng.uniform(*extents)
        centre = canvas.somewhere(extent)
        if centre is None:
            raise ValueError(f"{count} objects of {extents} do not fit into {size}")
        canvas.add(str(canvas.rng.choice(SHAPES)), canvas.colour(), centre, extent)
    return canvas.image(), canvas.drawn


def few(
    seed: int,
    size: tuple[int, int] = (1600, 1200),
    count: int = 5,
    extents: tuple[float, float] = (100, 320),
) -> tuple[Image.Image, list[Drawn]]:
    """A few solid objects on a large picture, apart from each other."""
    canvas = Canvas(size, np.random.default_rng([seed, 79]))
    for _ in range(count):
        extent = canvas.rng.uniform(*extents)
        centre = canvas.somewhere(extent)
        assert centre is not None
        canvas.add(str(canvas.rng.choice(SHAPES)), canvas.colour(), centre, extent)
    return canvas.image(), canvas.drawn


def on_seams(
    seed: int, size: tuple[int, int] = (1000, 800), tile_size: int = 384
) -> tuple[Image.Image, list[Drawn]]:
    """One to four objects of 5 to 60 % of the shorter side, each across a seam between tiles.

    The seams are where tiles of `tile_size` that overlap by a quarter end.
    """
    canvas = Canvas(size, np.random.default_rng([seed, 80]))
    step = tile_size * 3 // 4
    for _ in range(int(canvas.rng.integers(1, 5))):
        extent = min(size) * canvas.rng.uniform(0.05, 0.60)
        for _attempt in range(50):
            centre = [canvas.rng.uniform(extent / 2, side - extent / 2) for side in size]
            axis = int(canvas.rng.integers(2))
            seam = step * int(canvas.rng.integers(1, size[axis] // step + 1))
            centre[axis] = seam + canvas.rng.uniform(-0.4, 0.4) * extent
            fits = extent / 2 <= centre[axis] <= size[axis] - extent / 2
            if fits and canvas.free((centre[0], centre[1]), extent):
                colour = canvas.colour()
                canvas.add(str(canvas.rng.choice(SHAPES)), colour, (centre[0], centre[1]), extent)
                break
    return canvas.image(), canvas.drawn


def reference_pair(
    seed: int, present: bool = True
) -> tuple[Image.Image, Drawn, Image.Image, list[Drawn]]:
    """A picture with one object to refer to, and another picture, which has its like or not.

    Objects are of any texture, 10 to 35 % of the side. Lookalikes have shape, color and texture in
    common; the other objects of the second picture differ from it in shape or color.
    """
    rng = np.random.default_rng([seed, 81])
    first, second = (Canvas(_size(rng), rng) for _ in range(2))
    both = [name for name in PALETTE if first.visible(name) and second.visible(name)]
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(both or list(PALETTE)))
    texture = str(rng.choice(TEXTURES, p=(0.6, 0.2, 0.2)))
    wanted = _scatter(first, [(shape, colour, texture)])[0]
    _scatter(first, [_other(first, wanted) for _ in range(2)])
    alike = int(rng.integers(1, 4)) if present else 0
    kinds = [(shape, colour, texture)] * alike
    kinds += [_other(second, wanted) for _ in range(int(rng.integers(1, 4)))]
    _scatter(second, kinds)
    return first.image(), wanted, second.image(), second.drawn


def _size(rng: np.random.Generator) -> tuple[int, int]:
    side, ratio = rng.uniform(350, 700), np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    return round(side * np.sqrt(ratio)), round(side / np.sqrt(ratio))


def _other(canvas: Canvas, wanted: Drawn) -> tuple[str, str, str]:
    """A kind of object that differs from `wanted` in shape or color."""
    while True:
        shape, colour = str(canvas.rng.choice(SHAPES)), canvas.colour()
        if (shape, colour) != (wanted.shape, wanted.colour):
            return shape, colour, str(canvas.rng.choice(TEXTURES, p=(0.6, 0.2, 0.2)))


def _scatter(canvas: Canvas, kinds: list[tuple[str, str, str]]) -> list[Drawn]:
    side = float(np.sqrt(canvas.width * canvas.height))
    placed = []
    for shape, colour, texture in kinds:
        extent = side * canvas.rng.uniform(0.10, 0.35)
        centre = canvas.somewhere(extent) if extent < min(canvas.width, canvas.height) else None
        if centre is None:
            extent = 0.1 * side
            centre = canvas.somewhere(extent)
        if centre is not None:
            placed.append(canvas.add(shape, colour, centre, extent, texture))
    return placed
