"""One request per kind of prompt, on examples/shapes.png: what is asked, and what comes back.

SAM3_WEIGHTS=demo script/serve                            in one terminal
.venv/bin/python examples/prompts.py                      in another: all kinds
.venv/bin/python examples/prompts.py exemplar click       or some; pictures go to docs/images

The prompt's boxes and points are drawn into the pictures: green for 1, red for 0.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from examples.client import SHAPES, segment

RED_CIRCLE, BLUE_SQUARE, RED_SQUARE = [43, 43, 157, 157], [252, 52, 348, 148], [652, 252, 748, 348]
DOTTED_CIRCLE, RING = [243, 443, 357, 557], [43, 443, 157, 557]

KINDS: dict[str, dict[str, Any]] = {
    "text": {"prompt": "red circle"},
    "concepts": {"prompts": ["red circle", "square", "star", "purple heart"]},
    "exemplar": {"boxes": [RED_CIRCLE]},
    "exemplars-and-text": {
        "prompt": "circle",
        "boxes": [RED_CIRCLE, DOTTED_CIRCLE],
        "box_labels": [1, 0],
    },
    "click": {"task": "visual", "points": [[300, 300]]},
    "clicks": {
        "task": "visual",
        "points": [[100, 450], [100, 500]],
        "point_labels": [1, 0],
    },
    "box": {"task": "visual", "boxes": [RED_SQUARE]},
    "boxes": {"task": "visual", "boxes": [RED_SQUARE, BLUE_SQUARE, RING]},
    "box-and-point": {
        "task": "visual",
        "boxes": [RING],
        "points": [[100, 500]],
        "point_labels": [0],
    },
    "candidates": {"task": "visual", "points": [[500, 300]], "multimask_output": True},
}
# Coordinates travel as JSON text, as Cog has no input type for nested lists.
AS_JSON = ("boxes", "box_labels", "points", "point_labels")
COLOURS = {1: (0, 140, 0), 0: (200, 0, 0)}


def main() -> None:
    """Send the requests and save what comes back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--server", default="http://127.0.0.1:5000")
    parser.add_argument("--folder", type=Path, default=SHAPES.parents[1] / "docs" / "images")
    chosen = parser.parse_args()
    if unknown := set(chosen.kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; choose of {', '.join(KINDS)}")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for kind in chosen.kinds or KINDS:
        path = chosen.folder / f"prompt-{kind}.png"
        drawn(request(KINDS[kind], chosen.server), KINDS[kind]).save(path, optimize=True)
        print(path)


def request(inputs: Mapping[str, Any], server: str) -> Image.Image:
    """The overlay that the server makes of these inputs."""
    fields = {k: json.dumps(v) if k in AS_JSON else v for k, v in inputs.items()}
    content = segment(
        SHAPES,
        fields.pop("prompt", "person"),
        server,
        return_zip=False,
        mask_color="distinct",
        show_labels=True,
        **fields,
    )
    return Image.open(io.BytesIO(content))


def drawn(picture: Image.Image, inputs: Mapping[str, Any]) -> Image.Image:
    """The picture with the request's own boxes and points on it."""
    draw = ImageDraw.Draw(picture)
    boxes, points = inputs.get("boxes", []), inputs.get("points", [])
    for box, label in zip(boxes, inputs.get("box_labels", [1] * len(boxes)), strict=True):
        draw.rectangle([box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4], None, COLOURS[label], 3)
    for (x, y), label in zip(points, inputs.get("point_labels", [1] * len(points)), strict=True):
        draw.ellipse([x - 7, y - 7, x + 7, y + 7], COLOURS[label], (255, 255, 255), 2)
    return picture


if __name__ == "__main__":
    main()
