"""Pixels as a person sees them: colour profiles, depth, transparency, orientation."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from sam3_image.decode.image import Limits, decode
from sam3_image.decode.pixels import CONVERT_PIXELS, exif_orientation, upright_rgb
from tests.helpers import icc, image_bombs, image_corpus
from tests.helpers.image_corpus import ALPHAS, COLOURS, GRAYS, blocks, on_white

LIMITS = Limits()


def saved(picture: Pillow.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def seen(picture: Pillow.Image, form: str = "PNG", **options: Any) -> np.ndarray:
    """What comes out of a picture that went through a file."""
    return decode(saved(picture, form, **options), LIMITS).pixels


def difference(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# Colour profiles


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_wide_gamut_becomes_srgb(mode: str) -> None:
    expected = icc.adobe_to_srgb(COLOURS)
    assert difference(expected, COLOURS) > 20  # the profile matters
    picture = image_corpus.picture(mode)[0]
    if mode == "RGBA":
        expected = on_white(expected, ALPHAS)
    assert difference(seen(picture, icc_profile=icc.adobe_rgb()), blocks(expected)) <= 2


def test_a_profile_of_a_turned_photo_is_kept() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 8
    stored = image_corpus.picture("RGB")[0].transpose(Pillow.Transpose.ROTATE_270)
    pixels = seen(stored, exif=exif, icc_profile=icc.adobe_rgb())
    assert difference(pixels, blocks(icc.adobe_to_srgb(COLOURS))) <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_gray_profile_is_applied(mode: str) -> None:
    levels = icc.gray_to_srgb(GRAYS)
    assert difference(levels, GRAYS) >= 3
    expected = np.stack([levels] * 3, axis=-1)
    if mode == "LA":
        expected = on_white(expected, ALPHAS)
    pixels = seen(image_corpus.picture(mode)[0], icc_profile=icc.gray_gamma())
    assert difference(pixels, blocks(expected)) <= 2


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_srgb_and_no_profile_are_the_same(mode: str) -> None:
    picture = image_corpus.picture(mode)[0]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(seen(picture, icc_profile=srgb), seen(picture))


@pytest.mark.parametrize(
    "profile",
    [b"junk", icc.adobe_rgb()[:200], icc.adobe_rgb()[:128] + b"\xff" * 500, icc.gray_gamma()],
    ids=["junk", "cut off", "bad tags", "of a gray image"],
)
def test_a_profile_that_does_not_fit_is_ignored(profile: bytes) -> None:
    picture, expected = image_corpus.picture("RGB")
    assert np.array_equal(seen(picture, icc_profile=profile), expected)


# Depth


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-1.0, 0.0, 3.0], [0, 64, 255]),  # no white of its own: smallest to largest
        ([0.0, np.nan, 1.0], [0, 0, 255]),
        ([-5.0, np.inf, 5.0], [0, 0, 255]),  # no measurement, as NaN
        ([7.0, 7.0, 7.0], [255, 255, 255]),  # constant: the range of the type
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([np.inf, -np.inf, np.nan], [0, 0, 0]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
    ],
)
def test_floats(values: list[float], expected: list[int]) -> None:
    pixels = seen(Pillow.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    assert pixels[0, :, 0].tolist() == expected
    assert np.ptp(pixels, axis=-1).max() == 0


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_as_quiet_as_any_other() -> None:
    """Found by the fuzzer: converting one is what NumPy warns of."""
    values = np.array([[0.0, 0.0, 1.0]], dtype=np.float32)
    values.view(np.uint32)[0, 1] = 0x7F80_0001
    pixels = seen(Pillow.fromarray(values), "TIFF")
    assert pixels[0, :, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 32768, 65535], [0, 128, 255]),
        ([0, 1000, 4000], [0, 64, 255]),  # far from the white of 16 bits
        ([-100, 0, 100], [0, 128, 255]),
        ([0, 1 << 30, (1 << 31) - 1], [0, 128, 255]),
    ],
)
def test_whole_numbers(values: list[int], expected: list[int]) -> None:
    pixels = seen(Pillow.fromarray(np.array([values], dtype=np.int32)), "TIFF")
    assert pixels[0, :, 0].tolist() == expected


def test_sixteen_bit_colour_keeps_its_high_bytes() -> None:
    """Pillow reads 16-bit RGB as 8 bits; written by hand, it cannot save it."""
    row = b"\0" + b"".join(int(v).to_bytes(1) + b"\x80" for v in COLOURS[0, :1].reshape(-1))

    data = b"\x89PNG\r\n\x1a\n" + image_bombs.chunk(
        b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    )
    data += image_bombs.chunk(b"IDAT", zlib.compress(row)) + image_bombs.chunk(b"IEND")
    assert difference(decode(data, LIMITS).pixels[0, 0], COLOURS[0, 0]) <= 1


# Orientation

SIZES = [(1, 1), (1, 7), (7, 1), (40, 30), (1700, 1300)]  # the last one has several strips


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", SIZES)
def test_orientation_equals_pillows_own(size: tuple[int, int], orientation: int) -> None:
    assert 2 * CONVERT_PIXELS < 1700 * 1300
    rng = np.random.default_rng(orientation)
    picture = Pillow.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    pixels, _ = upright_rgb(picture, orientation)
    picture.getexif()[0x0112] = orientation
    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(picture)))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_ignored(form: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    assert seen(Pillow.new("RGB", (30, 20)), form, exif=exif).shape == (20, 30, 3)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"junk" * 10,
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01\0\x06\0\0",  # a text, not a number
    ],
)
def test_junk_in_exif_is_ignored(exif: bytes) -> None:
    assert exif_orientation(exif) == 1
    seen(Pillow.new("RGB", (30, 20)), "JPEG", exif=exif)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order: str) -> None:
    exif = Pillow.Exif()
    exif.endian = order
    exif[0x0112] = 5
    exif[0x010F] = "a camera with a long name"
    assert exif_orientation(exif.tobytes()) == 5


# Transparency and frames


def test_a_gif_smaller_than_its_screen() -> None:
    """The frame covers a part of the canvas; the rest is transparent, so it is white."""
    data = bytearray(saved(image_corpus.picture("P+index")[0], "GIF", transparency=3))
    data[6:10] = b"\x50\0\x40\0"  # the canvas becomes 80 × 64
    pixels = decode(bytes(data), LIMITS).pixels
    assert pixels.shape == (64, 80, 3)
    assert np.array_equal(pixels[:48, :64], image_corpus.picture("P+index")[1])
    assert (pixels[48:] == pixels[63, 79]).all()


def test_an_opaque_alpha_changes_nothing() -> None:
    picture, expected = image_corpus.picture("RGB")
    opaque = picture.copy()
    opaque.putalpha(255)
    assert np.array_equal(seen(opaque), expected)
    assert np.array_equal(seen(opaque, "WEBP", lossless=True), expected)
