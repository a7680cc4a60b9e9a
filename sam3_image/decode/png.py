"""PNGs that Pillow cannot show as they are: 16 bits per sample, and damage beside the pixels.

Pillow keeps only the high byte of 16-bit color. Every filter of PNG works on each byte of a pixel
by itself, so the rows are dealt out to two PNGs of 8 bits, one with the high bytes and one with
the low ones, which Pillow decodes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import MAX_TEXT_CHUNK, PngImageFile

from sam3_image.decode.decode_limits import READS, MeteredFile, too_many_pieces
from sam3_image.decode.inflate import Inflated
from sam3_image.decode.value_range import Samples
from sam3_image.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes that are decompressed and dealt out at a time.
CHUNK_BYTES = 4_000_000

# Samples per pixel of each color type that has 16 bits: gray, RGB, gray + alpha, RGB + alpha.
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
# Kept of a file that is damaged beside its pixels: what says how the pixels look. All but EXIF
# stand in front of them.
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf")
_ANYWHERE = (b"IDAT", b"IEND", b"eXIf")

# First column and row, and steps, of the seven passes of an interlaced PNG.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclass(frozen=True)
class Chunk:
    """One chunk of a PNG.

    whole: its kind, body and checksum. cut: the file ends before it does.
    """

    whole: memoryview
    cut: bool = False

    @property
    def kind(self) -> bytes:
        """Its four letters."""
        return bytes(self.whole[:4])

    @property
    def body(self) -> memoryview:
        """What it holds; with a part of the checksum, perhaps, where it is cut."""
        return self.whole[4:] if self.cut else self.whole[4:-4]

    @property
    def ancillary(self) -> bool:
        """Whether the pixels can be decoded without it."""
        return self.whole[0] & 0x20 > 0

    @property
    def intact(self) -> bool:
        """Whether its checksum is right; computed each time."""
        return not self.cut and zlib.crc32(self.whole[:-4]) == int.from_bytes(
            self.whole[-4:], "big"
        )


@dataclass(frozen=True)
class Header:
    """What the first chunk says. size: (height, width)."""

    size: tuple[int, int]
    channels: int
    interlaced: bool

    @property
    def memory(self) -> int:
        """Bytes that `read_samples` takes at its peak, the samples that it returns included."""
        # Two 8-bit files, one of them decoded (Pillow keeps 1 or 4 bytes a pixel), the samples.
        kept = 1 if self.channels == 1 else 4
        return self.size[0] * self.size[1] * (4 * self.channels + 2 * kept) + 4 * CHUNK_BYTES


def deep_header(data: bytes) -> Header | None:
    """Return the header of a PNG with 16 bits per sample; None of any other."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, bits, color, method, filters, interlace = struct.unpack_from(
        ">IIBBBBB", data, 16
    )
    if bits != 16 or color not in CHANNELS or method or filters or interlace > 1:
        return None
    return Header((height, width), CHANNELS[color], interlace == 1)


def has_frames(data: bytes) -> bool:
    """Whether a PNG is animated: it says before its pixels that it has more than one frame."""
    for chunk in _chunks(data):
        if chunk.kind == b"acTL":
            return int.from_bytes(chunk.body[:4], "big") > 1
        if chunk.kind == b"IDAT":
            break
    return False


def without_damage(data: bytes) -> bytes | None:
    """Return a PNG without what is damaged or too large beside its pixels.

    Texts, times and the like go, and color profiles and EXIF with a wrong checksum. None where
    that would not help: nothing is dropped, or the pixels themselves have a wrong checksum.
    """
    dropped, kept, behind = False, [], False
    for chunk in _chunks(data):
        behind = behind or chunk.kind == b"IDAT"
        if _is_needed(chunk, behind):
            kept.append(chunk)
        else:
            dropped = True
    if not dropped or not all(chunk.intact for chunk in kept):
        return None
    return SIGNATURE + b"".join(_chunk(chunk.kind, chunk.body) for chunk in kept)


def _is_needed(chunk: Chunk, behind: bool) -> bool:
    """Whether the pixels look other without a chunk; behind: it stands behind the first of them."""
    if chunk.kind not in _NEEDED or (chunk.ancillary and not chunk.intact):
        return False
    if chunk.kind == b"iCCP" and not _is_small_profile(chunk.body):
        return False
    return chunk.kind in _ANYWHERE or not behind


