"""Weights from disk to the device while Python still imports, then into a transformers model.

Importing transformers keeps one core busy for seconds; reading 850 M weights, looking for NaN and
copying them to a GPU needs nothing but torch. So reading begins first, in a thread of its own. It
goes in few large pieces: one operation per weight would have to wait for the importing thread to
let go of Python's lock 1,500 times, 5 ms each.

The model is that of `from_pretrained`. It differs in what it costs at full size: `from_pretrained`
compiles a regular expression for each of 1,500 names, and looking for NaN afterwards reads all
weights again.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sam3_image.errors import CheckpointError, shown
from sam3_image.model.device import Placement
from sam3_image.model.weights.low_precision import can_stay, compute_in
from sam3_image.model.weights.products import ANSWERS, is_lowered, lower
from sam3_image.model.weights.tensor_file import Entry, read_entries
from sam3_image.shipped import command

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Parts that stay float32 in every placement. The tracker's turn pixel coordinates into phases: in
# bfloat16 a click would be off by several pixels. The detector's reference points are boxes, and a
# box in bfloat16 is off by up to 5 ‰ of the image's side. Their inputs are converted by
# `transformers_adapter.install_casts`.
FLOAT32_PARTS = ("shared_image_embedding", "prompt_encoder", "reference_points", *ANSWERS)
# Bounds what a conversion needs beside its result.
PIECE_BYTES = 256 << 20
# Vector loads want their operands at multiples of 16 bytes, CPU caches and MKL at multiples of 64.
ALIGNMENT = 64
# On a CPU unaligned weights of at most this many values are copied to aligned memory: whatever
# multiplies a single row (see `_aligned`), at most 140 MiB of SAM 3. Larger ones, which are the
# matrices of the vision and text encoders, stay mapped.
COPIED_VALUES = 1 << 19
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a checkpoint, in order; raises CheckpointError.

    `model.safetensors` where it is, else the parts that the index of a checkpoint in several files
    names, else every file of the kind.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{index} is not a readable index of safetensors files; fetch the weights again with "
            f"{command('download-weights')}."
        ) from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(
                f"{index} names the file {shown(name)}, which is not in that folder. Copy all "
                f"parts of the checkpoint, or fetch them again with {command('download-weights')}."
            )
    return [folder / name for name in names]


@dataclass(frozen=True)
class Weights:
    """All tensors of some files by their names there, on the device of `placement`.

    On a GPU they are in the dtype of `target()`; on a CPU still in that of the file, which they
    are a view of. not_finite: names of those that hold NaN or infinity.
    """

    tensors: dict[str, torch.Tensor]
    not_finite: frozenset[str]
    placement: Placement


class WeightsLoader:
    """Files of weights on their way to the device; `weights()` waits for them."""

    def __init__(self, files: Sequence[Path], placement: Placement) -> None:
        """Begin to read safetensors `files`, which stay mapped where nothing is converted."""
        pool = ThreadPoolExecutor(1, "weights")
        self._weights: Future[Weights] = pool.submit(_read, tuple(files), placement)
        pool.shutdown(wait=False)

    def weights(self) -> Weights:
        """Wait for all of them; raises CheckpointError, OSError or RuntimeError."""
        return self._weights.result()


@dataclass(frozen=True)
class Loaded:
    """A model, and the names of weights that make it unusable (all three empty if it is fine).

    missing: in no file. mismatched: of another shape than the configuration says, with both
    shapes. not_finite: with NaN or infinity. Such weights of `model` are undefined.
    """

    model: Any
    missing: list[str]
    mismatched: list[str]
    not_finite: list[str]


def load(
    kind: type[PreTrainedModel], config: Any, weights: Weights, prefixes: Mapping[str, str]
) -> Loaded:
    """Return a model of `kind` with its part of `weights`, on their device.

    prefixes: how the names of that part begin in the files → in the model; the first that fits.
    It computes in the dtypes of `target()`, and its weights are in them too, but for layers whose
    file is narrower: see `low_precision.py`.
    """
    # Not above: reading begins before transformers is there.
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = kind(config)  # its weights are reserved but never written, which costs nothing
    expected = model.state_dict()
    found: dict[str, torch.Tensor] = {}
    stored: list[str] = []
    lowered: set[str] = set()
    mismatched: dict[str, str] = {}
    not_finite: list[str] = []
    for key, tensor in weights.tensors.items():
        name = _renamed(key, prefixes)
        if name not in expected:
            continue
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            mismatched[name] = f"{name} {shapes}"
            continue
        if key in weights.not_finite:
            not_finite.append(name)
        dtype = target(key, tensor.dtype, weights.placement)
        layer, _, leaf = name.rpartition(".")
        is_narrow = leaf == "weight" and tensor.dtype.itemsize < dtype.itemsize
        if not _is_exact(key) and is_lowered(model, layer, weights.placement.products):
            lowered.add(layer)
            if weights.placement.products is torch.bfloat16:
                dtype = torch.bfloat16
        elif is_narrow and can_stay(model, layer):
            stored.append(layer)
            dtype = tensor.dtype
        found[name] = _aligned(tensor.to(dtype))
    model.load_state_dict(found, strict=False, assign=True)
    missing = sorted(expected.keys() - found.keys() - mismatched.keys())
    # Buffers that are in no file have been made by the constructor, on the host.
    compute_in(model, stored, torch.float32)  # nothing else is wider than its file
    lower(model, lowered, weights.placement.products)
    model = model.to(weights.placement.device).eval().requires_grad_(False)
    return Loaded(model, missing, sorted(mismatched.values()), sorted(not_finite))


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a small tensor that is not at a multiple of ALIGNMENT bytes to memory that is.

    safetensors packs tensors without gaps: behind one with an odd number of values all others are
    unaligned. MKL then sums the product of a single row in another order, so that the same weights
    would give other last bits from another file. Products of many rows do not depend on it, nor
    does their speed.
    """
    is_small = 0 < tensor.numel() <= COPIED_VALUES
    return tensor.clone() if is_small and tensor.data_ptr() % ALIGNMENT else tensor


