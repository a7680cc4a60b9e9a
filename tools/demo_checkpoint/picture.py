"""The picture of the model card: `python -m tools.demo_checkpoint.picture weights/demo`.

Four panels of one unseen scene: a text, an exemplar box, a text with a negative box, clicks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tools.demo_checkpoint.drawing import draw
from tools.demo_checkpoint.halves import XYXY, Halves, Question
from tools.demo_checkpoint.measure import deepest_point
from tools.demo_checkpoint.scenes import SceneOptions, label_map, random_scene

SEED = (700_002, 2)
TINT = np.array((0, 230, 118), np.float32)
PANEL = (360, 300)


def panels(halves: Halves) -> Image.Image:
    """All four panels side by side, as RGB."""
    options = SceneOptions(
        objects=(7, 8),
        sizes=(0.14, 0.3),
        aspects=(1.2, 1.2),
        pixels=(420, 420),
        repeats=0.6,
        twins=0.0,
        min_visible=0.95,
    )
    scene = random_scene(SEED, options)
    image = draw(scene)
    labels = label_map(scene, image.width, image.height)
    names = [(item.shape, item.colour) for item in scene.items]
    shape = max({s for s, _ in names}, key=lambda s: len({c for n, c in names if n == s}))
    group = [i for i, name in enumerate(names) if name[0] == shape]
    first = group[0]
    last = next((i for i in group if names[i][1] != names[first][1]), group[-1])
    text = f"{names[first][1]} {shape}"
    box, other = (_box(labels == i + 1) for i in (first, last))
    found = halves.find(
        image,
        [
            Question(text),
            Question("visual", ((box, True),)),
            Question(shape, ((other, False),)),
        ],
    )
    point = deepest_point(labels == last + 1)
    picked = halves.pick(image, [[point]], [[1]], None)
    drawn = [
        _panel(image, found[0], text, ()),
        _panel(image, found[1], "like the one in the box", ((box, (0, 230, 118)),)),
        _panel(image, found[2], f"{shape}, but not like this", ((other, (255, 40, 60)),)),
        _panel(image, picked, "one click", (), point),
    ]
    row = Image.new("RGB", (len(drawn) * (PANEL[0] + 8) - 8, PANEL[1] + 24), "white")
    for index, panel in enumerate(drawn):
        row.paste(panel, (index * (PANEL[0] + 8), 0))
    return row


def _panel(
    image: Image.Image,
    masks: np.ndarray,
    title: str,
    boxes: tuple[tuple[XYXY, tuple[int, int, int]], ...],
    point: tuple[float, float] | None = None,
) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32) * 0.45 + 110
    for mask in masks:
        pixels[mask] = np.asarray(image, np.float32)[mask] * 0.55 + TINT * 0.45
    shown = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(shown)
    for box, colour in boxes:
        pen.rectangle(box, outline=colour, width=3)
    if point:
        x, y = point
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(255, 255, 255), outline=(0, 0, 0), width=2)
    panel = Image.new("RGB", (PANEL[0], PANEL[1] + 24), "white")
    panel.paste(shown.resize(PANEL, Image.Resampling.LANCZOS), (0, 24))
    ImageDraw.Draw(panel).text((6, 4), title, fill=(20, 20, 20), font_size=15)
    return panel


def _box(mask: np.ndarray) -> XYXY:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def main() -> None:
    """Read the command line, write example.jpg into the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    panels(Halves.load(folder)).save(folder / "example.jpg", quality=88)


if __name__ == "__main__":
    main()
