"""PNG encoders side by side: ours, Pillow's at two levels, OpenCV's."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import measure, pictures
from benchmarks.measure import Spread
from benchmarks.table import Row
from sam3_image.masks import Mask
from sam3_image.output.png import encode, encode_mask

SIZE = (3000, 4000)
Encoder = Callable[[NDArray[np.uint8]], bytes]


def rows(rounds: int = 3) -> list[Row]:
    """One row per other encoder, for a noisy photo and for a mask of 12 megapixels."""
    photo = pictures.photo(*SIZE)
    disc = np.zeros(SIZE, np.uint8)
    cv2.circle(disc, (2000, 1500), 400, 255, -1)
    inside = disc[1100:1901, 1600:2401].astype(bool)
    mask = Mask(inside, 1100, 1600, SIZE)
    return [
        *_rows("overlay", photo, lambda: encode(photo), rounds),
        *_rows("mask", disc, lambda: encode_mask(mask), rounds),
    ]


OTHERS: dict[str, Encoder] = {
    "Pillow": lambda pixels: _pillow(pixels, 6),
    "Pillow, compress_level=1": lambda pixels: _pillow(pixels, 1),
    "OpenCV, level 1": lambda pixels: _opencv(pixels, 1),
}


def _rows(
    name: str, pixels: NDArray[np.uint8], ours: Callable[[], bytes], rounds: int
) -> list[Row]:
    found = []
    for other, encoder in OTHERS.items():
        sizes = {"plain": len(encoder(pixels)), "ours": len(ours())}  # also warms both up
        sides = {"plain": partial(_timed, partial(encoder, pixels)), "ours": partial(_timed, ours)}
        seconds = measure.interleaved(sides, rounds)
        plain, own = (Spread(tuple(run["s"] for run in seconds[side])) for side in sides)
        note = f"{sizes['plain'] / 1e3:,.0f} kB and {sizes['ours'] / 1e3:,.0f} kB"
        found.append(Row("PNG encoders, 12 megapixels", f"{name}: {other}", plain, own, note=note))
    return found


def _timed(work: Callable[[], bytes]) -> measure.Seconds:
    return {"s": measure.timed(work)}


def _pillow(pixels: NDArray[np.uint8], level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def _opencv(pixels: NDArray[np.uint8], level: int) -> bytes:
    """BGR is taken as it is: the order of channels makes no difference to the time."""
    _, content = cv2.imencode(".png", pixels, (cv2.IMWRITE_PNG_COMPRESSION, level))
    return content.tobytes()