def _renamed(key: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _read(files: Sequence[Path], placement: Placement) -> Weights:
    tensors: dict[str, torch.Tensor] = {}
    not_finite: list[str] = []
    for path in files:
        entries = read_entries(path)
        twice = [entry.name for entry in entries if entry.name in tensors]
        if twice:
            raise CheckpointError(
                f"{path} holds {shown(twice[0])}, which another file of {path.parent} holds too; "
                "keep the files of one checkpoint there."
            )
        with path.open("rb") as file:
            # Private: torch wants memory that it could write to, and never does.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        for piece in _pieces(entries):
            for entry, values, finite in _load(content, piece, placement):
                tensors[entry.name] = values
                if not finite:
                    not_finite.append(entry.name)
    return Weights(tensors, frozenset(not_finite), placement)


def _load(
    content: mmap.mmap, piece: Sequence[Entry], placement: Placement
) -> Iterator[tuple[Entry, torch.Tensor, bool]]:
    """Give the tensors of a piece, where and as they are used, and whether each is finite."""
    first, size = piece[0], piece[-1].end - piece[0].start
    raw = torch.empty(0, dtype=first.dtype)
    if size:
        count = size // first.dtype.itemsize
        raw = torch.frombuffer(content, dtype=first.dtype, count=count, offset=first.start)
    # Smallest and largest carry any NaN or infinity.
    sound = not first.dtype.is_floating_point or not size or _is_finite(raw)
    whole = raw
    if placement.device.type != "cpu":
        whole = raw.to(placement.device, target(first.name, first.dtype, placement))
    for entry in piece:
        begin = (entry.start - first.start) // first.dtype.itemsize
        end = begin + math.prod(entry.shape)
        finite = sound or begin == end or _is_finite(raw[begin:end])
        yield entry, whole[begin:end].view(entry.shape), finite


def _pieces(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Group tensors that lie side by side and are treated alike, at most PIECE_BYTES together.

    Each tensor begins at a multiple of ALIGNMENT values of its piece, so that all are aligned on a
    GPU, where a piece is one allocation: a tensor of another size is the last of its piece.
    """
    for _, alike in groupby(entries, lambda entry: (entry.dtype, _is_exact(entry.name))):
        piece: list[Entry] = []
        for entry in alike:
            is_full = piece and entry.end - piece[0].start > PIECE_BYTES
            if is_full or (piece and math.prod(piece[-1].shape) % ALIGNMENT):
                yield piece
                piece = []
            piece.append(entry)
        yield piece


def target(name: str, dtype: torch.dtype, placement: Placement) -> torch.dtype:
    """Return the dtype that a tensor of that name and dtype is used in."""
    if not dtype.is_floating_point:
        return dtype
    return torch.float32 if _is_exact(name) else placement.dtype


def _is_exact(name: str) -> bool:
    return any(part in name.split(".") for part in FLOAT32_PARTS)


def _is_finite(values: torch.Tensor) -> bool:
    return all(bool(end.isfinite()) for end in values.aminmax())
