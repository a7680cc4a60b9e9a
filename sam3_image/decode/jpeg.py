"""JPEGs that lack their end marker: whether all of their pixels are there.

Scripts and interrupted programs leave the marker out. Whether pixels are missing, too, shows when
other bytes stand in the place of what is missing: pixels that depend on them are not in the file.
"""

from __future__ import annotations

import re

_FILLER = b"\x5a" * 2048
_RESTARTS = b"".join(bytes([0xFF, 0xD0 + number]) + _FILLER for number in range(8))
_END = b"\xff\xd9"
# A whole file gives the same pixels with each of these behind it; the last one is the right one.
ENDS = (_FILLER + _END, _RESTARTS + _END, _END)

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_SCAN = 0xDA
_COEFFICIENTS = 64


def has_all_scans(data: bytes) -> bool:
    """Whether scans of every coefficient in full precision have begun, and the file ends in one.

    A progressive file that ends between two scans is a whole one of lower quality to a decoder.
    False where the end marker is there.
    """
    missing: set[tuple[int, int]] | None = None
    position, in_scan = 2, False
    while match := _MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        if marker == 0xD9 or len(segment) < length - 2:
            return False
        if marker in _FRAMES and len(segment) >= 6:
            components = segment[6::3][: segment[5]]
            missing = {(name, number) for name in components for number in range(_COEFFICIENTS)}
        in_scan = marker == _SCAN
        if in_scan and segment and len(segment) >= 4 + 2 * segment[0]:
            first, last, precision = segment[-3:]
            if missing and precision & 15 == 0:
                names = segment[1 : 1 + 2 * segment[0] : 2]
                missing -= {(name, number) for name in names for number in range(first, last + 1)}
        position += length
    return in_scan and missing == set()
