"""find with tiles, with a reference, or with both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.detection import crop_detections, detections
from sam3_image.crops.reference import Exemplar, Exemplars
from sam3_image.crops.runner import CropRunner, Question
from sam3_image.crops.tiles import TileDone, Tiles
from sam3_image.crops.windows import Window, count
from sam3_image.masks import Detections
from sam3_image.model import Find


def find_in_crops(
    runner: CropRunner,
    pixels: NDArray[np.uint8],
    request: Find,
    *,
    tile_size: int | None,
    references: Sequence[Exemplar] = (),
    tile_done: TileDone = lambda done, total, found: None,
) -> Detections:
    """Find the instances that `request` asks for, best score first.

    pixels: (H, W, 3) uint8 RGB. request: in pixels of it.
    tile_size: in pixels. None, or a tile that covers the image, means one look.
    references: examples from other images of what to find.
    tile_done: called after each tile, or after the only look, with how many are done, how many
        there are, and what the model found in this one.
    """
    size = pixels.shape[0], pixels.shape[1]
    own = [
        Exemplar(pixels, box, label)
        for box, label in zip(request.boxes, request.labels, strict=True)
    ]
    exemplars = Exemplars(own, references)

    def ask(window: Window, prompts: Sequence[int]) -> Question:
        concepts = [request.concepts[index] for index in prompts]
        thresholds = [request.thresholds[index] for index in prompts]
        return exemplars.question(pixels, window, concepts, thresholds, prompts)

    if tile_size is not None and count(size, tile_size) > 1:
        number = len(request.concepts)
        return Tiles(runner, size, number, ask, ask, tile_size).find(tile_done)
    question = ask(Window.whole(size), range(len(request.concepts)))
    found = runner.overview(question)
    tile_done(1, 1, found)
    return (
        found
        if not question.strip
        else detections(list(crop_detections(question, found, size)), size)
    )
