"""The safetensors format: headers read and checked without the tensors, and files written in turn.

Layout (https://huggingface.co/docs/safetensors): 8 bytes with the header's length (little endian),
a JSON header, and the tensors at the `data_offsets` that the header gives, without gaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sam3_image.errors import CheckpointError, shown
from sam3_image.shipped import command

# The format's names of dtypes. Its 8-bit floats are missing: SAM 3 is never stored in them.
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
ALIGNMENT = 8  # of the first tensor, in bytes


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, which occupies the bytes from `start` to `end` of it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def read_entries(path: Path) -> list[Entry]:
    """List the tensors of a safetensors file in the order of their bytes.

    Raises CheckpointError for a file that is no safetensors file, is cut off, or in which tensors
    overlap, leave a gap, or do not have the size that their shape and dtype ask for.
    """
    size, begin, header = _header(path)
    entries = sorted(
        (
            _entry(path, name, fields, begin)
            for name, fields in header.items()
            if name != "__metadata__"
        ),
        key=lambda entry: (entry.start, entry.end),
    )
    promised = max([begin, *(entry.end for entry in entries)])
    if size != promised:
        raise CheckpointError(
            f"{path} has {size} bytes, but its header promises {promised}: the download is "
            f"incomplete or damaged. Fetch it again with {command('download-weights')}."
        )
    reached = begin
    for entry in entries:
        if entry.start != reached:
            fault = "overlaps another" if entry.start < reached else "leaves a gap before it"
            raise _damaged(path, f"the tensor {shown(entry.name)} {fault}")
        reached = entry.end
    return entries


def write(
    path: Path, tensors: Mapping[str, torch.Tensor], make: Mapping[str, Callable[[], torch.Tensor]]
) -> None:
    """Write a safetensors file, one tensor in memory at a time.

    tensors: shape and dtype of each, for example on the meta device.
    make: gives each tensor, on the CPU, when its turn comes; the same names as `tensors`.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [reached, reached + tensor.nbytes],
        }
        reached += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in tensors:
            values = make[name]().contiguous()
            file.write(values.reshape(-1).view(torch.uint8).numpy().data)


def _header(path: Path) -> tuple[int, int, dict[str, Any]]:
    """Size of the file in bytes, where its tensors begin, and what its header says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < size else None
    except (OSError, ValueError, struct.error):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{path} is not a safetensors file, or its start is damaged. "
            f"Fetch it again with {command('download-weights')}."
        )
    return size, 8 + length, header


def _entry(path: Path, name: str, fields: Any, begin: int) -> Entry:
    try:
        dtype, shape, (start, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
        numbers = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    except (KeyError, TypeError, ValueError):
        numbers = False
    if not numbers:
        raise _damaged(path, f"the entry {shown(name)} of its header is malformed")
    if dtype not in DTYPES:
        raise CheckpointError(
            f"{path} holds numbers of type {shown(dtype)} ({name}); SAM 3 loads from "
            f"{', '.join(DTYPES)}. Convert the weights to BF16 or F32."
        )
    if end - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise _damaged(path, f"the tensor {shown(name)} of shape {shape} has {end - start} bytes")
    return Entry(name, DTYPES[dtype], shape, begin + start, begin + end)


def _damaged(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged: {fault}. Fetch it again with {command('download-weights')}."
    )
