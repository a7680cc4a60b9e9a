"""A scene as a picture: backgrounds, textures, edges, noise and JPEG artefacts."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.demo_checkpoint.scenes import Item, Scene, pixel_points


def draw(scene: Scene, width: int | None = None, height: int | None = None) -> Image.Image:
    """Return the scene as an RGB picture of `width` × `height` (default: its own size)."""
    size = (width or scene.width, height or scene.height)
    rng = np.random.default_rng(scene.seed)
    picture = _background(scene, size, rng)
    fine = 1 if rng.random() < 0.25 else int(rng.integers(2, 4))  # 1: jagged edges
    for item in scene.items:
        _draw_item(picture, item, fine)
    return picture if scene.options.plain else _camera(picture, rng)


def _background(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    base = np.array(scene.background, dtype=np.float32)
    kind = rng.random()
    if kind < 0.4 or scene.options.plain:
        return Image.new("RGB", size, scene.background)
    if kind < 0.62:  # a slope from one tone to another
        angle = rng.uniform(0, 2 * np.pi)
        x = np.linspace(-1, 1, size[0], dtype=np.float32)[None, :, None]
        y = np.linspace(-1, 1, size[1], dtype=np.float32)[:, None, None]
        slope = x * np.cos(angle) + y * np.sin(angle)
        change = rng.uniform(-45, 45, 3).astype(np.float32)
        return _to_image(base + slope * change)
    if kind < 0.85:  # cloudy: smooth noise at one or two scales
        total = np.zeros((size[1], size[0], 3), dtype=np.float32) + base
        for cells in rng.choice((3, 5, 9, 17, 40), size=2, replace=False):
            grey = rng.random() < 0.6
            bands = 1 if grey else 3
            small = rng.uniform(0, 255, (cells, cells, bands)).astype(np.uint8)
            image = Image.fromarray(small[..., 0] if grey else small)
            smooth = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
            strength = rng.uniform(0.06, 0.28)
            total += strength * ((smooth[..., None] if grey else smooth) - 128)
        return _to_image(total)
    picture = Image.new("RGB", size, scene.background)  # faint stripes or tiles
    pen = ImageDraw.Draw(picture)
    shift = rng.uniform(-28, 28, 3)
    red, green, blue = np.clip(base + shift, 0, 255).astype(int).tolist()
    step = int(rng.uniform(0.04, 0.2) * min(size)) + 2
    for row in range(0, size[1], step):
        for column in range(0, size[0], step):
            if (row // step + column // step) % 2 == 0:
                pen.rectangle((column, row, column + step - 1, row + step - 1), (red, green, blue))
    return picture


def _draw_item(picture: Image.Image, item: Item, fine: int) -> None:
    """Draw on a patch `fine` times as fine, then shrink it onto the picture."""
    points = item.polygon * picture.size
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, picture.size)
    extent = high - low
    if extent.min() <= 0:
        return
    size = (int(extent[0]) * fine, int(extent[1]) * fine)

    def local(polygon: np.ndarray) -> list[tuple[float, float]]:
        return pixel_points((polygon * picture.size - low) / extent, size)

    stencil = Image.new("L", size)
    pen = ImageDraw.Draw(stencil)
    pen.polygon(local(item.polygon), fill=255)
    if item.hole is not None:
        pen.polygon(local(item.hole), fill=0)
    paint = Image.new("RGB", size, item.rgb)
    pen = ImageDraw.Draw(paint)
    side = float(np.sqrt(picture.size[0] * picture.size[1]) * fine * item.size)
    if item.texture == "striped":
        _stripes(pen, size, item, side)
    elif item.texture == "dotted":
        _dots(pen, size, item, side)
    if item.border:
        tone, share = item.border
        thick = max(fine, round(share * side))
        for polygon in (item.polygon, item.hole):
            if polygon is not None:
                corners = local(polygon)
                pen.line([*corners, corners[0], corners[1]], fill=tone, width=2 * thick)
    if fine > 1:
        stencil, paint = stencil.reduce(fine), paint.reduce(fine)
    picture.paste(paint, (int(low[0]), int(low[1])), stencil)


def _stripes(pen: ImageDraw.ImageDraw, size: tuple[int, int], item: Item, side: float) -> None:
    angle, period, duty = item.pattern
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    middle = np.array(size) / 2
    reach = float(np.hypot(*size)) / 2
    step = max(period * side, 2.0)
    for index in range(-int(reach / step) - 1, int(reach / step) + 2):
        start = middle + across * (index * step)
        corners = [
            start + along * reach,
            start - along * reach,
            start - along * reach + across * step * duty,
            start + along * reach + across * step * duty,
        ]
        pen.polygon([tuple(corner) for corner in corners], fill=item.accent)


def _dots(pen: ImageDraw.ImageDraw, size: tuple[int, int], item: Item, side: float) -> None:
    angle, period, duty = item.pattern
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    middle = np.array(size) / 2
    step = max(period * side, 3.0)
    reach = int(np.hypot(*size) / 2 / step) + 1
    radius = step * (0.16 + 0.3 * duty)
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            x, y = middle + step * (along * (column + 0.5 * (row % 2)) + across * row)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=item.accent)


def _camera(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur, sensor noise and JPEG, each some of the time."""
    if rng.random() < 0.12:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.4:
        pixels = np.asarray(picture, dtype=np.float32)
        grain = rng.standard_normal(pixels.shape, dtype=np.float32)
        picture = _to_image(pixels + rng.uniform(2, 14) * grain)
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(35, 95)))
        picture = Image.open(buffer).convert("RGB")
    return picture


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
