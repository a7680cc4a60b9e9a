"""Broken TIFFs and 16-bit PNGs, each in a process with little memory and time.

Bits flipped, files cut, directories rewired: pixels or one line, no crash, no hang, no traceback.
`script/fuzz 2000` tries 2,000 of them.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import struct
import sys
import traceback
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from sam3_image.decode.image import Limits, decode
from sam3_image.decode.tiff_directory import Directory
from sam3_image.errors import UserError
from tests.helpers.image_bombs import chunk
from tests.helpers.tiff_writer import ASSOCIATED, GRAY, GRAY_INVERTED, UNASSOCIATED, Layout, write
from tests.unit.test_value_range import png16

MUTANTS = int(os.environ.get("SAM3_FUZZ", "120"))
MEMORY = 2_000_000_000  # bytes of address space
SECONDS = 10  # of the processor

Rng = np.random.Generator


def files() -> list[bytes]:
    """Twenty files of all kinds that this project reads by itself."""
    rng = np.random.default_rng(0)

    def values(dtype: str, samples: int) -> np.ndarray:
        kind = np.dtype(dtype)
        top = 1 if kind.kind == "f" else np.iinfo(kind).max
        return (rng.random((48, 64, samples)) * top).astype(kind)

    tiffs = [
        write(values("u2", 3)),
        write(values("u2", 3), Layout(order=">", planar=True)),
        write(values("u2", 3), Layout(big=True, tile=(16, 16), compression=8, predictor=2)),
        write(values("u2", 3), Layout(planar=True, compression=5)),
        write(values("u2", 4), Layout(extra=(ASSOCIATED,), compression=8)),
        write(values("u2", 13), Layout(photometric=GRAY, extra=(0,) * 12, planar=True)),
        write(values("u1", 5), Layout(photometric=GRAY, extra=(0,) * 4, compression=8)),
        write(values("u2", 2), Layout(photometric=GRAY, extra=(UNASSOCIATED,))),
        write(values("u2", 1), Layout(photometric=GRAY_INVERTED, rows=48, compression=32773)),
        write(values("u2", 1) >> 4, Layout(photometric=GRAY, bits=12, tile=(16, 32))),
        write(values("f4", 3), Layout(compression=8, predictor=3, tile=(32, 16))),
        write(values("f2", 1), Layout(photometric=GRAY, compression=34925)),
        write(values("f8", 1), Layout(photometric=GRAY, tags={42113: (2, b"-9999\0")})),
        write(values("i1", 1), Layout(photometric=GRAY, tags={274: (3, [6])})),
        write(values("u4", 1), Layout(photometric=GRAY, compression=50000)),
        write(values("u8", 3), Layout(big=True, compression=32946, order=">")),
    ]
    pngs = [png16(values("u2", n), color) for color, n in ((0, 1), (2, 3), (4, 2))]
    return [*tiffs, *pngs, png16(values("u2", 4), 6, interlaced=True)]


def flipped(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def cut(data: bytes, rng: Rng) -> bytes:
    start, length = rng.integers(0, len(data)), int(rng.integers(1, 2000))
    return data[:start] + (data[start + length :] if rng.random() < 0.5 else b"")


def rewired(data: bytes, rng: Rng) -> bytes:
    """Types, counts and values of some fields of the directory; of a PNG, of its first chunk."""
    numbers = [0, 1, 2, 3, 7, 8, 255, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, len(data)]
    changed = bytearray(data)
    if data.startswith(b"\x89PNG"):
        at = int(rng.choice([16, 20, 24, 25, 28]))
        changed[at : at + 4] = struct.pack(">I", int(rng.choice(numbers)))
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
        return bytes(changed)
    directory = Directory.first(data)
    big = data[2:4] in (b"+\0", b"\0+")
    start = int.from_bytes(data[8:16] if big else data[4:8], directory.order)
    entry, wide, head = (20, 8, 8) if big else (12, 4, 2)
    for _ in range(rng.integers(1, 5)):
        at = start + head + entry * int(rng.integers(len(directory.fields)))
        offset, length = [(0, 2), (2, 2), (4, wide), (4 + wide, wide), (4 + wide, 2)][
            int(rng.integers(5))
        ]
        value = int(rng.choice(numbers)) & ((1 << 8 * length) - 1)
        if rng.random() < 0.3:
            value = int(rng.integers(len(data) + 100)) & ((1 << 8 * length) - 1)
        changed[at + offset : at + offset + length] = value.to_bytes(length, directory.order)
    return bytes(changed)


def outcome(data: bytes) -> str:
    """What decoding does in a process of its own: "" where it behaves."""
    read, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        status = 0
        try:
            decode(data, Limits())
        except UserError as error:
            message = str(error)
            if "\n" in message or len(message) > 400:
                os.write(write_end, message.encode()[:500])
                status = 1
        except BaseException:
            os.write(write_end, traceback.format_exc().encode()[-2000:])
            status = 1
        os._exit(status)
    os.close(write_end)
    with os.fdopen(read, "rb") as said:
        words = said.read().decode()
    _, code = os.waitpid(child, 0)
    if os.WIFSIGNALED(code):
        return f"killed by signal {os.WTERMSIG(code)}"
    return words if os.WEXITSTATUS(code) else ""


WAYS: list[Callable[[bytes, Rng], bytes]] = [flipped, cut, rewired]


# macOS ignores RLIMIT_AS, so a mutant that takes all memory would take the machine with it.
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory need Linux")
def test_mutants() -> None:
    seeds = files()
    assert len(seeds) == 20
    assert not [number for number, seed in enumerate(seeds) if outcome(seed)]
    rng = np.random.default_rng(int(os.environ.get("SAM3_FUZZ_SEED", "0")))
    for number in range(MUTANTS):
        way = WAYS[number % len(WAYS)]
        data = way(seeds[int(rng.integers(len(seeds)))], rng)
        problem = outcome(data)
        assert not problem, f"mutant {number}, {way.__name__}: {problem}\n{data.hex()[:4000]}"


def test_a_png_of_many_chunks_behind_its_pixels_is_refused_soon() -> None:
    data = png16(np.zeros((8, 8, 3), np.uint16), 2)
    end = chunk(b"IEND")
    flood = data[: -len(end)] + chunk(b"eXIf", b"II*\0") * 100_000 + end
    assert outcome(flood) == ""
