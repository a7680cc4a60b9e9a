"""`value_range`: which values of more than 8 bits are shown black and white."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from sam3_image.decode import array_to_rgb
from sam3_image.decode.image import Image, Limits, decode, from_array, from_pillow
from sam3_image.errors import ImageError, InputError
from tests.helpers import image_corpus
from tests.helpers.image_bombs import chunk
from tests.helpers.tiff_writer import GRAY, GRAY_INVERTED, RGB, UNASSOCIATED, Layout, write

LIMITS = Limits()
SIDE = 200


def shown(values: np.ndarray, value_range: str = "auto", **options: Any) -> Image:
    """What comes out of values (H, W) or (H, W, 3) that went through a TIFF."""
    bands = values[..., None] if values.ndim == 2 else values
    layout = Layout(photometric=GRAY if bands.shape[2] == 1 else RGB, **options)
    return decode(write(bands, layout), LIMITS, value_range=value_range)


def nodata(text: str) -> dict[int, tuple[int, bytes]]:
    return {42113: (2, text.encode() + b"\0")}


# What people send: six examples in which the right range is known


def scene() -> np.ndarray:
    """Brightness from 0 to 1 with shapes, as float64 (SIDE, SIDE)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = 0.5 + 0.5 * np.sin(9 * rows) * np.cos(7 * columns)
    return np.where((rows - 0.5) ** 2 + (columns - 0.4) ** 2 < 0.05, 0.95, 0.8 * waves)


def microscopy() -> np.ndarray:
    """12 bits in 16, dim, with a few hot pixels."""
    values = 100 + 700 * scene()
    values[::61, ::67] = 4095
    return values.astype(np.uint16)


def reflectance() -> np.ndarray:
    """0 to 10000, with clouds beyond."""
    values = 300 + 3000 * scene()
    values[:12, :20] = 15000
    return np.stack([values, 0.9 * values, 0.8 * values], axis=-1).astype(np.uint16)


def elevation() -> np.ndarray:
    """Meters, with -9999 where nothing was measured."""
    values = 200 + 1800 * scene()
    values[:20] = -9999
    return values.astype(np.int16)


def thermal() -> np.ndarray:
    """14 bits, all of them close to each other, with one hot spot."""
    values = 7200 + 400 * scene()
    values[3, 3:5] = 16000
    return values.astype(np.uint16)


NARROW: dict[str, Callable[[], np.ndarray]] = {
    "microscopy": microscopy,
    "reflectance": reflectance,
    "elevation": elevation,
    "thermal": thermal,
}
FULL: dict[str, Callable[[], np.ndarray]] = {
    "float 0 to 1": lambda: scene().astype(np.float32),
    "16 bits": lambda: (65535 * scene()).astype(np.uint16),
}


@pytest.mark.parametrize("name", NARROW)
def test_auto_shows_what_hides_in_the_range_of_the_type(name: str) -> None:
    values = NARROW[name]()
    plain, auto = shown(values, "type").pixels, shown(values).pixels
    assert plain.std() < 20  # nothing to be seen
    assert auto.std() > 40
    assert 60 < auto.mean() < 190


@pytest.mark.parametrize("name", FULL)
def test_auto_leaves_what_fills_its_range(name: str) -> None:
    values = FULL[name]()
    auto, plain = shown(values), shown(values, "type")
    assert np.array_equal(auto.pixels, plain.pixels)
    assert any("they fill the type's range" in note for note in auto.notes)


def test_auto_is_the_first_to_the_99th_percentile() -> None:
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    image = shown(values)
    low, high = np.percentile(values, (1, 99))
    expected = np.rint(np.clip((values - low) / (high - low) * 255, 0, 255))
    assert np.array_equal(image.pixels[..., 0], expected)
    assert any("99.99 shown black to 9,899.01 white" in note for note in image.notes), image.notes


def test_one_range_for_all_bands_keeps_colors() -> None:
    values = np.zeros((64, 64, 3), np.uint16)
    values[:32] = (800, 400, 0)
    values[32:] = (400, 400, 400)
    pixels = shown(values).pixels
    assert pixels[0, 0].tolist() == [255, 128, 0]
    assert np.ptp(pixels[40, 40]) == 0


def test_a_few_objects_on_one_value_stay_apart() -> None:
    values = np.full((100, 100), 500, np.uint16)
    values[10:14, 10:14] = 700
    assert np.unique(shown(values).pixels).tolist() == [0, 255]


def test_a_constant_image_keeps_the_range_of_the_type() -> None:
    assert (shown(np.full((9, 9), 514, np.uint16)).pixels == 2).all()


def test_statistics_of_a_large_image_are_sampled() -> None:
    values = np.tile(microscopy(), (15, 15))
    assert values.size > 8_000_000
    assert abs(shown(values, rows=64).pixels.std() - shown(microscopy()).pixels.std()) < 3


