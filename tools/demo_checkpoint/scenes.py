"""Random scenes of drawn shapes: what is in them, and where.

A scene is a description in fractions of the picture, so that the same scene can be drawn at any
size. Coordinates are (x, y) with the origin at the top left, both in 0-1 of width and height.
"Size" of an object is its largest extent over the geometric mean of the picture's sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from tools.demo_checkpoint.shapes import accent, outline, scaled, shade
from tools.demo_checkpoint.vocabulary import COLOURS, SHAPES, TEXTURES

PLACEMENT_GRID = 128  # cells per side on which overlaps are measured
MIN_VISIBLE = 0.55  # of its own area; less is no longer recognisable
MIN_TEXTURED_SIZE = 0.085  # smaller stripes and dots vanish in so small an input


@dataclass(frozen=True)
class SceneOptions:
    """What scenes look like; the defaults are the full difficulty.

    `sizes`: smallest and largest object size. `aspects`: width over height of the picture.
    `objects`: fewest and most. `crowding`: chance that a scene clusters its objects.
    """

    objects: tuple[int, int] = (0, 8)
    sizes: tuple[float, float] = (0.045, 0.45)
    aspects: tuple[float, float] = (0.4, 2.5)
    pixels: tuple[int, int] = (220, 420)  # geometric mean of the drawn sides
    min_visible: float = MIN_VISIBLE
    crowding: float = 0.25
    repeats: float = 0.35  # chance that an object shares attributes with an earlier one
    twins: float = 0.3  # chance that such an object is the same in everything but place
    small: float = 0.5  # chance that a size is drawn so as to favour the small, the hard ones
    plain: bool = False  # only plain backgrounds, no noise


@dataclass(frozen=True)
class Item:
    """One object; `polygon` and `hole` are float64 (N, 2) in fractions of the picture."""

    shape: str
    colour: str
    texture: str
    polygon: np.ndarray
    hole: np.ndarray | None
    rgb: tuple[int, int, int]
    accent: tuple[int, int, int]
    pattern: tuple[float, float, float]  # angle, period as a fraction of size, duty
    border: tuple[tuple[int, int, int], float] | None  # colour, width as a fraction of size
    size: float


@dataclass(frozen=True)
class Scene:
    """Objects from back to front on a background; `seed` fixes every random detail of drawing."""

    width: int
    height: int
    items: tuple[Item, ...]
    background: tuple[int, int, int]
    seed: int
    options: SceneOptions = field(default_factory=SceneOptions)


def random_scene(seed: tuple[int, ...] | int, options: SceneOptions | None = None) -> Scene:
    """Return the scene of this seed."""
    options = options or SceneOptions()
    rng = np.random.default_rng(seed)
    aspect = np.exp(rng.uniform(*np.log(options.aspects)))
    side = rng.uniform(*options.pixels)
    width, height = round(side * np.sqrt(aspect)), round(side / np.sqrt(aspect))
    background = _background_tone(rng)
    wanted = int(rng.integers(options.objects[0], options.objects[1] + 1))
    crowded = rng.random() < options.crowding
    items: list[Item] = []
    visible: list[tuple[np.ndarray, int]] = []
    for _ in range(wanted):
        for _attempt in range(12):
            item = _random_item(rng, options, background, width / height, items, crowded)
            new = footprint(item)
            if _fits(new, visible, options.min_visible) and _told_apart(item, new, items, visible):
                visible = [(mask & ~new, area) for mask, area in visible]
                visible.append((new, int(new.sum())))
                items.append(item)
                break
    return Scene(width, height, tuple(items), background, int(rng.integers(2**31)), options)


def footprint(item: Item, cells: int = PLACEMENT_GRID) -> np.ndarray:
    """Return the item's own area, hidden parts included: bool (cells, cells)."""
    canvas = Image.new("L", (cells, cells))
    _fill(ImageDraw.Draw(canvas), item, (cells, cells), 1)
    return np.asarray(canvas) > 0


def label_map(scene: Scene, width: int, height: int) -> np.ndarray:
    """A map of the visible objects: uint8 (height, width), 0 for the background, i + 1 for
    `scene.items[i]`.
    """
    canvas = Image.new("L", (width, height))
    for index, item in enumerate(scene.items):
        if item.hole is None:
            _fill(ImageDraw.Draw(canvas), item, (width, height), index + 1)
        else:
            stencil = Image.new("L", (width, height))
            _fill(ImageDraw.Draw(stencil), item, (width, height), 255)
            canvas.paste(index + 1, (0, 0), stencil)
    return np.asarray(canvas)


