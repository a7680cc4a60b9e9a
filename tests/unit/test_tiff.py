"""TIFFs of any depth and layout, against a writer of the tests' own: the exact values come out."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from sam3_image.decode import tiff
from sam3_image.decode.image import Limits, decode
from sam3_image.decode.tiff import needs_own_reader, read_layout, read_samples
from sam3_image.decode.tiff_directory import Directory
from sam3_image.errors import ImageError, MemoryLimitError
from tests.helpers import icc
from tests.helpers.tiff_writer import (
    ASSOCIATED,
    GRAY,
    GRAY_INVERTED,
    RGB,
    UNASSOCIATED,
    Layout,
    write,
)

LIMITS = Limits()
SIZE = (45, 61)
COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)


def random_values(dtype: str, samples: int, top: float | None = None) -> np.ndarray:
    """Any values of a type; floats from 0 to 1. Negative floats and NaN are in other tests."""
    rng = np.random.default_rng(samples)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.random((*SIZE, samples)).astype(kind)
    limits = np.iinfo(kind)
    high = limits.max if top is None else top
    return rng.integers(limits.min, high, (*SIZE, samples), dtype=kind, endpoint=True)


def in_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """By the definition, in exact arithmetic where it matters: low is 0, high is 255."""
    scaled = (values.astype(np.float64) - low) / (high - low) * 255
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def seen(data: bytes, value_range: str = "type") -> np.ndarray:
    return decode(data, LIMITS, value_range=value_range).pixels


def gray(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels, 3, axis=2)


def high_bytes(values: np.ndarray) -> np.ndarray:
    return (values[..., :3] >> 8).astype(np.uint8)


def rgb16(**options: Any) -> tuple[bytes, np.ndarray]:
    values = random_values("u2", 3)
    return write(values, Layout(**options)), high_bytes(values)


def rgb8(**options: Any) -> tuple[bytes, np.ndarray]:
    values = random_values("u1", 3)
    return write(values, Layout(**options)), values


def bands(count: int, **options: Any) -> tuple[bytes, np.ndarray]:
    values = random_values("u2", count)
    extra = (0,) * (count - 1)
    return write(values, Layout(photometric=GRAY, extra=extra, **options)), high_bytes(values)


def one_band(
    dtype: str, low: float, high: float, bits: int | None = None, **options: Any
) -> tuple[bytes, np.ndarray]:
    values = random_values(dtype, 1, None if bits is None else (1 << bits) - 1)
    data = write(values, Layout(photometric=GRAY, bits=bits, **options))
    return data, gray(in_8_bits(values, low, high))


def floats(dtype: str = "f4", **options: Any) -> tuple[bytes, np.ndarray]:
    values = random_values(dtype, 3)
    return write(values, Layout(**options)), in_8_bits(values, 0, 1)


def gray_alpha() -> tuple[bytes, np.ndarray]:
    values = random_values("u2", 2)
    data = write(values, Layout(photometric=GRAY, extra=(UNASSOCIATED,)))
    level, alpha = (values[..., n : n + 1] >> 8 for n in (0, 1))
    return data, gray(np.rint((level * 1.0 * alpha + 255.0 * (255 - alpha)) / 255).astype(np.uint8))


def min_is_white() -> tuple[bytes, np.ndarray]:
    values = random_values("u2", 1)
    data = write(values, Layout(photometric=GRAY_INVERTED))
    return data, gray(in_8_bits(65535 - values, 0, 65535))


# The rows of the table that this project's reader was chosen by.
TABLE: dict[str, Callable[[], tuple[bytes, np.ndarray]]] = {
    "RGB16 chunky": rgb16,
    "RGB16 tiled": lambda: rgb16(tile=(16, 32)),
    "RGB16 big-endian": lambda: rgb16(order=">"),
    "RGB16 BigTIFF": lambda: rgb16(big=True),
    "RGB8 big-endian BigTIFF": lambda: rgb8(order=">", big=True),
    "RGB8 big-endian BigTIFF, LZW, planar": lambda: rgb8(
        order=">", big=True, compression=5, planar=True
    ),
    "RGB16 planar": lambda: rgb16(planar=True),
    "RGB16 planar LZW": lambda: rgb16(planar=True, compression=5),
    "RGB16 planar deflate": lambda: rgb16(planar=True, compression=8, tile=(32, 16)),
    "3 bands": lambda: bands(3),
    "4 bands": lambda: bands(4),
    "5 bands": lambda: bands(5),
    "3 bands planar": lambda: bands(3, planar=True),
    "13 bands planar": lambda: bands(13, planar=True, compression=8),
    "RGB float32": floats,
    "RGB float32 planar": lambda: floats(planar=True, order=">"),
    "float64": lambda: one_band("f8", 0, 1),
    "float16": lambda: one_band("f2", 0, 1),
    "uint32": lambda: one_band("u4", 0, 2**32 - 1),
    "int8": lambda: one_band("i1", -128, 127),
    "gray and alpha, 16 bits": gray_alpha,
    "packed 12-bit": lambda: one_band("u2", 0, 4095, bits=12),
    "packed 14-bit, tiled": lambda: one_band("u2", 0, 16383, bits=14, tile=(16, 16)),
    "16-bit MinIsWhite": min_is_white,
    "zstd": lambda: rgb16(compression=50000, predictor=2),
    "LZMA": lambda: rgb16(compression=34925),
}


def test_a_big_endian_bigtiff_that_is_not_read_says_what_it_is() -> None:
    data = write(random_values("u1", 1), Layout(order=">", big=True, photometric=3))
    with pytest.raises(ImageError, match="big-endian BigTIFF of other pixels than gray or RGB"):
        decode(data, LIMITS)


@pytest.mark.parametrize("name", TABLE)
def test_each_cell_of_the_table_is_exact(name: str) -> None:
    data, expected = TABLE[name]()
    slack = 1 if "alpha" in name else 0  # Pillow rounds the blending with white in its own way
    assert np.abs(seen(data).astype(int) - expected).max() <= slack


KINDS = [
    ("u2", 3, RGB),
    ("u2", 13, GRAY),
    ("u1", 5, GRAY),
    ("i1", 1, GRAY),
    ("i2", 1, GRAY),
    ("i4", 3, RGB),
    ("u4", 1, GRAY),
    ("u8", 1, GRAY_INVERTED),
    ("f2", 3, RGB),
    ("f4", 3, RGB),
    ("f8", 1, GRAY),
]


@pytest.mark.parametrize(("dtype", "samples", "photometric"), KINDS)
def test_values_are_exact_in_every_layout(dtype: str, samples: int, photometric: int) -> None:
    values = random_values(dtype, samples)
    shown = 3 if samples >= 3 else 1
    better = 3 if values.dtype.kind == "f" else 2
    for order, planar, tile, compression, predictor in itertools.product(
        "<>", (False, True), (None, (16, 32)), COMPRESSIONS, (1, better)
    ):
        layout = Layout(
            order,
            big=compression == 8,
            planar=planar and samples > 1,
            tile=tile,
            compression=compression,
            predictor=1 if compression in (1, 32773) else predictor,
            photometric=photometric,
            extra=(0,) * (samples - (3 if photometric == RGB else 1)),
        )
        data = write(values, layout)
        directory = Directory.first(data)
        assert needs_own_reader(directory)
        read = read_samples(read_layout(directory, data))
        assert np.array_equal(read.values, values[..., :shown]), layout


def test_pieces_of_any_size() -> None:
    """Runs of pieces are cut at 8 MB: one huge strip, many in a run, tiles wider than a run."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65535, (1100, 1300, 3), dtype=np.uint16, endpoint=True)
    layouts = [
        Layout(rows=rows, compression=compression, predictor=2 if compression == 8 else 1)
        for rows in (1, 300, 1100)
        for compression in (1, 8)
    ]
    layouts += [Layout(tile=tile, compression=8) for tile in ((16, 16), (512, 1024), (1104, 1312))]
    for layout in layouts:
        data = write(values, layout)
        read = read_samples(read_layout(Directory.first(data), data))
        assert np.array_equal(read.values, values), layout


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    data, expected = rgb16(tags={274: (3, [orientation])})
    stored = Pillow.fromarray(expected)
    stored.getexif()[274] = orientation
    assert np.array_equal(seen(data), np.asarray(ImageOps.exif_transpose(stored)))


