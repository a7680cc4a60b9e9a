"""Files that lack little are decoded; those that lack pixels are refused, with the right words."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from sam3_image.decode.image import Limits, decode
from sam3_image.errors import ImageError
from tests.helpers import image_corpus
from tests.helpers.image_bombs import chunk
from tests.helpers.tiff_writer import GRAY, Layout, write

LIMITS = Limits()
RNG = np.random.default_rng(0)
NOISE = Pillow.fromarray(RNG.integers(0, 255, (50, 70, 3), dtype=np.uint8)).resize((200, 150))


def saved(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, LIMITS)
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message  # what is wrong: what to do
    return message


def words_on(data: bytes) -> str:
    """The message of a refusal; empty for a file that is decoded."""
    try:
        decode(data, LIMITS)
    except ImageError as error:
        return str(error)
    return ""


# JPEG without its end marker

ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("RGB", {}),
    "progressive": ("RGB", {"progressive": True}),
    "gray": ("L", {"quality": 50}),
    "CMYK": ("CMYK", {}),
    "restart markers": ("RGB", {"restart_marker_rows": 1, "subsampling": 0}),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_jpeg_without_its_end_marker_is_whole(name: str) -> None:
    mode, options = ENCODINGS[name]
    data = saved(NOISE.convert(mode), "JPEG", **options)
    right = decode(data, LIMITS).pixels
    assert data.endswith(b"\xff\xd9")
    for end in (data[:-2], data[:-1]):
        assert np.array_equal(decode(end, LIMITS).pixels, right)


def test_memory_is_claimed_once_for_all_tries() -> None:
    asked: list[int] = []

    def claim(needed: int, _pixels: int) -> None:
        asked.append(needed)

    files = [saved(NOISE, "JPEG")[:-2], with_chunk(BESIDE["text"], True), icon(NOISE, "bmp")]
    for data in files:
        asked.clear()
        decode(data, LIMITS, claim)
        assert len(asked) == 1


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_jpeg_that_lacks_pixels_is_refused(name: str) -> None:
    mode, options = ENCODINGS[name]
    data = saved(NOISE.convert(mode), "JPEG", **options)
    scan = data.index(b"\xff\xda")
    cuts = [*range(scan, len(data) - 2, len(data) // 20), *range(len(data) - 12, len(data) - 4)]
    # Behind every scan of a progressive file, where a decoder has a whole image of less detail.
    cuts += [at for at in range(scan + 1, len(data)) if data[at : at + 2] == b"\xff\xda"]
    cuts += [at for at in range(scan + 1, len(data)) if data[at : at + 2] == b"\xff\xc4"]
    for cut in cuts:
        assert "cut off or damaged" in refusal(data[:cut]), cut


# PNG with damage beside its pixels


def with_chunk(extra: bytes, behind: bool = False) -> bytes:
    """The corpus's RGB PNG with a chunk more, in front of its pixels or behind them."""
    recipe = next(recipe for recipe in image_corpus.RECIPES if recipe.name == "png-rgb")
    data = image_corpus.save(image_corpus.picture("RGB")[0], recipe, 1)
    at = len(data) - 12 if behind else 33
    return data[:at] + extra + data[at:]


def bad(kind: bytes, body: bytes) -> bytes:
    good = chunk(kind, body)
    return good[:-1] + bytes([good[-1] ^ 1])


TEXT = b"comment\0\0" + zlib.compress(bytes(3_000_000))
BESIDE = {
    "text": bad(b"tEXt", b"Comment\0hello"),
    "time": bad(b"tIME", bytes(7)),
    "profile": bad(b"iCCP", b"name\0\0" + zlib.compress(b"junk")),
    "too large a text": chunk(b"zTXt", TEXT),
    "too large a profile": chunk(b"iCCP", b"n\0\0" + zlib.compress(bytes(90_000_000))),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", BESIDE)
def test_a_png_that_is_damaged_beside_its_pixels(name: str, behind: bool) -> None:
    pixels = decode(with_chunk(BESIDE[name], behind), LIMITS).pixels
    assert np.array_equal(pixels, image_corpus.picture("RGB")[1])


def test_a_png_with_damaged_pixels_is_refused() -> None:
    data = with_chunk(bad(b"tEXt", b"a\0b"))
    at = data.index(b"IDAT") + 20
    flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert "cut off or damaged" in refusal(flipped)
    # A palette that is damaged is not something beside the pixels.
    recipe = next(recipe for recipe in image_corpus.RECIPES if recipe.name == "png-p")
    whole = bytearray(image_corpus.save(image_corpus.picture("P")[0], recipe, 1))
    whole[whole.index(b"PLTE") + 5] ^= 1
    assert "cut off or damaged" in refusal(bytes(whole))


# Right words


def tga(footer: bytes = b"") -> bytes:
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 6, 24, 0x20)
    return head + bytes(8 * 6 * 3) + footer


