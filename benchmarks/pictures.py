"""What the benchmark segments: noisy photo-like pictures and plausible outputs of the model.

Noise decides what a PNG costs: a flat drawing compresses ten times faster than a photograph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

CELLS = 288  # side of SAM 3's low-resolution masks
QUERIES = 200
LOGIT = 3.0  # of a found instance: a score of 0.95
NOISE = 8.0  # standard deviation of a pixel, about ISO 800 on a phone
JPEG_QUALITY = 95


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft shapes at four scales under sensor noise; (height, width, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128, dtype=np.float32)
    for scale in (3, 12, 48, 192):
        coarse = rng.normal(0, 60 / scale**0.5, (scale, scale, 3)).astype(np.float32)
        pixels += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for row in pixels:  # a whole field of float64 noise would be the benchmark's largest array
        row += rng.normal(0, NOISE, (width, 1))
        row += rng.normal(0, NOISE / 2, (width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def save_photo(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """Such a picture as a JPEG file; size = (height, width)."""
    Image.fromarray(photo(*size, seed)).save(path, quality=JPEG_QUALITY)
    return path


def mask_logits(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 288, 288) float32 logits of wobbly blobs, sized as `count` objects in one picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:CELLS, :CELLS].astype(np.float32)
    logits = np.empty((count, CELLS, CELLS), dtype=np.float32)
    typical = CELLS / (2 * (count + 1) ** 0.5)  # together they cover about the picture
    for one in logits:
        down, right = y - rng.uniform(0, CELLS), x - rng.uniform(0, CELLS)
        angle = np.arctan2(down, right)
        wobble = sum(
            rng.uniform(0, 0.15) * np.sin(k * angle + rng.uniform(0, 6)) for k in (2, 3, 5, 9)
        )
        radius = typical * rng.uniform(0.4, 1.2) * (1 + wobble)
        one[:] = np.clip((radius - np.hypot(down, right)) * 1.5, -20, 20)
        one += cv2.GaussianBlur(rng.normal(0, 3, one.shape).astype(np.float32), (0, 0), 1.5)
    return logits


def outputs(count: int, seed: int = 0) -> Any:
    """Return the model's outputs for one picture in which it finds `count` instances."""
    rng = np.random.default_rng(seed)
    masks = np.full((1, QUERIES, CELLS, CELLS), -10, dtype=np.float32)
    masks[0, :count] = mask_logits(count, seed)
    scores = np.full((1, QUERIES), -LOGIT, dtype=np.float32)
    scores[0, :count] = LOGIT + rng.normal(0, 0.3, count)
    corners = np.sort(rng.uniform(0, 1, (1, QUERIES, 2, 2)), axis=2).astype(np.float32)
    return Sam3ImageSegmentationOutput(
        pred_masks=torch.from_numpy(masks),
        pred_logits=torch.from_numpy(scores),
        pred_boxes=torch.from_numpy(corners.reshape(1, QUERIES, 4)),
        presence_logits=torch.full((1, 1), 2 * LOGIT),
    )
