"""Windows icons: the largest of their images, as a file of its own that a decoder can check."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sam3_image.decode.png import SIGNATURE
from sam3_image.errors import ImageError

# Bitmaps in icons have at most 256 pixels a side; larger images are PNGs.
LARGEST = 1024

_HEAD, _ENTRY = 6, 16


@dataclass(frozen=True)
class Icon:
    """The largest image of an icon.

    count: of the images. file: a PNG, or an ICO of this one image. size: (height, width) of the
    one in the ICO, None for a PNG, which says it itself.
    """

    count: int
    file: bytes
    size: tuple[int, int] | None


def largest_icon(data: bytes) -> Icon:
    """Return the largest image of an ICO, the deepest of several; raises ImageError."""
    count = int.from_bytes(data[4:6], "little")
    entries = []
    for number in range(min(count, (len(data) - _HEAD) // _ENTRY)):
        at = _HEAD + _ENTRY * number
        width, height, _, _, _, bits, length, start = struct.unpack_from("<BBBBHHII", data, at)
        entries.append(((width or 256) * (height or 256), bits, -number, start, length))
    if not entries:
        raise _damaged("it lists no image")
    *_, number, start, length = max(entries)
    image = data[start : start + length]
    if not length or len(image) < length:
        raise _damaged("an image lies behind the end of the file")
    if image.startswith(SIGNATURE):
        return Icon(count, image, None)
    if len(image) < 40 or int.from_bytes(image[:4], "little") < 40:
        raise _damaged("an image in it is neither a bitmap nor a PNG")
    width, twice = struct.unpack_from("<ii", image, 4)  # with the mask below the colors
    if not (0 < width <= LARGEST and 0 < twice // 2 <= LARGEST):
        raise _damaged(f"a bitmap of {width:,} × {twice // 2:,} pixels")
    at = _HEAD - _ENTRY * number
    entry = data[at : at + 12] + struct.pack("<I", _HEAD + _ENTRY)
    return Icon(count, data[:4] + b"\x01\x00" + entry + image, (twice // 2, width))


def _damaged(cause: str) -> ImageError:
    return ImageError(
        f"The ICO is cut off or damaged ({cause}): send the whole file, or save it as PNG."
    )
