"""Pixels → a picture file in one of the formats that `output_format` offers."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.output import png

Pixels = NDArray[np.uint8]

# Full color resolution (4:4:4): halved, as is usual, it smears the edges of a tint.
JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 90),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
WEBP: dict[str, Any] = {"format": "WEBP", "quality": 90, "method": 2}
# Cut-outs keep the color of every pixel, so their WebP is lossless; 0 is its fastest effort.
WEBP_EXACT: dict[str, Any] = {"format": "WEBP", "lossless": True, "quality": 0, "method": 0}


@dataclass(frozen=True)
class PictureFormat:
    """One format of overlay and cut-out.

    encode: (H, W, 3) RGB or, where it has `alpha`, (H, W, 4) RGBA uint8 → the file's bytes.
    media_type: of the file. largest_side: what the format can hold, in pixels.
    """

    encode: Callable[[Pixels], bytes]
    media_type: str
    largest_side: int
    alpha: bool


def _jpeg(pixels: Pixels) -> bytes:
    # The picture is that of Pillow, which copies the picture into another layout first.
    done, content = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), JPEG)
    if not done:  # `Output.check_size` knows what a JPEG can hold, so it was memory
        raise MemoryError("no memory to encode the JPEG")
    return content.tobytes()


def _webp(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, **(WEBP_EXACT if pixels.shape[2] == 4 else WEBP))
    return buffer.getvalue()


# By file suffix.
PICTURE_FORMATS = {
    "png": PictureFormat(png.encode, "image/png", (1 << 31) - 1, alpha=True),
    "jpg": PictureFormat(_jpeg, "image/jpeg", 65_500, alpha=False),
    "webp": PictureFormat(_webp, "image/webp", 16_383, alpha=True),
}

PREVIEW_SIDE = 2048  # pixels; more than a screen shows of a whole picture


def preview(pixels: Pixels) -> bytes:
    """Return a JPEG of (H, W, 3) uint8 RGB, scaled down to `PREVIEW_SIDE` where it is larger."""
    height, width = pixels.shape[:2]
    scale = PREVIEW_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return _jpeg(pixels)
