"""Pictures of drawn shapes for tests, by another hand than the demo checkpoint's training.

Nothing here comes from `demo_checkpoint`: shapes are signed distance fields evaluated in NumPy,
edges are smoothed from the distance itself, backgrounds are photo-like noise, and every random
picture went through JPEG. Two ways to use it:

    image, objects = arranged(["red circle", "red circle", "blue square"])   # side by side, stable
    image, objects = random_picture(seed=7)                                  # anything, anywhere

`image` is an RGB `PIL.Image`. `objects` are `Drawn` with `shape`, `colour`, `texture`, `name`
("red circle"), `mask` (bool, height × width, the visible pixels) and `box` (x0, y0, x1, y1 in
pixels around the mask, right and bottom exclusive), in drawing order, later ones in front. The
same arguments give the same picture on every machine. `iou(a, b)` compares two masks.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]

PALETTE = {
    "red": [(205, 32, 31), (237, 28, 36)],
    "green": [(34, 139, 34), (60, 180, 75)],
    "blue": [(0, 90, 200), (67, 99, 216)],
    "yellow": [(255, 225, 25), (245, 205, 40)],
    "orange": [(245, 130, 32), (255, 152, 0)],
    "purple": [(120, 40, 160), (145, 60, 180)],
    "pink": [(255, 150, 190), (244, 130, 180)],
    "black": [(12, 12, 14), (24, 22, 22)],
    "white": [(250, 250, 248), (243, 244, 246)],
    "grey": [(120, 122, 124), (145, 143, 140)],
}
TEXTURES = ("solid", "striped", "dotted")


@dataclass(frozen=True)
class Drawn:
    """One object of a picture; see the module."""

    shape: str
    colour: str
    texture: str
    mask: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def box(self) -> tuple[float, float, float, float]:
        rows = np.flatnonzero(self.mask.any(axis=1))
        columns = np.flatnonzero(self.mask.any(axis=0))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool masks of one shape."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def arranged(
    names: list[str],
    size: tuple[int, int] = (640, 480),
    *,
    background: tuple[int, int, int] | None = None,
    diameter: float = 0.26,
) -> tuple[Image.Image, list[Drawn]]:
    """The named objects, apart from each other on a calm background, in reading order.

    `names`: "red circle" or "striped red circle", at most 12. `size`: width, height in pixels.
    `diameter`: of each object, as a fraction of the shorter side.
    """
    columns = int(np.ceil(np.sqrt(len(names) * size[0] / size[1])))
    columns = max(1, min(columns, len(names)))
    rows = -(-len(names) // columns)
    base = background or (214, 206, 192)
    picture = np.full((size[1], size[0], 3), base, np.float32)
    extent = min(diameter * min(size), 0.8 * size[0] / columns, 0.8 * size[1] / rows)
    drawn: list[Drawn] = []
    for index, name in enumerate(names):
        *words, colour, shape = name.split()
        centre = (
            (index % columns + 0.5) * size[0] / columns,
            (index // columns + 0.5) * size[1] / rows,
        )
        texture = words[0] if words else "solid"
        rng = np.random.default_rng(index)
        mask = _paint(picture, shape, PALETTE[colour][0], texture, centre, extent, 0.0, rng)
        drawn.append(Drawn(shape, colour, texture, mask))
    return Image.fromarray(picture.round().astype(np.uint8)), drawn


def random_picture(seed: int, *, most: int = 8) -> tuple[Image.Image, list[Drawn]]:
    """A random picture: 0 to `most` objects of 5 to 40 % of the side, some overlapping.

    The side is the geometric mean of width and height, whose ratio is 0.4 to 2.5.
    """
    rng = np.random.default_rng([seed, 77])
    ratio = np.exp(rng.uniform(np.log(0.4), np.log(2.5)))
    side = rng.uniform(300, 800)
    width, height = round(side * np.sqrt(ratio)), round(side / np.sqrt(ratio))
    picture, tone = _photo_background(width, height, rng)
    drawn: list[Drawn] = []
    for _ in range(int(rng.integers(0, most + 1))):
        for _attempt in range(15):
            shape = str(rng.choice(list(SHAPE_FIELDS)))
            colour = str(rng.choice(list(PALETTE)))
            rgb = PALETTE[colour][rng.integers(2)]
            extent = side * rng.uniform(0.05, 0.40)
            inner = min(extent / 2, width / 2, height / 2)
            centre = (rng.uniform(inner, width - inner), rng.uniform(inner, height - inner))
            texture = str(rng.choice(TEXTURES, p=(0.6, 0.2, 0.2)))
            if extent < 0.1 * side:
                texture = "solid"
            turn = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else 0.0
            trial = picture.copy()
            mask = _paint(trial, shape, rgb, texture, centre, extent, turn, rng)
            if np.abs(np.subtract(rgb, tone)).max() < 60:
                continue
            if any(
                (other.mask & ~mask).sum() < 0.6 * other.mask.sum()
                or (other.colour == colour and (other.mask & mask).any())
                for other in drawn
            ):
                continue
            picture = trial
            drawn = [Drawn(o.shape, o.colour, o.texture, o.mask & ~mask) for o in drawn]
            drawn.append(Drawn(shape, colour, texture, mask))
            break
    picture += rng.normal(0, rng.uniform(0, 8), picture.shape).astype(np.float32)
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(50, 93)))
    return Image.open(buffer).convert("RGB"), drawn


def _photo_background(
    width: int, height: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Light falling off over a rough surface: a tone, a slope, and noise whose spectrum falls."""
    tone = rng.uniform(25, 230) + rng.uniform(-30, 30, 3)
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / max(width, height)) ** 1.2
    phases = np.exp(2j * np.pi * rng.random(amplitude.shape))
    rough = np.fft.irfft2(amplitude * phases, s=(height, width))
    rough *= rng.uniform(0, 13) / max(rough.std(), 1e-9)
    slope = np.linspace(-1, 1, width)[None] * rng.uniform(-18, 18)
    slope = slope + np.linspace(-1, 1, height)[:, None] * rng.uniform(-18, 18)
    picture = tone + (rough + slope)[..., None]
    return np.clip(picture, 0, 255).astype(np.float32), np.clip(tone, 0, 255)


