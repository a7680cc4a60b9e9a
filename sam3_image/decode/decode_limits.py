"""A small file must not cost a large effort.

The limits on pixels and bytes do not bound what a decoder does: a JPEG of 1 MB can ask for
thousands of passes over its image, a TIFF for millions of strips, a PNG for millions of empty
chunks, each a walk through Python. What no honest file comes near is refused here.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Literal

from PIL import Image as Pillow
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sam3_image.errors import ImageError

# libjpeg walks the whole image once for each scan: 0.1 s at 100 megapixels. Encoders write a dozen.
JPEG_SCANS = 32
JPEG_SEGMENTS = 20_000
# Pillow joins and reads all EXIF segments of a JPEG; one has at most 64 KB, and one is usual.
JPEG_EXIF_BYTES = 256 * 1024

# Numbers in a TIFF's directories, each a Python object. 120 megapixels in tiles of 32 × 32 need
# 235,000; a fraction costs as much as ten plain numbers.
TIFF_NUMBERS = 250_000
FRACTION_COST = 10

# Calls of read() per file. Pillow's parsers make a few for each chunk, segment or block, and one
# to two for each pixel of the formats that it decodes in Python: up to 5 µs each.
READS = 600_000
# What Pillow decodes in Python rather than in C is held to this size.
SLOW_PIXELS = 500_000
SLOW_BYTES = 4_000_000

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_TIFF_TEXT = (1, 2, 6, 7)  # types that Pillow keeps as bytes or text, however long
_TIFF_FRACTIONS = (5, 10)
_TIFF_SUBDIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability


class MeteredFile(io.BytesIO):
    """A file's content that may be read in at most READS pieces; then ImageError."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        self.left -= 1
        if self.left < 0:
            raise ImageError(
                f"The image file is made of more than {READS:,} tiny pieces: save it again."
            )
        return super().read(size)


def check_jpeg(data: bytes) -> None:
    """Raise ImageError for a JPEG with more scans, segments or EXIF than any camera writes."""
    position, segments, scans, exif = 2, 0, 0, 0
    while match := _JPEG_MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker == 0xD9 and scans:  # the image ends; what follows is another one or a video
            return
        segments += 1
        if marker in (0x01, 0xD8, 0xD9):  # no length follows
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if marker == 0xE1 and data.startswith(b"Exif\x00\x00", position + 2):
            exif += length
        scans += marker == 0xDA
        position += length
        for what, count, most in (
            ("scans", scans, JPEG_SCANS),
            ("segments", segments, JPEG_SEGMENTS),
            ("bytes of EXIF", exif, JPEG_EXIF_BYTES),
        ):
            if count > most:
                raise ImageError(
                    f"The JPEG has more than {most:,} {what}, which no camera or program writes: "
                    "save it again."
                )


def check_tiff(data: bytes) -> None:
    """Raise ImageError for a TIFF whose directories hold more numbers than its image can need."""
    fields = _Fields.big(data) if data[2:4] in (b"+\x00", b"\x00+") else _Fields.classic(data)
    if fields.numbers(fields.first, _TIFF_SUBDIRECTORIES) > TIFF_NUMBERS:
        raise ImageError(
            f"The TIFF has more than {TIFF_NUMBERS:,} numbers beside its pixels, from very small "
            "strips or tiles or from a damaged directory: save it again, or as PNG."
        )


def check_picture(picture: ImageFile, name: str, length: int, pixels: int) -> None:
    """Raise ImageError when decoding would cost far more than the image's size says.

    picture: header read; name: of its format; length: bytes of the file; pixels: their limit.
    """
    width, height = picture.size
    slow = any(tile[0] in Pillow.DECODERS for tile in picture.tile)
    if slow and (width * height > SLOW_PIXELS or length > SLOW_BYTES):
        raise ImageError(
            f"The {name} of {width:,} × {height:,} pixels and {length:,} bytes is of a kind that "
            f"is slow to read; at most {SLOW_PIXELS:,} pixels and {SLOW_BYTES:,} bytes of it are "
            "accepted: save it as PNG or JPEG."
        )
    if isinstance(picture, TiffImageFile):
        # A small image may be cut from huge tiles, which are allocated whole.
        sides = [picture.tag_v2.get(tag, 0) for tag in (322, 323)]
        if all(isinstance(side, int) for side in sides):
            tile = sides[0] * sides[1]
            if tile > min(pixels, 4 * width * height + SLOW_PIXELS):
                raise ImageError(
                    f"The TIFF of {width:,} × {height:,} pixels has tiles of {sides[0]:,} × "
                    f"{sides[1]:,}: save it again with smaller tiles, or as PNG."
                )


@dataclass(frozen=True)
class _Fields:
    """The directories of a TIFF, read without Pillow: `entry` bytes per field, `first` at."""

    data: bytes
    order: Literal["little", "big"]
    first: int
    header: int  # bytes of the number of fields
    entry: int  # bytes of one field
    wide: int  # bytes of a count and of an offset

    @classmethod
    def classic(cls, data: bytes) -> _Fields:
        order = _order(data)
        return cls(data, order, int.from_bytes(data[4:8], order), header=2, entry=12, wide=4)

    @classmethod
    def big(cls, data: bytes) -> _Fields:
        order = _order(data)
        return cls(data, order, int.from_bytes(data[8:16], order), header=8, entry=20, wide=8)

    def numbers(self, start: int, follow: tuple[int, ...]) -> int:
        """Numbers that the directory at `start` holds, with those of the tags in `follow`."""
        total = 0
        count = self._at(start, self.header)
        if count > TIFF_NUMBERS:
            return count
        for at in range(start + self.header, start + self.header + self.entry * count, self.entry):
            tag, kind = self._at(at, 2), self._at(at + 2, 2)
            length, value = self._at(at + 4, self.wide), self._at(at + 4 + self.wide, self.wide)
            if kind not in _TIFF_TEXT:
                # More than the file can hold is not read at all.
                length = min(length, len(self.data))
                total += length * (FRACTION_COST if kind in _TIFF_FRACTIONS else 1)
            if tag in follow:  # each is followed once, so that a loop ends
                follow = tuple(other for other in follow if other != tag)
                total += self.numbers(value, follow)
        return total

    def _at(self, start: int, length: int) -> int:
        return int.from_bytes(self.data[start : start + length], self.order)


def _order(data: bytes) -> Literal["little", "big"]:
    return "little" if data[:2] == b"II" else "big"
