"""everything with tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.runner import CropRunner, Question
from sam3_image.crops.tiles import TileDone, Tiles
from sam3_image.crops.windows import Window
from sam3_image.masks import Detections
from sam3_image.model import Everything

# A closer look is taken at an object that takes at least an eighth of its side: fewer points do.
FEWEST_POINTS = 16


def everything_in_tiles(
    runner: CropRunner,
    pixels: NDArray[np.uint8],
    request: Everything,
    tile_size: int,
    tile_done: TileDone,
) -> Detections:
    """Every object of an image that has several tiles, best score first.

    pixels: (H, W, 3) uint8 RGB. request: the grid of points is laid over each tile.
    """
    few = replace(request, points_per_side=min(request.points_per_side, FEWEST_POINTS))

    def ask(window: Window, prompts: Sequence[int]) -> Question:
        return Question(window.of(pixels), request, window, prompts)

    def ask_again(window: Window, prompts: Sequence[int]) -> Question:
        return Question(window.of(pixels), few, window, prompts)

    size = pixels.shape[0], pixels.shape[1]
    return Tiles(runner, size, 1, ask, ask_again, tile_size).find(tile_done)
