"""Both halves as one folder in the layout of facebook/sam3.

The names in the safetensors are those that `Sam3VideoModel` gives its parts: the two image
classes each pick their own. Its `save_pretrained` is not used, since it writes names that
`Sam3TrackerModel` then misses. Parts that only video needs (the memory) are left out.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    Sam3ImageProcessor,
    Sam3Processor,
    Sam3TrackerProcessor,
    Sam3VideoConfig,
)

from tools.demo_checkpoint.config import IMAGE_SIZE, MASK_SIZE
from tools.demo_checkpoint.tokenizer import build_tokenizer

KEPT_FILES = ("README.md", "example.jpg")  # written by hand or by the evaluation


def checkpoint_tensors(
    detector: dict[str, Tensor], tracker: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """State dicts of `Sam3Model` and `Sam3TrackerModel` → the tensors of one file.

    The backbone is the detector's: the tracker's must be the same and is not stored again.
    """
    found = {f"detector_model.{name}": value for name, value in detector.items()}
    neck, backbone = "vision_encoder.neck.", "vision_encoder.backbone."
    for name, value in _without_memory_vector(tracker).items():
        if name.startswith(neck):
            found["tracker_neck." + name.removeprefix(neck)] = value
        elif not name.startswith(backbone):
            found[f"tracker_model.{name}"] = value
    return {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous().clone()
        for name, value in found.items()
    }


def _without_memory_vector(tracker: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move `no_memory_embedding` into the bias of the coarse level, where training added it.

    Plain `Sam3TrackerModel` adds it to the last of the neck's four levels, which nothing reads. As
    a bias it is where Meta's SAM 3 has it, however the checkpoint is run.
    """
    bias, vector = "vision_encoder.neck.fpn_layers.2.proj2.bias", "no_memory_embedding"
    moved = tracker[bias] + tracker[vector].flatten()
    return {**tracker, bias: moved, vector: torch.zeros_like(tracker[vector])}


def write_checkpoint(
    folder: Path,
    config: Sam3VideoConfig,
    detector: dict[str, Tensor],
    tracker: dict[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the whole folder beside itself first, so that a reader never sees half of one."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = Sam3ImageProcessor(size=size, mask_size={"height": MASK_SIZE, "width": MASK_SIZE})
    Sam3TrackerProcessor(images, target_size=IMAGE_SIZE).save_pretrained(partial)
    Sam3Processor(images, build_tokenizer(), target_size=IMAGE_SIZE).save_pretrained(partial)
    config.dtype = dtype
    config.save_pretrained(partial)
    tensors = checkpoint_tensors(detector, tracker, dtype)
    weights = partial / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes files that only their owner can read
    for name in KEPT_FILES:
        if (folder / name).exists():
            shutil.copy2(folder / name, partial / name)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def parameter_count(folder: Path) -> int:
    """Parameters in the folder's safetensors."""
    header = (folder / "model.safetensors").open("rb")
    with header:
        length = int.from_bytes(header.read(8), "little")
        entries = json.loads(header.read(length))
    total = 0
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        count = 1
        for side in entry["shape"]:
            count *= side
        total += count
    return total
