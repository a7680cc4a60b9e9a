"""Drawn scenes kept on disk, so that training does not wait for drawing.

A pool is a folder of four NumPy arrays over N scenes of at most M objects:
`images` uint8 (N, S, S, 3) RGB; `masks` uint8 (N, M, G, G), the visible share of each mask cell
in 0-252; `boxes` float32 (N, M, 4) xyxy of the visible part in 0-1; `kinds` uint8 (N, M, 3),
indices into SHAPES, COLOURS, TEXTURES, 255 where there is no object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tools.demo_checkpoint.drawing import draw
from tools.demo_checkpoint.scenes import Scene, SceneOptions, label_map, random_scene
from tools.demo_checkpoint.vocabulary import COLOURS, SHAPES, TEXTURES

NO_OBJECT = 255
MAX_OBJECTS = 8
FINER = 6  # label pixels per mask cell and side: 36 levels of coverage, 7 each


@dataclass(frozen=True)
class Pool:
    """The arrays of a pool, memory-mapped; see the module for their shapes."""

    images: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def scene_arrays(
    scene: Scene, image_size: int, mask_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One row of a pool: image, masks, boxes, kinds."""
    picture = draw(scene).resize((image_size, image_size), Image.Resampling.BILINEAR)
    fine = mask_size * FINER
    labels = label_map(scene, fine, fine)
    masks = np.zeros((MAX_OBJECTS, mask_size, mask_size), np.uint8)
    boxes = np.zeros((MAX_OBJECTS, 4), np.float32)
    kinds = np.full((MAX_OBJECTS, 3), NO_OBJECT, np.uint8)
    for index, item in enumerate(scene.items[:MAX_OBJECTS]):
        seen = labels == index + 1
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not len(rows):
            continue
        cells = seen.reshape(mask_size, FINER, mask_size, FINER).sum(axis=(1, 3))
        masks[index] = cells * 7
        boxes[index] = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / fine
        kinds[index] = (
            SHAPES.index(item.shape),
            COLOURS.index(item.colour),
            TEXTURES.index(item.texture),
        )
    return np.asarray(picture), masks, boxes, kinds


def build_pool(
    folder: Path,
    count: int,
    *,
    seed: int,
    options: SceneOptions,
    image_size: int,
    mask_size: int,
) -> Pool:
    """Draw scenes (seed, 0) … (seed, count - 1) into `folder`, unless they are there already."""
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shapes = {
            "images": ((count, image_size, image_size, 3), np.uint8),
            "masks": ((count, MAX_OBJECTS, mask_size, mask_size), np.uint8),
            "boxes": ((count, MAX_OBJECTS, 4), np.float32),
            "kinds": ((count, MAX_OBJECTS, 3), np.uint8),
        }
        arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
            for name, (shape, dtype) in shapes.items()
        }
        for index in range(count):
            row = scene_arrays(random_scene((seed, index), options), image_size, mask_size)
            for array, value in zip(arrays.values(), row, strict=True):
                array[index] = value
        for array in arrays.values():
            array.flush()
        (folder / "done").touch()
    return open_pool(folder)


def open_pool(folder: Path) -> Pool:
    """Map the arrays that `build_pool` wrote."""
    return Pool(
        *(np.load(folder / f"{name}.npy", "r") for name in ("images", "masks", "boxes", "kinds"))
    )
