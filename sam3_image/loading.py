"""safetensors files → a transformers model, in little more than the time of reading them.

The result is that of `from_pretrained`, whose names for weights are used here too. It differs in
what it costs at full size: `from_pretrained` compiles a regular expression for each of 1,500
names, and looking for NaN afterwards reads all weights again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import rename_source_key
from transformers.initialization import no_init_weights

from sam3_image.device import Placement

# Reading and converting wait for memory more than they compute.
READERS = 4


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
    kind: type[PreTrainedModel],
    config: Any,
    files: Sequence[Path],
    placement: Placement,
    names: Mapping[str, str] | None = None,
) -> Loaded:
    """A model of `kind` with the weights in `files`, in `placement.dtype` on its device.

    names: renamings (pattern → replacement) beside transformers' own for this model. Weights in
    `kind._keep_in_fp32_modules_strict` stay float32.
    """
    with no_init_weights():
        model = kind(config)  # its weights are reserved but never written, which costs nothing
    expected = model.state_dict()
    precise = tuple(getattr(kind, "_keep_in_fp32_modules_strict", None) or ())
    renamings = get_model_conversion_mapping(model, dict(names) if names else None)
    device = str(placement.device)
    found: dict[str, torch.Tensor] = {}
    mismatched: dict[str, str] = {}
    not_finite: list[str] = []

    def read(file: Any, key: str, name: str) -> None:
        tensor = file.get_tensor(key)
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            mismatched[name] = f"{name} {shapes}"
            return
        is_number = tensor.is_floating_point()
        # Smallest and largest carry any NaN or infinity, and are looked for in the file's dtype.
        if is_number and not all(end.isfinite() for end in tensor.aminmax()):
            not_finite.append(name)
        if is_number:
            exact = any(part in name.split(".") for part in precise)
            tensor = tensor.to(torch.float32 if exact else placement.dtype)
        found[name] = tensor

    with ThreadPoolExecutor(READERS) as pool:
        for path in files:
            with safe_open(path, framework="pt", device=device) as file:
                jobs = []
                for key in file.keys():  # noqa: SIM118 (no dictionary)
                    name, _ = rename_source_key(
                        key, renamings, [], model.base_model_prefix, expected
                    )
                    if name in expected:
                        jobs.append(pool.submit(read, file, key, name))
                # disable=None: on a terminal only, in a log it would run into the next line.
                for job in tqdm(jobs, "Loading weights", leave=False, disable=None):
                    job.result()
    model.load_state_dict(found, strict=False, assign=True)
    missing = sorted(expected.keys() - found.keys() - mismatched.keys())
    # Buffers that are in no file have been made by the constructor, on the host.
    model = model.to(placement.device).eval().requires_grad_(False)
    return Loaded(model, missing, sorted(mismatched.values()), sorted(not_finite))