def pixel_points(points: np.ndarray, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Fractions of the picture → pixel coordinates as Pillow's polygons take them."""
    return [(x * size[0] - 0.5, y * size[1] - 0.5) for x, y in points.tolist()]


def _fill(draw: ImageDraw.ImageDraw, item: Item, size: tuple[int, int], value: int) -> None:
    draw.polygon(pixel_points(item.polygon, size), fill=value)
    if item.hole is not None:
        draw.polygon(pixel_points(item.hole, size), fill=0)


def _fits(new: np.ndarray, visible: list[tuple[np.ndarray, int]], least: float) -> bool:
    if new.sum() < 4:
        return False
    return all((mask & ~new).sum() >= least * area for mask, area in visible)


def _told_apart(
    item: Item, new: np.ndarray, items: list[Item], visible: list[tuple[np.ndarray, int]]
) -> bool:
    """False where two objects of nearly the same tone overlap, so that the edge cannot be seen."""
    return not any(
        _distance(item.rgb, other.rgb) < 45 and bool((mask & new).any())
        for other, (mask, _area) in zip(items, visible, strict=True)
    )


def _background_tone(rng: np.random.Generator) -> tuple[int, int, int]:
    kind = rng.random()
    if kind < 0.3:
        level = int(rng.integers(0, 256))
        return (level, level, level)
    if kind < 0.75:  # muted, as walls and skies are
        base = rng.uniform(30, 235)
        red, green, blue = np.clip(base + rng.uniform(-35, 35, 3), 0, 255).astype(int)
        return (int(red), int(green), int(blue))
    red, green, blue = rng.integers(0, 256, 3)
    return (int(red), int(green), int(blue))


def _distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    return float(np.abs(np.subtract(a, b)).max())


def _random_item(
    rng: np.random.Generator,
    options: SceneOptions,
    background: tuple[int, int, int],
    aspect: float,
    before: list[Item],
    crowded: bool,
) -> Item:
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(COLOURS))
    low, high = options.sizes
    size = rng.uniform(low, high)
    if rng.random() < options.small:
        size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    texture = str(rng.choice(TEXTURES, p=(0.46, 0.27, 0.27)))
    if before and rng.random() < options.repeats:
        model = before[rng.integers(len(before))]
        shape = model.shape if rng.random() < 0.7 else shape
        colour = model.colour if rng.random() < 0.7 else colour
        size = float(np.clip(model.size * rng.uniform(0.75, 1.3), low, high))
    if size < MIN_TEXTURED_SIZE:
        texture = "solid"
    rgb = shade(colour, rng)
    twin = None
    if before and rng.random() < options.repeats * options.twins:
        # Only the place tells twins apart: without them masks learn to follow looks alone.
        twin = before[rng.integers(len(before))]
        shape, colour, texture, rgb = twin.shape, twin.colour, twin.texture, twin.rgb
        size = twin.size * (1.0 if rng.random() < 0.6 else rng.uniform(0.8, 1.2))
        size = float(np.clip(size, low, high))
    for _ in range(0 if twin else 20):
        if _distance(rgb, background) > 55:
            break
        colour = str(rng.choice(COLOURS))
        rgb = shade(colour, rng)
    placed, placed_hole = _placed(shape, size, aspect, before if crowded else [], rng)
    pattern = _pattern(texture, colour, size, rng)
    border = _border(rgb, rng) if size > 0.07 and rng.random() < 0.15 else None
    return Item(
        shape,
        colour,
        texture,
        placed,
        placed_hole,
        rgb,
        twin.accent if twin else accent(colour, rgb, rng),
        twin.pattern if twin else (float(rng.uniform(0, np.pi)), *pattern),
        border,
        size,
    )


def _placed(
    shape: str, size: float, aspect: float, near_to: list[Item], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Outline and hole of a shape somewhere in the scene, or close to one of `near_to`."""
    polygon, hole = outline(shape, rng)
    angle = 0.0 if rng.random() < 0.35 else rng.uniform(0, 2 * np.pi)
    stretch = rng.uniform(0.85, 1.18) if rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    scale = size * np.array([stretch / np.sqrt(aspect), np.sqrt(aspect) / stretch])
    margin = np.minimum(0.5 * scale, 0.5)
    centre = rng.uniform(margin * 0.95, 1 - margin * 0.95)
    if near_to:
        near = near_to[rng.integers(len(near_to))]
        middle = near.polygon.mean(axis=0)
        offset = rng.uniform(-0.7, 0.7, 2) * (scale + near.size)
        centre = np.clip(middle + offset, margin, 1 - margin)
    placed = (polygon @ turn) * scale + centre
    return placed, None if hole is None else (hole @ turn) * scale + centre


def _pattern(
    texture: str, colour: str, size: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Period and duty of a texture."""
    finest = 0.028 / size  # a period below three input pixels cannot be seen
    coarse = 0.36 if texture == "striped" else 0.32
    period = rng.uniform(min(max(0.13, finest), coarse), coarse)
    duty = rng.uniform(0.25, 0.42 if colour in ("white", "black", "grey") else 0.52)
    return float(period), float(duty)


def _border(
    rgb: tuple[int, int, int], rng: np.random.Generator
) -> tuple[tuple[int, int, int], float]:
    tone = (0, 0, 0) if rng.random() < 0.5 else scaled(rgb, 0.55)
    return tone, float(rng.uniform(0.015, 0.04))