# No measurement


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("i2", "-9999", -9999),
        ("u2", "65535", 65535),
        ("f4", "-3.4028234663852886e+38", np.finfo("f4").min),
        ("f4", "0.1", np.float32(0.1)),  # as the file's type rounds it
        ("f8", "nan", np.nan),
    ],
)
def test_tagged_nodata_is_black_and_not_counted(dtype: str, text: str, value: float) -> None:
    values = (300 + 200 * scene()).astype(dtype)
    values[:100] = values[100:]  # so that the statistics of both files are the same
    without = shown(values).pixels
    values[:100] = value
    for photometric in (GRAY, GRAY_INVERTED):
        layout = Layout(photometric=photometric, tags=nodata(text))
        pixels = decode(write(values[..., None], layout), LIMITS).pixels
        assert (pixels[:100] == 0).all()
        expected = without if photometric == GRAY else 255 - without
        assert np.abs(pixels[100:].astype(int) - expected[100:]).max() <= 1


@pytest.mark.parametrize("text", ["junk", "", "1e999", "0.5", "70000", "-1", "é"])
def test_junk_in_the_nodata_tag_is_ignored(text: str) -> None:
    assert np.array_equal(shown(microscopy(), tags=nodata(text)).pixels, shown(microscopy()).pixels)


def test_nodata_is_black_in_a_range_that_was_given() -> None:
    values = np.array([[-9999, 0, 100]], np.int16)
    image = shown(values, "-20000,100", tags=nodata("-9999"))
    assert image.pixels[0, :, 0].tolist() == [0, 254, 255]


@pytest.mark.parametrize("value", [-9999, -32768])
def test_untagged_nodata_counts_only_where_it_stands_alone(value: int) -> None:
    values = np.linspace(0, 2000, 10_000).reshape(100, 100).astype(np.int16)
    values[0] = value
    assert shown(values).pixels[1:].std() > 60
    ramp = np.arange(value, value + 10_000, dtype=np.int16).reshape(100, 100)
    note = f"Values: {value + 99.99:,.6g} shown black"
    assert any(line.startswith(note) for line in shown(ramp).notes)


# A range that was given


@pytest.mark.parametrize("text", ["0,4095", " 0 , 4095 ", "0.0,4.095e3"])
def test_low_and_high(text: str) -> None:
    values = np.array([[0, 1024, 4095, 60000]], np.uint16)
    assert shown(values, text).pixels[0, :, 0].tolist() == [0, 64, 255, 255]


def test_zero_is_white_where_the_file_says_so() -> None:
    layout = Layout(photometric=GRAY_INVERTED)
    data = write(np.array([[[0], [4095]]], np.uint16), layout)
    image = decode(data, LIMITS, value_range="0,4095")
    assert image.pixels[0, :, 0].tolist() == [255, 0]
    assert any("4,095 shown black to 0 white" in note for note in image.notes)


BAD_RANGES = ["", "autos", "1", "1,1", "2,1", "1,2,3", "a,b", "nan,1", "0,inf", "0;1", "0,1\n2"]


@pytest.mark.parametrize("text", BAD_RANGES)
def test_what_is_no_range_is_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(InputError, match="give auto, type, or LOW,HIGH") as caught:
        decode(b"not even an image", LIMITS, value_range=text)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="LOW,HIGH"):
        from_array(np.zeros((2, 2, 3), np.uint8), LIMITS, text)


# 8 bits


@pytest.mark.parametrize("name", ["png-rgb", "jpeg-l", "tiff-rgba", "gif-p", "png-p+bytes"])
def test_eight_bits_never_change(name: str) -> None:
    recipe = next(recipe for recipe in image_corpus.RECIPES if recipe.name == name)
    data = image_corpus.save(image_corpus.picture(recipe.mode)[0], recipe, 1)
    plain = decode(data, LIMITS)
    ranged = decode(data, LIMITS, value_range="10,20")
    assert np.array_equal(plain.pixels, ranged.pixels)
    assert "value_range has no effect: the image has 8 bits per channel" in ranged.notes
    assert not plain.notes


def test_bands_of_eight_bits_never_change() -> None:
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    data = write(values, Layout(photometric=GRAY, extra=(0, 0)))
    for value_range in ("auto", "type", "0,20"):
        assert np.array_equal(decode(data, LIMITS, value_range=value_range).pixels, values)


# PNG