def _paint(
    picture: np.ndarray,
    shape: str,
    rgb: tuple[int, int, int],
    texture: str,
    centre: tuple[float, float],
    extent: float,
    turn: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Blend one object into `picture` (float32 H×W×3) in place; returns its bool mask."""
    height, width = picture.shape[:2]
    x = (np.arange(width) + 0.5 - centre[0])[None] / (extent / 2)
    y = (np.arange(height) + 0.5 - centre[1])[:, None] / (extent / 2)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    distance = SHAPE_FIELDS[shape](u, v) * (extent / 2)
    cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)[..., None]
    colour = np.array(rgb, np.float32)
    bright = colour @ np.array([0.3, 0.59, 0.11], np.float32)
    other = np.array([245.0] * 3 if bright < 150 else [35.0] * 3, np.float32)
    period = rng.uniform(0.3, 0.55)
    if texture == "striped":
        lean = rng.uniform(0, np.pi)
        wave = np.abs(((u * np.cos(lean) + v * np.sin(lean)) / period) % 1 - 0.5) - 0.31
        share = np.clip(0.5 - (-wave) * period * extent / 2, 0, 1)
    elif texture == "dotted":
        p, q = (u / period) % 1 - 0.5, (v / period) % 1 - 0.5
        share = np.clip(0.5 - (np.hypot(p, q) - 0.27) * period * extent / 2, 0, 1)
    else:
        share = np.zeros((height, width))
    paint = colour + share.astype(np.float32)[..., None] * (other - colour)
    picture += cover * (paint - picture)
    return distance < 0


def _box_field(u: np.ndarray, v: np.ndarray, half_u: float, half_v: float) -> np.ndarray:
    a, b = np.abs(u) - half_u, np.abs(v) - half_v
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0)


def _convex_field(corners: int, apothem: float) -> Field:
    def field(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        angles = np.pi / 2 + np.arange(corners) * 2 * np.pi / corners
        sides = [u * np.cos(a) + v * np.sin(a) - apothem for a in angles]
        return np.maximum.reduce(np.broadcast_arrays(*sides))

    return field


def _star_field(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    sector = 2 * np.pi / 5
    angle = (np.arctan2(u, -v) + sector / 2) % sector - sector / 2
    radius = np.hypot(u, v)
    px, py = radius * np.cos(angle), radius * np.abs(np.sin(angle))
    # The edge runs from the tip (1, 0) to the notch at half a sector and radius 0.42.
    tip, notch = (1.0, 0.0), (0.42 * np.cos(sector / 2), 0.42 * np.sin(sector / 2))
    ex, ey = notch[0] - tip[0], notch[1] - tip[1]
    along = np.clip(((px - tip[0]) * ex + (py - tip[1]) * ey) / (ex * ex + ey * ey), 0, 1)
    far = np.hypot(px - tip[0] - along * ex, py - tip[1] - along * ey)
    inside = (px - tip[0]) * ey - (py - tip[1]) * ex < 0
    return np.where(inside, -far, far)


def _heart_field(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Two arcs over a point, as Inigo Quilez gives the exact distance; v points down."""
    scale = 0.6
    p, q = np.broadcast_arrays(np.abs(u) * scale, 0.54 - v * scale)
    arc = np.hypot(p - 0.25, q - 0.75) - np.sqrt(2) / 4
    fold = 0.5 * np.maximum(p + q, 0)
    wedge = np.minimum(np.hypot(p, q - 1), np.hypot(p - fold, q - fold)) * np.sign(p - q)
    return np.where(p + q > 1, arc, wedge) / scale


SHAPE_FIELDS: dict[str, Field] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.95,
    "square": lambda u, v: _box_field(u, v, 0.8, 0.8),
    "triangle": _convex_field(3, 0.52),
    "hexagon": _convex_field(6, 0.84),
    "star": _star_field,
    "heart": _heart_field,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.74) - 0.21,
    "cross": lambda u, v: np.minimum(_box_field(u, v, 0.95, 0.3), _box_field(u, v, 0.3, 0.95)),
}