def test_a_profile_is_applied() -> None:
    values = random_values("u2", 3)
    data = write(values, Layout(tags={34675: (7, icc.adobe_rgb())}))
    assert np.abs(seen(data).astype(int) - icc.adobe_to_srgb(high_bytes(values))).max() <= 2


@pytest.mark.parametrize("associated", [False, True])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_alpha_is_put_on_white(dtype: str, associated: bool) -> None:
    values = random_values(dtype, 4)
    top = 1 if dtype == "f4" else 65535
    if associated:
        values[..., :3] = values[..., :3] * (values[..., 3:] / top)
    data = write(values, Layout(extra=(ASSOCIATED if associated else UNASSOCIATED,)))
    exact = values.astype(float) / top
    alpha = exact[..., 3:]
    expected = 255 * (exact[..., :3] * (1 if associated else alpha) + 1 - alpha)
    assert np.abs(seen(data) - expected).max() <= 2


def test_four_samples_without_a_word_are_rgb_and_alpha() -> None:
    values = random_values("u2", 4)
    assert np.array_equal(seen(write(values)), seen(write(values, Layout(extra=(UNASSOCIATED,)))))


@pytest.mark.parametrize(
    ("count", "extra", "words"),
    [
        (13, (0,) * 12, "Bands: 13; the first three are shown"),
        (2, (0,), "Bands: 2; the first is shown"),
        (4, (0, 0, UNASSOCIATED), ""),
    ],
)
def test_the_log_says_which_bands(count: int, extra: tuple[int, ...], words: str) -> None:
    data = write(random_values("u2", count), Layout(photometric=GRAY, extra=extra))
    notes = [note for note in decode(data, LIMITS).notes if note.startswith("Bands")]
    assert notes == ([words] if words else [])


