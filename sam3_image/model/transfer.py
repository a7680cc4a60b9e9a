"""Between host and device: pixels → the encoder's input, and results → NumPy.

The input is bit for bit what transformers' `Sam3Processor` makes, at a fifteenth of its time for 12
megapixels: the processor first copies the image twice (out of Pillow, then into planes), whereas
the resize can read interleaved rows where they lie.
"""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as vision

# The processor rescales by 1/255 and normalises with mean = std = 0.5, both in one step.
MEAN = STD = 127.5


def pixel_values(
    pixels: NDArray[np.uint8], side: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """The encoder's input for one image: (1, 3, side, side) float32 in -1…1 on `device`.

    pixels: (H, W, 3) uint8 RGB.
    side: height and width of the result in pixels (1008 for SAM 3 at full resolution).
    """
    return normalise(resize(pixels, side), device)


def resize(pixels: NDArray[np.uint8], side: int) -> torch.Tensor:
    """An image squeezed into a square; the aspect ratio is not kept, as in training.

    pixels: (H, W, 3) uint8 RGB. Returns (1, 3, side, side) uint8 on the host.
    """
    # The resize stays on the host also for a GPU. It takes 12 ms, less than the transfer of
    # 12 megapixels saves, and CUDA's rounds differently from the processor's.
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
    return vision.resize(image, [side, side], antialias=True)


def normalise(squares: torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 (N, 3, side, side) in 0…255 → float32 in -1…1 on `device`, planes contiguous."""
    device = torch.device(device)
    values = torch.empty(squares.shape, dtype=torch.float32, device=device)
    if device.type != "cpu":
        return values.copy_(squares.to(device)).sub_(MEAN).div_(STD)
    # Looked up rather than computed, and not by torch, which would share out even this among
    # threads that wait for one another: 1 ms on an idle machine, but 40 ms beside a busy process.
    table = (np.arange(256, dtype=np.float32) - np.float32(MEAN)) / np.float32(STD)
    for square, result in zip(squares.split(1), values, strict=True):
        planes = cv2.split(_interleaved(square))
        for plane, target in zip(planes, result.numpy(), strict=True):
            cv2.LUT(plane, table[None], target)
    return values


def digest(square: torch.Tensor) -> str:
    """A name for the content of `resize`'s result; equal names mean equal images."""
    return hashlib.sha256(_interleaved(square).data).hexdigest()


def _interleaved(square: torch.Tensor) -> NDArray[np.uint8]:
    """(1, 3, side, side) → (side, side, 3), which is how `resize` keeps it in memory: no copy."""
    return np.ascontiguousarray(square[0].permute(1, 2, 0).numpy())


def to_host(values: torch.Tensor) -> NDArray[Any]:
    """Copy a tensor to the host, waiting for the device; NumPy's dtype of the same name.

    The one way by which values leave the device. Not bfloat16, which NumPy does not have: results
    are made float32 first.
    """
    return values.cpu().numpy()
