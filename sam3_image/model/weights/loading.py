"""Weights → a transformers model, in little more than the time of building it.

The result is that of `from_pretrained`. It differs in what it costs at full size: `from_pretrained`
compiles a regular expression for each of 1,500 names, and looking for NaN afterwards reads all
weights again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from sam3_image.model.weights.low_precision import can_stay, compute_in
from sam3_image.model.weights.reading import Weights, target


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
    """A model of `kind` with its part of `weights`, on their device.

    prefixes: how the names of that part begin in the files → in the model; the first that fits.
    It computes in the dtypes of `target()`, and its weights are in them too, but for layers whose
    file is narrower: see `stored.py`.
    """
    with no_init_weights():
        model = kind(config)  # its weights are reserved but never written, which costs nothing
    expected = model.state_dict()
    found: dict[str, torch.Tensor] = {}
    stored: list[str] = []
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
        if is_narrow and can_stay(model, layer):
            stored.append(layer)
            dtype = tensor.dtype
        found[name] = tensor.to(dtype)
    model.load_state_dict(found, strict=False, assign=True)
    missing = sorted(expected.keys() - found.keys() - mismatched.keys())
    # Buffers that are in no file have been made by the constructor, on the host.
    compute_in(model, stored, weights.placement.dtype)
    model = model.to(weights.placement.device).eval().requires_grad_(False)
    return Loaded(model, missing, sorted(mismatched.values()), sorted(not_finite))


def _renamed(key: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