def _is_small_profile(body: memoryview) -> bool:
    """Whether a color profile can be decompressed and is one that Pillow reads."""
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(bytes(body).partition(b"\0")[2][1:], MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail


def read_samples(data: bytes, header: Header) -> tuple[Samples, dict[Any, Any]]:
    """Return the samples of a PNG with 16 bits each, and Pillow's `info`: ICC profile and EXIF.

    The memory of `header.memory` must be there. Raises ImageError for damaged data.
    """
    before, after, key = _beside_pixels(data)
    kept = (header.channels,) if header.channels > 1 else ()
    values = np.empty((*header.size, *kept), np.uint16)
    files = _dealt(data, header)
    info: dict[Any, Any] = {}
    for shift in (8, 0):
        # The header says 8 bits instead of 16; all else stays, for the profile and orientation.
        head = data[16:24] + b"\x08" + data[25:29]
        file = b"".join(
            [SIGNATURE, _chunk(b"IHDR", head), *before, _chunk(b"IDAT", files.pop(0)), *after]
        )
        with PngImageFile(MeteredFile(file)) as image:
            image.load()
            _combine(values, image, shift)
            info = info or dict(image.info)
        before = after = []
    colors = 3 if header.channels >= 3 else 1
    shaped = values.reshape(*header.size, -1)
    alpha = shaped[..., colors] if header.channels > colors else None
    if alpha is None and len(key) >= 2 * colors:
        transparent = np.frombuffer(key, ">u2", colors)
        alpha = (shaped != transparent).any(axis=2)
    return Samples(shaped[..., :colors], 16, alpha), info


def _beside_pixels(data: bytes) -> tuple[list[bytes], list[bytes], bytes]:
    """Chunks before and behind the pixels as they are in the file, and the transparent color."""
    before: list[bytes] = []
    after: list[bytes] = []
    key, behind = b"", False
    for chunk in _chunks(data):
        behind = behind or chunk.kind == b"IDAT"
        if not _is_needed(chunk, behind) or chunk.kind in (b"IHDR", b"IDAT"):
            continue
        if chunk.kind == b"tRNS":
            key = bytes(chunk.body[:6])
        else:
            (after if behind else before).append(_chunk(chunk.kind, chunk.body))
    return before, after, key


def _dealt(data: bytes, header: Header) -> list[bytes]:
    """Return the pixel data of two 8-bit PNGs: of the high bytes and of the low ones."""
    rows = list(_row_lengths(header))
    expected = sum(count * length for count, length in rows)
    highs, lows = zlib.compressobj(0), zlib.compressobj(0)
    high: list[bytes] = []
    low: list[bytes] = []
    stream = Inflated(_pixel_data(data))
    done = 0
    for count, length in rows:
        at_once = max(1, CHUNK_BYTES // length)
        for start in range(0, count, at_once):
            number = min(at_once, count - start)
            part = stream.read(number * length)
            done += len(part)
            if len(part) < number * length:
                raise _cut_off(done, expected)
            lines = np.frombuffer(part, np.uint8).reshape(number, length)
            filters, samples = lines[:, :1], lines[:, 1:]
            for out, packer, byte in ((high, highs, 0), (low, lows, 1)):
                dealt = np.concatenate([filters, samples[:, byte::2]], axis=1)
                out.append(packer.compress(dealt.data))
    return [b"".join([*high, highs.flush()]), b"".join([*low, lows.flush()])]


def _row_lengths(header: Header) -> Iterator[tuple[int, int]]:
    """Yield (rows, bytes of one with its filter) of each pass; one pass unless interlaced."""
    height, width = header.size
    for left, top, right, down in _PASSES if header.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            yield rows, 1 + 2 * header.channels * columns


def _pixel_data(data: bytes) -> Iterator[memoryview]:
    """Yield the compressed pixels, chunk by chunk."""
    for chunk in _chunks(data):
        if chunk.kind != b"IDAT":
            continue
        # A last chunk that is cut may still hold all pixels.
        if not chunk.cut and not chunk.intact:
            raise ImageError(
                "The PNG is cut off or damaged (a wrong checksum): send the whole file, or save "
                "it again."
            )
        yield chunk.body


def _combine(values: NDArray[np.uint16], image: PngImageFile, shift: int) -> None:
    """Put the bytes of a decoded 8-bit image into the samples, block by block."""
    rows = max(1, CHUNK_BYTES // (4 * image.width))
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        block = np.asarray(image.crop((0, top, image.width, bottom))).astype(np.uint16)
        if shift:
            values[top:bottom] = block << shift
        else:
            values[top:bottom] |= block


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG until it ends; raises ImageError for more than READS."""
    view = memoryview(data)
    at = len(SIGNATURE)
    for _ in range(READS):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if at + 8 > len(data):
            return
        chunk = Chunk(view[at + 4 : end], cut=end > len(data))
        yield chunk
        if chunk.cut or chunk.kind == b"IEND":
            return
        at = end
    raise too_many_pieces()


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    check = zlib.crc32(body, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(body)), kind, body, struct.pack(">I", check)])


def _cut_off(done: int, expected: int) -> ImageError:
    return ImageError(
        f"The PNG is cut off or damaged ({done:,} of {expected:,} bytes of pixels): send the whole "
        "file, or save it again."
    )