def bmp(width: int = 8, height: int = 6, bits: int = 24, compression: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 200, 0, 0, 54) + info + bytes(200)


def tiff_with(tags: dict[int, Any], start: bytes | None = None) -> bytes:
    values = np.zeros((6, 8, 1), np.uint8)
    data = write(values, Layout(photometric=GRAY, tags=tags))
    return data if start is None else data[:8] + start + data[8 + len(start) :]


def raw_cr2() -> bytes:
    return tiff_with({271: (2, b"Canon\0")}, start=b"CR\2\0")


NAMED: dict[str, tuple[Callable[[], bytes], str]] = {
    "TGA": (tga, "is TGA"),
    "TGA with a footer": (lambda: tga(bytes(8) + b"TRUEVISION-XFILE.\0"), "is TGA"),
    "CUR": (lambda: b"\0\0\2\0\1\0" + bytes(60), "Windows cursor"),
    "FLI": (lambda: struct.pack("<IHHHH", 128, 0xAF11, 1, 8, 6) + bytes(120), "FLI or FLC"),
    "FLC": (lambda: struct.pack("<IHHHH", 128, 0xAF12, 1, 8, 6) + bytes(120), "FLI or FLC"),
    "SGI": (lambda: b"\x01\xda\0\1\0\2" + bytes(600), "is SGI"),
    "PCX": (lambda: b"\x0a\x05\x01\x08" + bytes(200), "is PCX"),
    "BLP": (lambda: b"BLP2\1\0\0\0" + bytes(200), "is BLP"),
    "XPM": (lambda: b"/* XPM */\nstatic char *x[] = {", "is XPM"),
    "XBM": (lambda: b"#define x_width 8\n#define x_height 6\n", "is XBM"),
    "AVI": (lambda: b"RIFF\0\0\1\0AVI LIST" + bytes(40), "AVI video"),
    "DNG": (lambda: tiff_with({50706: (1, b"\1\4\0\0")}), "raw file (DNG)"),
    "CR2": (raw_cr2, "raw file (CR2)"),
    "NEF": (
        lambda: tiff_with({254: (4, [1]), 271: (2, b"NIKON\0"), 330: (4, [8])}),
        "raw file (NEF)",
    ),
    "ARW": (lambda: tiff_with({271: (2, b"SONY\0"), 330: (4, [8])}), "raw file (ARW)"),
    "sensor values": (lambda: tiff_with({262: (3, [32803])}), "camera's raw file"),
    "RAF": (lambda: b"FUJIFILMCCD-RAW 0201FF" + bytes(100), "raw file (RAF)"),
    "ORF": (lambda: b"IIRO\x08\0\0\0" + bytes(100), "raw file (ORF)"),
    "RW2": (lambda: b"IIU\0\x18\0\0\0" + bytes(100), "raw file (RW2)"),
    "CR3": (lambda: b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(80), "raw file (CR3)"),
    "BMP as JPEG": (lambda: bmp(compression=4), "BMP is of a kind that is not supported"),
    "BMP of 2 bits": (lambda: bmp(bits=2), "BMP is of a kind that is not supported"),
    "BMP of negative width": (lambda: bmp(width=-127), "its width is -127"),
    "WebP in TIFF": (lambda: tiff_with({259: (3, [50001])}), "compressed with WebP is not"),
    "TIFF of 3 bits": (lambda: tiff_with({258: (3, [3])}), "TIFF is of a kind that is not"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_refusal_says_what_the_file_is(name: str) -> None:
    make, words = NAMED[name]
    message = refusal(make())
    assert words in message
    assert "cut off" not in message
    if "raw" in words:
        assert "develop it to JPEG or TIFF" in message


@pytest.mark.parametrize(
    "tags",
    [
        {330: (4, [8])},  # pages below, as microscopes write them
        {254: (4, [1])},  # a thumbnail alone
        {271: (2, b"HP scanner\0")},
        {271: (2, b"NIKON\0"), 34665: (4, [8])},
    ],
)
def test_ordinary_tiffs_are_not_taken_for_raw_files(tags: dict[int, Any]) -> None:
    assert decode(tiff_with(tags), LIMITS).size == (6, 8)


PROGRAMMERS_WORDS = ["index out of range", "driver", "MAX_TEXT_CHUNK", "unpack", "KeyError", "b'"]


@pytest.mark.parametrize("recipe", image_corpus.RECIPES, ids=lambda recipe: recipe.name)
def test_no_refusal_speaks_of_the_programs_inside(recipe: image_corpus.Recipe) -> None:
    data = image_corpus.save(image_corpus.picture(recipe.mode)[0], recipe, 1)
    rng = np.random.default_rng(1)
    variants = [data[:length] for length in range(12, len(data), max(1, len(data) // 15))]
    for _ in range(15):
        junk = bytearray(data)
        for at in rng.integers(8, len(data), 4):
            junk[at] = rng.integers(256)
        variants.append(bytes(junk))
    # Where the file is not known at all, its first bytes are shown.
    messages = [message for v in variants if "Not a supported" not in (message := words_on(v))]
    assert not [m for m in messages if any(word in m for word in PROGRAMMERS_WORDS)]


# Several images in one file


def test_the_log_says_which_of_several_is_shown() -> None:
    picture = Pillow.new("RGB", (20, 10), "red")
    other = Pillow.new("RGB", (20, 10), "blue")
    for form, words in {
        "GIF": "Frames",
        "PNG": "Frames",
        "WEBP": "Frames",
        "TIFF": "Pages",
    }.items():
        options = {"lossless": True} if form == "WEBP" else {}
        data = saved(picture, form, save_all=True, append_images=[other], **options)
        image = decode(data, LIMITS)
        assert (image.pixels == (255, 0, 0)).all(), form
        assert image.notes == (f"{words}: several; the first is shown",)
        assert decode(saved(picture, form, **options), LIMITS).notes == ()


def test_the_log_says_that_a_16_bit_png_is_animated() -> None:
    first, second = (Pillow.new("I;16", (20, 10), level) for level in (0, 65535))
    data = saved(first, "PNG", save_all=True, append_images=[second])
    assert data[24] == 16, "not of 16 bits"
    frames, *_ = decode(data, LIMITS).notes
    assert frames == "Frames: several; the first is shown"
    assert not any("Frames" in note for note in decode(saved(first, "PNG"), LIMITS).notes)


def test_the_largest_of_a_heic_is_shown() -> None:
    from pillow_heif import HeifFile

    pictures = [Pillow.new("RGB", size, "red") for size in ((64, 48), (128, 96), (32, 32))]
    file = HeifFile()
    for picture in pictures:
        file.add_from_pillow(picture)
    buffer = io.BytesIO()
    file.save(buffer, primary_index=0)
    image = decode(buffer.getvalue(), LIMITS)
    assert image.size == (96, 128)
    assert image.notes == ("Images: 3; the largest is shown",)


def icon(picture: Pillow.Image, inside: str) -> bytes:
    return saved(picture, "ICO", sizes=[(16, 16), (48, 48), (32, 32)], bitmap_format=inside)


@pytest.mark.parametrize("inside", ["png", "bmp"])
def test_the_largest_of_an_icon_is_shown(inside: str) -> None:
    picture = Pillow.fromarray(RNG.integers(0, 255, (48, 48, 4), dtype=np.uint8))
    image = decode(icon(picture, inside), LIMITS)
    page = Pillow.new("RGB", picture.size, "white")
    page.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
    assert np.array_equal(image.pixels, np.asarray(page))
    assert image.notes == ("Images: 3; the largest is shown",)
    assert image.format == "ICO"


def test_icons_are_checked_before_they_are_decoded() -> None:
    data = saved(Pillow.new("RGB", (32, 32)), "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    at = data.index(struct.pack("<Iii", 40, 32, 64))
    huge = data[:at] + struct.pack("<Iii", 40, 30_000, 60_000) + data[at + 12 :]
    assert "a bitmap of 30,000 × 30,000 pixels" in refusal(huge)
    assert "lists no image" in refusal(data[:4] + bytes(2) + data[6:])
    assert "behind the end" in refusal(data[:-100])
    assert "neither a bitmap" in refusal(data[:at] + bytes(len(data) - at))
