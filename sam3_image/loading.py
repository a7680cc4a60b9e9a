"""Weights → a transformers model, in little more than the time of building it.

The result is that of `from_pretrained`, whose names for weights are used here too. It differs in
what it costs at full size: `from_pretrained` compiles a regular expression for each of 1,500
names, and looking for NaN afterwards reads all weights again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import rename_source_key
from transformers.initialization import no_init_weights

from sam3_image.reading import Weights


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


def load(kind: type[PreTrainedModel], config: Any, weights: Weights) -> Loaded:
    """A model of `kind` with its part of `weights`, on their device and in their dtypes."""
    with no_init_weights():
        model = kind(config)  # its weights are reserved but never written, which costs nothing
    expected = model.state_dict()
    renamings = get_model_conversion_mapping(model)
    found: dict[str, torch.Tensor] = {}
    mismatched: dict[str, str] = {}
    not_finite: list[str] = []
    for key, tensor in weights.tensors.items():
        name, _ = rename_source_key(key, renamings, [], model.base_model_prefix, expected)
        if name not in expected:
            continue
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            mismatched[name] = f"{name} {shapes}"
            continue
        if key in weights.not_finite:
            not_finite.append(name)
        found[name] = tensor
    model.load_state_dict(found, strict=False, assign=True)
    missing = sorted(expected.keys() - found.keys() - mismatched.keys())
    # Buffers that are in no file have been made by the constructor, on the host.
    model = model.to(weights.placement.device).eval().requires_grad_(False)
    return Loaded(model, missing, sorted(mismatched.values()), sorted(not_finite))
