"""The pictures of docs/prompts.md for tile_size, refine and reference_image, each from a real run.

.venv/bin/python examples/several_looks.py              with the demo checkpoint, into docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import sam3_image

ROOT = Path(__file__).resolve().parent.parent
SCENE = ROOT / "examples" / "shapes.png"
HEXAGON = (440, 246, 560, 354)  # the object that refine and the reference are shown on


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "demo")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    chosen = parser.parse_args()
    sam = sam3_image.load(chosen.weights)
    with Image.open(SCENE) as picture:
        scene = picture.convert("RGB")
    for name, made in {
        "tiles": tiles(sam, scene),
        "refine": refine(sam, scene),
        "reference": reference(sam, scene),
    }.items():
        path = chosen.folder / f"prompt-{name}.png"
        made.save(path, optimize=True)
        print(path)


def tiles(sam: sam3_image.Sam, scene: Image.Image) -> Image.Image:
    """The scene many times over, small: as a whole, and with tiles."""
    small = scene.resize((200, 150), Image.Resampling.LANCZOS)
    crowd = Image.new("RGB", (1200, 900))
    for row in range(6):
        for column in range(6):
            crowd.paste(small, (column * 200, row * 150))
    answers = [sam.find(crowd, "red circle", **options) for options in ({}, {"tile_size": 128})]
    print(", ".join(f"{len(answer)} found" for answer in answers))
    return beside(*(shown(answer).resize((600, 450)) for answer in answers))


def refine(sam: sam3_image.Sam, scene: Image.Image) -> Image.Image:
    """A hexagon of a picture three times as large, enlarged: its mask before and after."""
    large = scene.resize((2400, 1800), Image.Resampling.BICUBIC)
    boxes = [[3 * value for value in HEXAGON]]
    around = (1340, 740, 1660, 1060)
    answers = [sam.pick(large, boxes=boxes, refine=on) for on in (False, True)]
    return beside(*(shown(answer).crop(around) for answer in answers))


def reference(sam: sam3_image.Sam, scene: Image.Image) -> Image.Image:
    """A reference with its box, and what looks like its content in another picture."""
    first = scene.crop((400, 200, 800, 500))
    box = (HEXAGON[0] - 400, HEXAGON[1] - 200, HEXAGON[2] - 400, HEXAGON[3] - 200)
    second = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = sam.find(second, reference_image=first, reference_boxes=[box])
    framed = first.copy()
    ImageDraw.Draw(framed).rectangle(
        [box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4], None, (0, 140, 0), 3
    )
    return beside(framed, shown(found).resize((400, 300)))


def shown(found: sam3_image.Instances) -> Image.Image:
    """The overlay of an answer."""
    return Image.fromarray(np.asarray(found.overlay(mask_color="distinct")))


def beside(*pictures: Image.Image) -> Image.Image:
    """Pictures of one height in a row, apart from each other."""
    width = sum(picture.width + 8 for picture in pictures) - 8
    row = Image.new("RGB", (width, pictures[0].height), (255, 255, 255))
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + 8
    return row


if __name__ == "__main__":
    main()
