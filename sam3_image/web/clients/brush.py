"""Masks → the run lengths of Label Studio's brush.

They hold an RGBA image, row by row, as a stream of bits: 32 for the number of values (4 for each
pixel), 5 for the bits of a value less one, four times 4 for the bits of a length less one; then
records of 1 bit (1: one value repeated), 2 bits (which of the four sizes), the length less one,
and the value. Only alpha counts; here all four are 0 or 255.
"""

from __future__ import annotations

import numpy as np

from sam3_image.masks import Mask, rle

VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
LONGEST = 1 << LENGTH_BITS[-1]
CHANNELS = 4


def encode(mask: Mask) -> list[int]:
    """The brush's run lengths of a mask: bytes, as Label Studio's JSON has them."""
    height, width = mask.size
    parts = [f"{height * width * CHANNELS:032b}", f"{VALUE_BITS - 1:05b}"]
    parts += [f"{bits - 1:04b}" for bits in LENGTH_BITS]
    value = 0
    for pixels in rle.row_lengths(mask).tolist():
        parts += _records(pixels * CHANNELS, value)
        value = 255 - value
    bits = np.frombuffer("".join(parts).encode("ascii"), dtype=np.uint8) - ord("0")
    packed: list[int] = np.packbits(bits).tolist()
    return packed


def _records(length: int, value: int) -> list[str]:
    """The bits of one run, which may be longer than a record holds."""
    made = []
    while length:
        part = min(length, LONGEST)
        length -= part
        size = next(index for index, bits in enumerate(LENGTH_BITS) if part <= 1 << bits)
        made.append(f"1{size:02b}{part - 1:0{LENGTH_BITS[size]}b}{value:0{VALUE_BITS}b}")
    return made
