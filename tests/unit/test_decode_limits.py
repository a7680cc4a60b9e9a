"""Small files made to be slow or to fill the memory: each is refused within a second or two."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam3_image.decode import decode_limits
from sam3_image.decode.image import Limits, decode
from sam3_image.errors import ImageError
from tests.helpers import image_corpus
from tests.helpers.image_bombs import chunk

LIMITS = Limits()
SECONDS = 5  # of the processor; without the checks most of them take longer, or gigabytes
TIMES = 700_000


def whole(name: str) -> bytes:
    recipe = next(recipe for recipe in image_corpus.RECIPES if recipe.name == name)
    return image_corpus.save(image_corpus.picture(recipe.mode)[0], recipe, 1)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def tiff(*fields: tuple[int, int, int, int], body: bytes = b"") -> bytes:
    """A 64 × 48 gray TIFF with these fields (tag, type, count, value); `body` stands at 8."""
    usual = [(256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    usual += [(277, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 3072)]
    named = {field[0]: field for field in [*usual, *fields]}
    table = b"".join(struct.pack("<HHII", *named[tag]) for tag in sorted(named))
    start = 8 + len(body)
    return b"II*\0" + struct.pack("<I", start) + body + struct.pack("<H", len(named)) + table


def jpeg_with(extra: bytes) -> bytes:
    data = whole("jpeg-rgb")
    return data[:2] + extra + data[2:]


def png_with(extra: bytes) -> bytes:
    data = whole("png-rgb")
    return data[:33] + extra + data[33:]


def gif_with(extra: bytes) -> bytes:
    data = whole("gif-p")
    image = data.index(b",", 13 + 3 * 16)
    return data[:image] + extra + data[image:]


def progressive(scans: int) -> bytes:
    data = whole("jpeg-rgb-progressive")
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - scans_of(data)) + data[-2:]


def scans_of(data: bytes) -> int:
    return data.count(b"\xff\xda")


NUMBERS = struct.pack("<I", 8) * TIMES

ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg scans": (lambda: progressive(decode_limits.JPEG_SCANS + 1), "scans"),
    "jpeg segments": (lambda: jpeg_with(segment(0xFE, b"") * TIMES), "segments"),
    "jpeg exif": (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300), "EXIF"),
    "jpeg exif behind a false end": (
        lambda: jpeg_with(b"\xff\xd9" + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300),
        "EXIF",
    ),
    "jpeg fill bytes": (lambda: jpeg_with(b"\xff" * TIMES), "tiny pieces"),
    "png unknown chunks": (lambda: png_with(chunk(b"abCd") * TIMES), "tiny pieces"),
    "png empty data": (lambda: png_with(chunk(b"IDAT") * TIMES), "tiny pieces"),
    "png texts": (lambda: png_with(chunk(b"tEXt", b"a\0b") * TIMES), "tiny pieces"),
    "gif comments": (lambda: gif_with(b"!\xfe\1x\0" * TIMES), "tiny pieces"),
    "gif controls": (lambda: gif_with(b"!\xf9\4\0\0\0\0\0" * TIMES), "tiny pieces"),
    "gif junk": (lambda: gif_with(b"\1" * TIMES), "tiny pieces"),
    "ppm comments": (lambda: whole("ppm-rgb").replace(b"\n", b"\n" + b"#\n" * TIMES, 1), "tiny"),
    "ppm levels": (lambda: b"P5 3000 2000 1000\n" + bytes(12_000_000), "slow to read"),
    "tiff strips": (
        lambda: tiff((273, 4, TIMES, 8), (279, 4, TIMES, 8), (278, 4, 1, 1), body=NUMBERS),
        "numbers",
    ),
    "tiff fractions": (lambda: tiff((282, 5, TIMES // 2, 8), body=NUMBERS), "numbers"),
    "tiff fractions in exif": (
        lambda: tiff(
            (34665, 4, 1, 8),
            body=struct.pack("<HHHIIHI", 1, 40000, 5, TIMES // 2, 40, 0, 0) + bytes(14) + NUMBERS,
        ),
        "numbers",
    ),
    "tiff tiles": (
        lambda: tiff((322, 4, 1, 9000), (323, 4, 1, 9000), (324, 4, 1, 8), (325, 4, 1, 3072)),
        "tiles of 9,000 × 9,000",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_soon(name: str) -> None:
    make, words = ATTACKS[name]
    data = make()
    started = time.process_time()
    with pytest.raises(ImageError, match=words) as caught:
        decode(data, LIMITS)
    assert time.process_time() - started < SECONDS
    assert "\n" not in str(caught.value)


def test_what_cameras_and_programs_write_is_accepted() -> None:
    """The neighbours of the attacks, on the right side of each line."""
    picture = image_corpus.picture("RGB")[1]
    harmless: dict[str, Any] = {
        "as many scans as may be": progressive(decode_limits.JPEG_SCANS),
        "a photo with a second image and a video behind it": whole("jpeg-rgb")
        + whole("jpeg-rgb") * 50
        + b"\xff\xda" * 1000,
        "thumbnail and profile": jpeg_with(
            segment(0xE1, b"Exif\0\0" + whole("jpeg-rgb"))
            + segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff\xda" * 20_000)
        ),
        "PNG in small pieces": png_with(chunk(b"tEXt", b"a\0b") * 1000),
        "padding": jpeg_with(b"\xff" * 100),
    }
    for name, data in harmless.items():
        pixels = decode(data, LIMITS).pixels
        assert np.abs(pixels.astype(int) - picture)[6:10, 6:10].max() <= 8, name


def test_a_loop_of_directories_ends() -> None:
    data = bytearray(tiff((34665, 4, 1, 0), body=bytes(3072)))
    at = data.index(struct.pack("<HHI", 34665, 4, 1)) + 8
    data[at : at + 4] = data[4:8]  # EXIF points at the directory that it is in
    assert decode(bytes(data), LIMITS).size == (48, 64)


def test_big_tiff_is_walked_too() -> None:
    entries = [(256, 4, 1, 64), (257, 4, 1, 48), (273, 16, TIMES, 16)]
    table = b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    body = struct.pack("<Q", 16) * TIMES
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16 + len(body))
    with pytest.raises(ImageError, match="numbers"):
        decode(head + body + struct.pack("<Q", len(entries)) + table, LIMITS)
