"""Tiles and closer looks: time by the number of tiles beside a plain loop, and memory.

python -m benchmarks.tiles tiles|refine     prints the bytes before and at the peak as JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.ops import nms

from benchmarks import measure, plain
from benchmarks.measure import Spread, peak_bytes, timed
from benchmarks.table import Row
from benchmarks.whole import Setup, quiet
from sam3_image.request import Request

ROOT = Path(__file__).resolve().parent.parent
SETUP = Setup(ROOT / "weights" / "demo", torch.device("cpu"))
SECTION = "Tiles of 352 pixels, demo checkpoint, CPU"
CONCEPTS = ("red circle", "star", "square", "purple heart")
TILE, STEP = 352, 264
# Rows and columns of tiles, 10, 40 and 160 of them, and how many concepts are asked for.
CASES = ((2, 5, 1), (5, 8, 1), (5, 8, 4), (10, 16, 1))
SCENE_WIDTH = 400  # of each copy of examples/shapes.png
MB = 1e6


def rows(cases: Sequence[tuple[int, int, int]] = CASES) -> list[Row]:
    """One row for each number of tiles, and two for the memory at 12 megapixels."""
    service, theirs = SETUP.service(), SETUP.plain()
    found = []
    for down, across, many in (cases[0], *cases):  # the first warms both up
        picture, concepts = mosaic(down, across), CONCEPTS[:many]
        image = service.open(np.asarray(picture))
        request = Request.from_inputs(prompts=list(concepts), tile_size=TILE)
        with quiet():
            ours = timed(partial(service.segment, image, request))
        loop = sum(timed(partial(plain_loop, theirs, picture, concept)) for concept in concepts)
        case = f"{down * across} tiles, {picture.width}×{picture.height}, {many} concepts"
        note = "ours looks at the whole picture, too"
        found.append(Row(SECTION, case, Spread((loop,)), Spread((ours,)), note=note))
    for what in ("tiles", "refine"):
        peak = measure.in_own_process("benchmarks.tiles", what)
        above = Spread(((peak["peak"] - peak["ready"]) / MB,))
        case = f"{what} at 12 megapixels: memory above the model"
        found.append(Row(SECTION, case, None, above, "MB"))
    return found[1:]


def plain_loop(theirs: plain.Plain, picture: Image.Image, concept: str) -> list[torch.Tensor]:
    """The usual way: each crop by itself, then the boxes of all crops through NMS."""
    boxes, scores, masks = [], [], []
    for top in range(0, picture.height - TILE + 1, STEP):
        for left in range(0, picture.width - TILE + 1, STEP):
            crop = picture.crop((left, top, left + TILE, top + TILE))
            inputs = plain.preprocess(theirs.processor, crop, text=concept)
            outputs = plain.infer(theirs, inputs)
            result = plain.post_process(
                theirs.processor, outputs, (TILE, TILE), 0.5, as_meta=theirs.as_meta
            )
            boxes.append(result["boxes"] + torch.tensor([left, top, left, top]))
            scores.append(result["scores"])
            masks += list(result["masks"])
    kept = nms(torch.cat(boxes), torch.cat(scores), 0.5)
    return [masks[index] for index in kept.tolist()]


def mosaic(down: int, across: int) -> Image.Image:
    """Return a picture of exactly so many tiles, full of small copies of the example."""
    picture = Image.new("RGB", (TILE + STEP * (across - 1), TILE + STEP * (down - 1)))
    with Image.open(ROOT / "examples" / "shapes.png") as scene:
        height = SCENE_WIDTH * scene.height // scene.width
        copy = scene.convert("RGB").resize((SCENE_WIDTH, height), Image.Resampling.LANCZOS)
    for y in range(0, picture.height, height):
        for x in range(0, picture.width, SCENE_WIDTH):
            picture.paste(copy, (x, y))
    return picture


def main(what: str) -> None:
    """Print the bytes of this process when all is loaded and at the peak of one request."""
    service = SETUP.service()
    picture = mosaic(*CASES[-1][:2])
    inputs: dict[str, object] = {"tile_size": TILE}
    if what == "refine":
        with Image.open(ROOT / "examples" / "shapes.png") as scene:
            picture = scene.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
        inputs = {"refine": True}
    image = service.open(np.asarray(picture))
    with quiet():  # the first request allocates what every later one uses
        service.segment(service.open(np.asarray(picture)[:500, :500]), Request.from_inputs())
        ready = peak_bytes()
        service.segment(image, Request.from_inputs(prompt="circle", **inputs))
    print(json.dumps({"ready": ready, "peak": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
