"""PNG bytes: every decoder reads back exactly the pixels, with valid checksums throughout."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam3_image.masks.mask import Mask
from sam3_image.output import png

# One pixel, one row, one column, odd sides, and enough rows for several bands.
SIZES = [(1, 1), (1, 300), (300, 1), (7, 13), (64, 64), (1031, 777)]


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width, *rest = shape
    ramp = np.add.outer(np.arange(height), np.arange(width))
    return np.broadcast_to(ramp.reshape(height, width, *[1] * len(rest)), shape).astype(np.uint8)


def with_pillow(data: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image)


def with_opencv(data: bytes) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, order[pixels.shape[2]])


def by_the_letter(data: bytes) -> NDArray[np.uint8]:
    """A decoder that forgives nothing: order, lengths, CRC of each chunk, Adler-32, filters."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, stream, kinds, header = 8, b"", [], b""
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        assert zlib.crc32(kind + body) == checksum
        kinds.append(kind)
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            stream += body
        position += 12 + length
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert set(kinds[1:-1]) == {b"IDAT"}
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", header)
    assert (depth, rest) == (8, [0, 0, 0])
    inflate = zlib.decompressobj()
    raw = inflate.decompress(stream)  # raises when the Adler-32 is wrong
    assert inflate.eof
    assert not inflate.unused_data
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * channels)
    pixels = np.zeros((height, width * channels), np.uint8)
    above = np.zeros(width * channels, np.uint8)
    for row, out in zip(rows, pixels, strict=True):
        assert row[0] in (0, 2)
        out[:] = row[1:] + above if row[0] == 2 else row[1:]
        above = out
    return pixels.reshape((height, width) if channels == 1 else (height, width, channels))


DECODERS = [with_pillow, with_opencv, by_the_letter]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [noise, smooth])
def test_every_decoder_reads_back_the_pixels(make, size, channels, decode):
    pixels = make((*size, *channels))
    np.testing.assert_array_equal(decode(png.encode(pixels)), pixels)


def test_threads_do_not_change_the_bytes():
    pixels = noise((1031, 777, 3))
    assert png.encode(pixels, threads=1) == png.encode(pixels, threads=5)


def test_rows_that_are_not_contiguous():
    pixels = noise((50, 80, 4))
    for view in (pixels[:, :, :3], pixels[::2], pixels[:, ::-1], pixels[..., 1]):
        np.testing.assert_array_equal(by_the_letter(png.encode(view)), view)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
)
def test_refuses_what_is_no_picture(pixels):
    with pytest.raises(ValueError, match="PNG needs"):
        png.encode(pixels)


def region(size: tuple[int, int], y: int, x: int, height: int, width: int) -> Mask:
    inside = np.random.default_rng(y + x).random((height, width)) < 0.7
    return Mask(inside=inside, y=y, x=x, size=size)


MASKS = [
    region((1, 1), 0, 0, 1, 1),
    region((40, 60), 0, 0, 40, 60),
    region((40, 60), 10, 20, 5, 7),
    region((40, 60), 39, 59, 1, 1),
    region((40, 60), 0, 0, 0, 0),
    region((3, 70_000), 1, 30_000, 2, 40_000),
    region((2000, 1500), 700, 100, 800, 900),  # zeros above and below are several bands
    region((2000, 1500), 1999, 0, 1, 1500),
]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("mask", MASKS, ids=lambda m: f"{m.size}-{m.y}-{m.x}-{m.inside.shape}")
def test_mask_is_white_inside_and_black_outside_at_full_size(mask, decode):
    pixels = decode(png.encode_mask(mask))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.where(mask.full(), 255, 0))


def test_mask_is_eight_bit_grayscale():
    image = Image.open(io.BytesIO(png.encode_mask(MASKS[2])))
    assert image.mode == "L"


def test_photograph_is_not_larger_than_pillows():
    rng = np.random.default_rng(0)
    picture = smooth((700, 900, 3)) + rng.normal(0, 8, (700, 900, 3))
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    reference = io.BytesIO()
    Image.fromarray(pixels).save(reference, "PNG", compress_level=1)
    assert len(png.encode(pixels)) < 1.15 * reference.tell()


def test_empty_mask_of_a_large_image_is_small_and_never_made():
    mask = Mask(inside=np.zeros((0, 0), bool), y=0, x=0, size=(30_000, 30_000))
    data = png.encode_mask(mask)
    assert len(data) < 30_000 * 30_000 / 500
