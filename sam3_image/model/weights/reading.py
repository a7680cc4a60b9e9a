"""Weights from disk to the device, while Python is still busy with imports.

Importing transformers keeps one core busy for seconds; reading 850 M weights, looking for NaN and
copying them to a GPU needs nothing but torch. So reading begins first, in a thread of its own. It
goes in few large pieces: one operation per weight would have to wait for the importing thread to
let go of Python's lock 1,500 times, 5 ms each.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from sam3_image.model.device import Placement

# Parts of the tracker that stay float32: they turn pixel coordinates into phases, and in bfloat16
# a click would be off by several pixels.
FLOAT32_PARTS = ("shared_image_embedding", "prompt_encoder")
# Bounds what a conversion needs beside its result.
PIECE_BYTES = 256 << 20
# The format's names: https://huggingface.co/docs/safetensors
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in order."""
    return sorted(folder.glob("*.safetensors"))


@dataclass(frozen=True)
class Weights:
    """All tensors of some files by their names there, on the device of `placement`.

    On a GPU they are in the dtype of `target()`; on a CPU still in that of the file, which they
    are a view of. not_finite: names of those that hold NaN or infinity.
    """

    tensors: dict[str, torch.Tensor]
    not_finite: frozenset[str]
    placement: Placement


class Reading:
    """Files of weights on their way to the device; `weights()` waits for them."""

    def __init__(self, files: Sequence[Path], placement: Placement) -> None:
        """Begin to read safetensors `files`, which stay mapped where nothing is converted."""
        pool = ThreadPoolExecutor(1, "weights")
        self._weights: Future[Weights] = pool.submit(_read, tuple(files), placement)
        pool.shutdown(wait=False)

    def weights(self) -> Weights:
        """All of them; raises OSError, ValueError or RuntimeError for what cannot be read."""
        return self._weights.result()


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes after the header
    end: int


def _read(files: Sequence[Path], placement: Placement) -> Weights:
    tensors: dict[str, torch.Tensor] = {}
    not_finite: list[str] = []
    for path in files:
        with path.open("rb") as file:
            # Private: torch wants memory that it could write to, and never does.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (header_size,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + header_size])
        for piece in _pieces(header):
            first, size = piece[0], piece[-1].end - piece[0].start
            if not size:
                raw = torch.empty(0, dtype=first.dtype)
            else:
                raw = torch.frombuffer(
                    content,
                    dtype=first.dtype,
                    count=size // first.dtype.itemsize,
                    offset=8 + header_size + first.start,
                )
            # Smallest and largest carry any NaN or infinity.
            sound = not first.dtype.is_floating_point or not size or _is_finite(raw)
            whole = raw
            if placement.device.type != "cpu":
                whole = raw.to(placement.device, target(first.name, first.dtype, placement))
            for entry in piece:
                begin = (entry.start - first.start) // first.dtype.itemsize
                count = math.prod(entry.shape)
                tensors[entry.name] = whole[begin : begin + count].view(entry.shape)
                if not sound and count and not _is_finite(raw[begin : begin + count]):
                    not_finite.append(entry.name)
    return Weights(tensors, frozenset(not_finite), placement)


def _pieces(header: dict[str, Any]) -> Iterator[list[_Entry]]:
    """Tensors that lie side by side and are treated alike, at most PIECE_BYTES of them."""
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    unknown = {tensor["dtype"] for tensor in tensors.values()} - DTYPES.keys()
    if unknown:
        raise ValueError(f"numbers of type {', '.join(sorted(unknown))}, not {', '.join(DTYPES)}")
    entries = [
        _Entry(name, DTYPES[tensor["dtype"]], tuple(tensor["shape"]), *tensor["data_offsets"])
        for name, tensor in tensors.items()
    ]
    entries.sort(key=lambda entry: entry.start)
    for _, alike in groupby(entries, lambda entry: (entry.dtype, _is_exact(entry.name))):
        piece: list[_Entry] = []
        for entry in alike:
            if piece and entry.end - piece[0].start > PIECE_BYTES:
                yield piece
                piece = []
            piece.append(entry)
        yield piece


def target(name: str, dtype: torch.dtype, placement: Placement) -> torch.dtype:
    """The dtype that a tensor of that name and dtype is used in."""
    if not dtype.is_floating_point:
        return dtype
    return torch.float32 if _is_exact(name) else placement.dtype


def _is_exact(name: str) -> bool:
    return any(part in name.split(".") for part in FLOAT32_PARTS)


def _is_finite(values: torch.Tensor) -> bool:
    return all(bool(end.isfinite()) for end in values.aminmax())