def png16(values: np.ndarray, color: int, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits; rows take turns with all five filters, so that none is forgotten."""
    height, width, channels = values.shape
    raw = b""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4))
    steps += ((1, 0, 2, 2), (0, 1, 1, 2))
    for left, top, right, down in steps if interlaced else ((0, 0, 1, 1),):
        part = values[top::down, left::right]
        if part.size:
            rows = part.astype(">u2").reshape(len(part), -1).view(np.uint8).astype(int)
            raw += _filtered(rows, 2 * channels)
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, int(interlaced))
    packed = zlib.compress(raw)
    pixels = [packed[start : start + 5000] for start in range(0, len(packed), 5000)]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + b"".join(chunk(b"IDAT", part) for part in pixels)
        + chunk(b"IEND")
    )


def _filtered(rows: np.ndarray, pixel: int) -> bytes:
    out = bytearray()
    above = np.zeros(rows.shape[1], int)
    for number, row in enumerate(rows):
        left = np.concatenate([np.zeros(pixel, int), row[:-pixel]])
        corner = np.concatenate([np.zeros(pixel, int), above[:-pixel]])
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        kind = number % 5
        predicted = [np.zeros_like(row), left, above, (left + above) // 2, paeth][kind]
        out += bytes([kind]) + ((row - predicted) & 255).astype(np.uint8).tobytes()
        above = row
    return bytes(out)


CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("color", CHANNELS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (45, 61)])
def test_png_of_16_bits_is_exact(size: tuple[int, int], color: int, interlaced: bool) -> None:
    """Low bytes show in a range of 255 values: there an error of one value is one level."""
    rng = np.random.default_rng(color)
    values = rng.integers(1000, 1256, (*size, CHANNELS[color]), dtype=np.uint16)
    if color in (4, 6):
        values[..., -1] = 65535
    pixels = decode(png16(values, color, interlaced), LIMITS, value_range="1000,1255").pixels
    bands = values[..., : 3 if color in (2, 6) else 1] - 1000
    assert np.array_equal(pixels, np.broadcast_to(bands, pixels.shape))


def test_png_keeps_alpha_profile_and_orientation() -> None:
    values = np.full((4, 6, 4), 40_000, np.uint16)
    values[..., 3] = 65535
    values[0, 0, 3] = 0
    exif = Pillow.Exif()
    exif[0x0112] = 3
    extra = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    pixels = decode(png16(values, 6, extra=extra), LIMITS, value_range="type").pixels
    assert pixels[3, 5].tolist() == [255, 255, 255]
    assert (pixels[:3] == 40_000 >> 8).all()


@pytest.mark.parametrize("color", [0, 2])
def test_a_transparent_value_of_a_png_is_exact(color: int) -> None:
    values = np.full((2, 3, CHANNELS[color]), 513, np.uint16)
    values[0, 0] = 514
    key = chunk(b"tRNS", struct.pack(">H", 514) * CHANNELS[color])
    pixels = decode(png16(values, color, extra=key), LIMITS).pixels
    assert (pixels[0, 0] == 255).all()
    assert (pixels[1] < 255).all()


def test_a_png_of_16_bits_that_is_cut_off_is_refused() -> None:
    data = png16(np.random.default_rng(0).integers(0, 65535, (90, 90, 3), np.uint16), 2)
    whole = decode(data, LIMITS).pixels
    for missing in (1, 12, 16):  # the checksum behind the pixels, or less
        assert np.array_equal(decode(data[:-missing], LIMITS).pixels, whole)
    for length in (len(data) - 40, len(data) // 2, 60, 33):
        with pytest.raises(ImageError, match="cut off or damaged"):
            decode(data[:length], LIMITS)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        decode(bytes(flipped), LIMITS)


# Arrays and Pillow images


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_are_shown_as_files_are(channels: int, order: str) -> None:
    rng = np.random.default_rng(channels)
    values = rng.integers(0, 4000, (30, 40, channels), dtype=np.uint16)
    photometric = RGB if channels >= 3 else GRAY
    extra = (UNASSOCIATED,) if channels in (2, 4) else ()
    data = write(values, Layout(photometric=photometric, extra=extra))
    pixels, notes = array_to_rgb(values.astype(f"{order}u2"))
    assert np.array_equal(pixels, decode(data, LIMITS).pixels)
    assert len(notes) == 1


def test_arrays_of_8_bits_are_not_changed() -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pixels, notes = array_to_rgb(values)
    assert pixels is values or np.shares_memory(pixels, values)
    assert not notes
    assert np.array_equal(array_to_rgb(values[..., 0])[0], np.stack([values[..., 0]] * 3, -1))


def test_arrays_of_floats_need_a_range() -> None:
    values = np.array([[0.0, 0.5, 1.0]])
    with pytest.raises(ImageError, match=r"float64.*value_range 'type' for values from 0 to 1"):
        array_to_rgb(values)
    assert array_to_rgb(values, "type")[0][0, :, 0].tolist() == [0, 128, 255]
    assert array_to_rgb(values, "0,2")[0][0, :, 0].tolist() == [0, 64, 128]


@pytest.mark.parametrize(
    "array",
    [np.zeros(4), np.zeros((2, 2, 5)), np.zeros((2, 2, 3), np.int32), np.zeros((2, 2), bool)],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=f"array of {array.dtype}"):
        array_to_rgb(array, "type")


def test_a_pillow_image_of_16_bits_is_shown_as_its_file_is() -> None:
    values = microscopy()
    expected = shown(values).pixels
    assert np.array_equal(from_pillow(Pillow.fromarray(values), LIMITS).pixels, expected)
    file = io.BytesIO()
    Pillow.fromarray(values).save(file, "PNG")
    assert np.array_equal(decode(file.getvalue(), LIMITS).pixels, expected)
