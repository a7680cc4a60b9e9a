"""A small file must not cost a large effort.

The limits on pixels and bytes do not bound what a decoder does: a JPEG of 1 MB can ask for
thousands of passes over its image, a TIFF for millions of strips, a PNG for millions of empty
chunks, each a walk through Python. What no honest file comes near is refused here.
"""

from __future__ import annotations

import io
import re

from PIL import Image as Pillow
from PIL.ImageFile import ImageFile

from sam3_image.errors import ImageError

# libjpeg walks the whole image once for each scan: 0.1 s at 100 megapixels. Encoders write a dozen.
JPEG_SCANS = 32
JPEG_SEGMENTS = 20_000
# Pillow joins and reads all EXIF segments of a JPEG; one has at most 64 KB, and one is usual.
JPEG_EXIF_BYTES = 256 * 1024

# Calls of read() per file. Pillow's parsers make a few for each chunk, segment or block, and one
# to two for each pixel of the formats that it decodes in Python: up to 5 µs each.
READS = 600_000
# What Pillow decodes in Python rather than in C is held to this size.
SLOW_PIXELS = 500_000
SLOW_BYTES = 4_000_000

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


class MeteredFile(io.BytesIO):
    """A file's content that may be read in at most READS pieces; then ImageError."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, as any file does; raises ImageError after READS calls."""
        self.left -= 1
        if self.left < 0:
            raise too_many_pieces()
        return super().read(size)


def too_many_pieces() -> ImageError:
    """Return the error of a file that is made of more than READS pieces."""
    return ImageError(f"The image file is made of more than {READS:,} tiny pieces: save it again.")


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


def check_bmp(data: bytes) -> None:
    """Raise ImageError for a BMP of negative width, which Pillow reads as more than 4 billion."""
    if int.from_bytes(data[14:18], "little") < 40:  # older headers have no sign
        return
    width = int.from_bytes(data[18:22], "little", signed=True)
    if width < 0:
        raise ImageError(
            f"The BMP is damaged (its width is {width:,}): send the whole file, or save it again."
        )


def check_effort(image: ImageFile, name: str, length: int, pixels: int) -> None:
    """Raise ImageError when decoding would cost far more than the image's size says.

    image: header read. name: of its format. length: bytes of the file. pixels: their limit.
    """
    width, height = image.size
    slow = any(tile[0] in Pillow.DECODERS for tile in image.tile)
    if slow and (width * height > SLOW_PIXELS or length > SLOW_BYTES):
        raise ImageError(
            f"The {name} of {width:,} × {height:,} pixels and {length:,} bytes is of a kind that "
            f"is slow to read; at most {SLOW_PIXELS:,} pixels and {SLOW_BYTES:,} bytes of it are "
            "accepted: save it as PNG or JPEG."
        )


def check_tiles(size: tuple[int, int], tile: tuple[int, int], pixels: int) -> None:
    """Raise ImageError where a small TIFF is cut from huge tiles, which are allocated whole.

    size, tile: (height, width). pixels: the limit of an image.
    """
    height, width = size
    if tile[0] * tile[1] > min(pixels, 4 * width * height + SLOW_PIXELS):
        raise ImageError(
            f"The TIFF of {width:,} × {height:,} pixels has tiles of {tile[1]:,} × {tile[0]:,}: "
            "save it again with smaller tiles, or as PNG."
        )
