"""ICC profiles made by hand, and what their colours are in sRGB by the formulas."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# Columns of the RGB → XYZ (D50) matrices, as in the published profiles.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
GAMMA = 2.19921875  # 563 / 256, as Adobe RGB has it


def adobe_rgb() -> bytes:
    """A wide-gamut profile of RGB images: primaries of Adobe RGB, gamma 2.2."""
    colours = {
        name: b"XYZ \0\0\0\0" + b"".join(_fixed(v) for v in xyz)
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE_RGB, strict=True)
    }
    return _profile(b"RGB ", {**colours, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve())})


def gray_gamma() -> bytes:
    """A profile of gray images: gamma 2.2 exactly, where sRGB has its own curve."""
    return _profile(b"GRAY", {b"kTRC": _curve()})


def adobe_to_srgb(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(…, 3) uint8 in Adobe RGB → (…, 3) uint8 in sRGB, cut off at the gamut's edge."""
    matrix = np.linalg.inv(np.array(SRGB).T) @ np.array(ADOBE_RGB).T
    return _encode((colours / 255.0) ** GAMMA @ matrix.T)


def gray_to_srgb(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 of gamma 2.2 → uint8 in sRGB."""
    return _encode((levels / 255.0) ** GAMMA)


def _encode(linear: NDArray[np.float64]) -> NDArray[np.uint8]:
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.rint(encoded * 255).astype(np.uint8)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _curve() -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(GAMMA * 256)) + b"\0\0"


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"test\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {
        b"desc": described + bytes(-len(described) % 4),
        b"wtpt": b"XYZ \0\0\0\0" + b"".join(_fixed(v) for v in (0.9642, 1.0, 0.8249)),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        **tags,
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = bytearray(128)
    head[:4] = struct.pack(">I", start + len(body))
    head[8:12] = b"\x02\x40\0\0"
    head[12:24] = b"mntr" + space + b"XYZ "
    head[24:36] = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    head[36:40] = b"acsp"
    head[68:80] = b"".join(_fixed(v) for v in (0.9642, 1.0, 0.8249))
    return bytes(head) + table + body
