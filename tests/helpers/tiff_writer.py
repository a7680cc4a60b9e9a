"""A small writer of TIFFs of any layout, independent of the reader that it tests.

Values are (H, W, S) arrays of any integer or float type; what comes out of a file must be them.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

GRAY_INVERTED, GRAY, RGB = 0, 1, 2
ASSOCIATED, UNASSOCIATED = 1, 2

Tag = tuple[int, list[int] | list[float] | bytes]  # type, and numbers or text


@dataclass(frozen=True)
class Layout:
    """How a TIFF is written.

    order: "<" or ">". tile: (height, width), or None for strips of `rows` rows.
    bits: of packed samples, 9 to 15; None for those of the array's type.
    extra: what the samples behind the colors mean. tags: others, by number.
    """

    order: Literal["<", ">"] = "<"
    big: bool = False
    planar: bool = False
    tile: tuple[int, int] | None = None
    rows: int = 7
    compression: int = 1
    predictor: int = 1
    photometric: int = RGB
    extra: tuple[int, ...] = ()
    bits: int | None = None
    tags: dict[int, Tag] = field(default_factory=dict)


def write(values: NDArray[Any], layout: Layout = Layout()) -> bytes:
    """Return a TIFF of the values (H, W, S)."""
    planes = np.split(values, values.shape[2], axis=2) if layout.planar else [values]
    pieces = [encoded(piece, layout) for plane in planes for piece in _cut(plane, layout)]
    height, width, samples = values.shape
    bits = layout.bits or 8 * values.dtype.itemsize
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    counts = [len(piece) for piece in pieces]
    head = 16 if layout.big else 8
    offsets = [head + sum(counts[:number]) for number in range(len(counts))]
    tags: dict[int, Tag] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * samples),
        259: (3, [layout.compression]),
        262: (3, [layout.photometric]),
        277: (3, [samples]),
        284: (3, [2 if layout.planar else 1]),
        317: (3, [layout.predictor]),
        339: (3, [form] * samples),
    }
    if layout.tile is None:
        tags |= {273: (4, offsets), 278: (4, [layout.rows]), 279: (4, counts)}
    else:
        tall, wide = layout.tile
        tags |= {322: (4, [wide]), 323: (4, [tall]), 324: (4, offsets), 325: (4, counts)}
    if layout.extra:
        tags[338] = (3, list(layout.extra))
    return _file(b"".join(pieces), {**tags, **layout.tags}, layout)


def encoded(piece: NDArray[Any], layout: Layout) -> bytes:
    """Return one strip or tile (h, w, s) as it is stored."""
    if layout.bits is not None:
        wide = piece.astype(">u2").reshape(len(piece), -1, 1).view(np.uint8)
        bits = np.unpackbits(wide, axis=2)[..., 16 - layout.bits :]
        raw = np.packbits(bits.reshape(len(piece), -1), axis=1).tobytes()
    elif layout.predictor == 2:
        unsigned = piece.view(f"u{piece.dtype.itemsize}")
        before = np.zeros_like(unsigned)
        before[:, 1:] = unsigned[:, :-1]
        raw = (unsigned - before).astype(f"{layout.order}u{piece.dtype.itemsize}").tobytes()
    elif layout.predictor == 3:
        raw = _float_differences(piece)
    else:
        raw = piece.astype(piece.dtype.newbyteorder(layout.order)).tobytes()
    return COMPRESSORS[layout.compression](raw)


def _float_differences(piece: NDArray[Any]) -> bytes:
    """Rows of all first bytes, all second bytes …, as differences of the samples' neighbors."""
    height, _, samples = piece.shape
    size = piece.dtype.itemsize
    big = np.ascontiguousarray(piece.astype(piece.dtype.newbyteorder(">")))
    planes = big.view(np.uint8).reshape(height, -1, size).swapaxes(1, 2).reshape(height, -1)
    before = np.zeros_like(planes)
    before[:, samples:] = planes[:, :-samples]
    return (planes - before).tobytes()


def _cut(plane: NDArray[Any], layout: Layout) -> list[NDArray[Any]]:
    if layout.tile is None:
        return [plane[top : top + layout.rows] for top in range(0, len(plane), layout.rows)]
    tall, wide = layout.tile
    pad = ((0, -len(plane) % tall), (0, -plane.shape[1] % wide), (0, 0))
    full = np.pad(plane, pad, mode="edge")
    return [
        full[top : top + tall, left : left + wide]
        for top in range(0, len(full), tall)
        for left in range(0, full.shape[1], wide)
    ]


def _file(body: bytes, tags: dict[int, Tag], layout: Layout) -> bytes:
    order, big = layout.order, layout.big
    wide = "Q" if big else "I"
    room = 8 if big else 4
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if big else b""
    body += b"\0" * (-len(body) % 2)
    start = len(head) + room + len(body)
    table = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    values = b""
    values_start = start + len(table) + (4 + 2 * room) * len(tags) + room
    for tag, (kind, content) in sorted(tags.items()):
        code = {1: "B", 2: "s", 3: "H", 4: "I", 7: "s", 12: "d"}[kind]
        if isinstance(content, bytes):
            packed = content
        else:
            packed = struct.pack(f"{order}{len(content)}{code}", *content)
        table += struct.pack(f"{order}HH{wide}", tag, kind, len(content))
        if len(packed) <= room:
            table += packed.ljust(room, b"\0")
        else:
            table += struct.pack(f"{order}{wide}", values_start + len(values))
            values += packed + b"\0" * (len(packed) % 2)
    table += struct.pack(f"{order}{wide}", 0)
    return head + struct.pack(f"{order}{wide}", start) + body + table + values


def _lzw(raw: bytes) -> bytes:
    """Plain bytes as codes of 9 bits; the table is cleared before it needs a tenth."""
    codes: list[int] = []
    for start in range(0, len(raw), 200):
        codes += [256, *raw[start : start + 200]]
    codes.append(257)
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _pack_bits(raw: bytes) -> bytes:
    parts = [raw[start : start + 128] for start in range(0, len(raw), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def _zstd(raw: bytes) -> bytes:
    """A frame of uncompressed blocks."""
    parts = [raw[start : start + 100_000] for start in range(0, len(raw), 100_000)]
    blocks = b"".join(
        ((len(part) << 3) | (number == len(parts) - 1)).to_bytes(3, "little") + part
        for number, part in enumerate(parts)
    )
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(raw)) + blocks


COMPRESSORS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: _lzw,
    8: zlib.compress,
    32773: _pack_bits,
    32946: zlib.compress,
    34925: lambda raw: lzma.compress(raw, lzma.FORMAT_XZ),
    50000: _zstd,
}
