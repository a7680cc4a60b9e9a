"""Files that announce, or are, far more pixels than their bytes suggest."""

from __future__ import annotations

import struct
import zlib


def inflate(form: str, data: bytes) -> bytes:
    """The same file announcing 30,000 × 30,000 pixels (or the most that its format can say)."""
    side = 30_000
    if form == "PNG":
        return data[:8] + chunk(b"IHDR", struct.pack(">II", side, side) + data[24:29]) + data[33:]
    if form == "GIF":
        return data[:6] + struct.pack("<HH", 65535, 65535) + data[10:]
    if form == "BMP":
        return data[:18] + struct.pack("<ii", side, side) + data[26:]
    if form == "PPM":
        magic, rest = data.split(b"\n", 1)
        return magic + b"\n" + rest.replace(b"64 48", b"30000 30000", 1)
    if form == "JPEG":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = data.find(marker)
            if at > 0:
                return data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]
    if form == "TIFF":
        return _inflate_tiff(data, side)
    if form in ("AVIF", "HEIF"):  # image spatial extents, once per item
        parts = data.split(b"ispe")
        return b"ispe".join(
            [parts[0], *(p[:4] + struct.pack(">II", side, side) + p[12:] for p in parts[1:])]
        )
    return _inflate_webp(data)


def _inflate_webp(data: bytes) -> bytes:
    most = 16383
    if data[12:16] == b"VP8X":
        return data[:24] + (most - 1).to_bytes(3, "little") * 2 + data[30:]
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little") & ~((1 << 28) - 1) | (most - 1) * 0x4001
        return data[:21] + bits.to_bytes(4, "little") + data[25:]
    return data[:26] + struct.pack("<HH", most, most) + data[30:]


def _inflate_tiff(data: bytes, side: int) -> bytes:
    changed = bytearray(data)
    offset = int.from_bytes(data[4:8], "little")
    for entry in range(int.from_bytes(data[offset : offset + 2], "little")):
        at = offset + 2 + 12 * entry
        if int.from_bytes(data[at : at + 2], "little") in (256, 257):
            changed[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(changed)


def huge_png(side: int) -> bytes:
    """A whole, valid 1-bit grayscale PNG of side × side zeros: the real bomb, 110 KB at 30,000."""
    squeeze = zlib.compressobj(9)
    row = bytes(1 + -(-side // 8))
    body = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """One chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check