def test_what_a_sparse_file_leaves_out_is_nodata() -> None:
    values = random_values("u2", 1)
    data = bytearray(write(values, Layout(photometric=GRAY, tile=(16, 16), compression=8)))
    counts = Directory.first(bytes(data)).fields[325].at
    data[counts + 4 : counts + 8] = bytes(4)  # of the second tile
    read = read_samples(read_layout(Directory.first(bytes(data)), bytes(data)))
    assert (read.values[:16, 16:32] == 0).all()
    read.values[:16, 16:32] = values[:16, 16:32]
    assert np.array_equal(read.values, values)


def test_eight_bits_of_a_usual_kind_stay_with_pillow() -> None:
    for samples, photometric in ((1, GRAY), (1, GRAY_INVERTED), (3, RGB), (4, RGB)):
        data = write(random_values("u1", samples), Layout(photometric=photometric))
        assert not needs_own_reader(Directory.first(data))


# Refusals


def changed(tag: int, *numbers: int, samples: int = 3, **options: Any) -> bytes:
    """RGB16 with another value of a tag."""
    return write(random_values("u2", samples), Layout(tags={tag: (4, list(numbers))}, **options))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "LERC": (lambda: changed(259, 34887), "LERC"),
    "JPEG 2000": (lambda: changed(259, 34712), "JPEG 2000"),
    "WebP": (lambda: changed(259, 50001), "compressed with WebP"),
    "JPEG XL": (lambda: changed(259, 50002), "JPEG XL"),
    "12-bit JPEG": (lambda: changed(259, 7), "compressed with JPEG"),
    "unknown compression": (lambda: changed(259, 12345), "number 12345"),
    "many bands": (lambda: changed(277, 65535), "65,535 bands"),
    "no bands": (lambda: changed(277, 0), "0 bands"),
    "mixed bits": (lambda: changed(258, 16, 8, 16), "different bits"),
    "mixed kinds": (lambda: changed(339, 1, 1, 3), "different kinds"),
    "complex": (lambda: changed(339, 6, 6, 6), "complex"),
    "24 bits": (lambda: changed(258, 24, 24, 24), "24-bit integer"),
    "predictor": (lambda: changed(317, 7, compression=8), "predictor 7"),
    "overlap": (lambda: changed(279, *[6000] * 7), "overlap|reach behind"),
    "behind the end": (lambda: changed(273, *[10**9] * 7), "behind the end"),
    "too few strips": (lambda: changed(273, 8, 8), "2 of 7 strips"),
    "no pixels": (lambda: changed(257, 0), "at least 1"),
    "no rows": (lambda: changed(278, 0), "a side of no pixels"),
    "large": (lambda: changed(257, 10**6), "1,000,000"),
    "large tiles": (lambda: changed(323, 1 << 20, tile=(16, 16)), "smaller tiles"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_is_wrong(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(ImageError, match=words) as caught:
        decode(make(), LIMITS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", [1, 8])
def test_a_file_that_is_cut_off_is_refused(compression: int) -> None:
    """The directory stands before the pixels, so that they are what is missing."""
    whole = write(random_values("u2", 3), Layout(compression=compression, rows=SIZE[0]))
    table = Directory.first(whole)
    start = struct.unpack_from("<I", whole, 4)[0]
    # The directory goes to the front, its positions inside of the file moved behind it.
    moved = bytearray(whole[:8] + whole[start:] + whole[8:start])
    shift = len(whole) - start
    struct.pack_into("<I", moved, 4, 8)
    for number in range(len(table.fields)):
        at = 8 + 2 + 12 * number
        tag, kind, count, value = struct.unpack_from("<HHII", moved, at)
        if tag == 273:
            struct.pack_into("<I", moved, at + 8, value + shift)
        elif count * {3: 2, 4: 4}[kind] > 4:
            struct.pack_into("<I", moved, at + 8, value - start + 8)
    assert np.array_equal(seen(bytes(moved)), seen(whole))
    for length in (len(moved) - 1, len(moved) // 2, shift + 8):
        with pytest.raises(ImageError, match="cut off or damaged"):
            decode(bytes(moved[:length]), LIMITS)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("options", [{"rows": 45}, {"tile": (48, 64)}, {"rows": 20}])
def test_a_piece_that_is_larger_than_a_run_is_exact(
    compression: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "RUN_BYTES", 4000)
    monkeypatch.setattr(tiff, "PART_BYTES", 1000)
    values = random_values("u2", 3)
    data = write(values, Layout(compression=compression, **options))
    assert np.array_equal(read_samples(read_layout(Directory.first(data), data)).values, values)
    if compression in (8, 32946) and "rows" in options:
        broken = data.replace(data[8:10], b"\xff\xff", 1)
        with pytest.raises(ImageError, match="cannot be decompressed"):
            decode(broken, LIMITS)


def test_one_deflated_strip_is_never_whole_in_memory() -> None:
    values = np.zeros((1000, 4000, 3), dtype=np.uint16)
    data = write(values, Layout(rows=1000, compression=8, predictor=2))
    layout = read_layout(Directory.first(data), data)
    tracemalloc.start()
    read_samples(layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes + 6 * tiff.PART_BYTES


def test_memory_is_claimed_before_it_is_taken() -> None:
    asked: list[int] = []

    def refuse(needed: int, pixels: int) -> int:
        asked.append(needed)
        assert pixels == 10_000 * 10_000
        return 1_000_000

    tags = {256: (4, [10_000]), 257: (4, [10_000]), 278: (4, [10_000])}
    data = write(random_values("f8", 3), Layout(compression=8, rows=SIZE[0], tags=tags))
    with pytest.raises(MemoryLimitError, match="1 MB are free"):
        decode(data, LIMITS, refuse)
    assert asked[0] > 3 * 24 * 10**8  # the samples, and the one strip twice
