"""The pictures of docs/outputs.md, each from a real run: .venv/bin/python examples/make_pictures.py

Runs the product once per output on examples/shapes.png with the demo checkpoint.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks

from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SCENE = ROOT / "examples" / "shapes.png"
CONCEPTS = ["red circle", "square", "star", "ring", "purple heart"]

ONE = {"return_zip": False}
SHOWN_MASKS = 3


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "demo")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    service = Service(Settings.from_environment({"SAM3_WEIGHTS": str(chosen.weights)}))

    def run(query: Mapping[str, Any], **output: Any) -> Path:
        return service.run(SCENE, Request.from_inputs(**query, **output)).path

    red, all_shapes = {"prompt": "red circle"}, {"prompts": CONCEPTS}
    pictures = {
        "masks": sheet(run(red)),
        "overlay": opened(run(red, **ONE, mask_color="cyan")),
        "mask": opened(run(red, **ONE, mask_only=True)),
        "labels": opened(run(all_shapes, **ONE, mask_color="distinct", show_labels=True)),
        "cutout": on_checks(opened(run(all_shapes, **ONE, apply_mask=True))),
        "coco": supervised(run(all_shapes, **ONE, annotation_format="rle")),
        "polygon": outlined(run({"prompt": "ring"}, **ONE, annotation_format="polygon")),
    }
    for name, picture in pictures.items():
        path = chosen.folder / f"{name}.png"
        picture.save(path, optimize=True)
        print(path)


def opened(path: Path) -> Image.Image:
    """The picture, read before the next run takes its file away."""
    with Image.open(path) as picture:
        return picture.copy()


def sheet(path: Path) -> Image.Image:
    """The first masks of a ZIP side by side, at half size."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.startswith("mask_")][:SHOWN_MASKS]
        masks = [np.asarray(Image.open(archive.open(name)))[::2, ::2] for name in names]
    framed = [np.pad(mask, 4, constant_values=128) for mask in masks]
    return Image.fromarray(np.hstack(framed))


def on_checks(cutout: Image.Image) -> Image.Image:
    """A picture with transparency as image editors show it."""
    y, x = np.mgrid[: cutout.height, : cutout.width] // 16
    checks = np.where((x + y) % 2, 255, 215).astype(np.uint8)
    canvas = Image.fromarray(checks).convert("RGB")
    canvas.paste(cutout, mask=cutout.getchannel("A"))
    return canvas


def supervised(path: Path) -> Image.Image:
    """What `supervision` draws from the run lengths, as the page says to load them."""
    found = json.loads(path.read_text())["instances"]
    detections = sv.Detections(
        xyxy=np.array([item["box"] for item in found]).reshape(-1, 4),
        mask=np.array([coco_masks.decode(item["rle"]) for item in found], dtype=bool),
        confidence=np.array([item["score"] for item in found]),
    )
    look = {"color_lookup": sv.ColorLookup.INDEX}
    scene = np.array(opened(SCENE).convert("RGB"))
    for annotator in (sv.MaskAnnotator(**look), sv.PolygonAnnotator(**look)):
        scene = annotator.annotate(scene, detections)
    labels = [f"{item['concept']} {item['score']:.2f}" for item in found]
    return Image.fromarray(sv.LabelAnnotator(**look).annotate(scene, detections, labels))


def outlined(path: Path) -> Image.Image:
    """The rings of the best instance's polygons with their points, eight times enlarged."""
    zoom = 8
    item = json.loads(path.read_text())["instances"][0]
    left, top, right, bottom = (round(value) for value in item["box"])
    corner = (left - 3, top - 3)
    part = opened(SCENE).convert("RGB").crop((*corner, (left + right) // 2, (top + bottom) // 2))
    picture = part.resize((part.width * zoom, part.height * zoom), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for shape in item["polygons"]:
        for ring in (shape["outer"], *shape["holes"]):
            points = [((x - corner[0]) * zoom, (y - corner[1]) * zoom) for x, y in ring]
            draw.line([*points, points[0]], fill=(255, 0, 90), width=2)
            for x, y in points:
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(255, 0, 90))
    return picture


if __name__ == "__main__":
    main()
