"""`facebook/sam3` → a folder: fetched with a progress bar, resumed, ready to bake in.

What is stored is what images use, at half the size: weights in bfloat16 without the parts that
only video needs, one safetensors file, configuration, tokenizer, and the SAM License beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Sam3TrackerModel

from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.loading import FLOAT32_PARTS, weight_files
from sam3_image.model.weights.source import REPOSITORY, fetch, token_of

LICENSE_PAGE = "https://github.com/facebookresearch/sam3/blob/main/LICENSE"
TRACKER = "tracker_model."


def download(folder: Path, repository: str = REPOSITORY) -> str:
    """Fetch a repository and store what images use of it; returns a sentence on what was done.

    HF_TOKEN is the token to fetch it with. A download that was interrupted is resumed. Raises
    CheckpointError.
    """
    # Beside the target, so that an interrupted download is found again, and on the same disk.
    raw = folder.with_name(folder.name + ".download")
    fetch(repository, token_of(os.environ), raw)
    store(raw, folder)
    shutil.rmtree(raw)
    size = Checkpoint.open(folder).bytes_on_disk
    return f"{folder} is ready ({size / 1e9:.2f} GB)."


def store(raw: Path, folder: Path) -> None:
    """Write to `folder` what images use of the checkpoint in `raw`; raises CheckpointError.

    `folder` appears complete or not at all.
    """
    Checkpoint.open(raw)
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for file in (*raw.glob("*.json"), *raw.glob("*.txt"), *raw.glob("LICENSE*")):
        if not file.name.endswith(".safetensors.index.json"):
            shutil.copy2(file, fresh / file.name)
    if not list(raw.glob("LICENSE*")):
        add_license(fresh)
    config = json.loads((raw / "config.json").read_text())
    config["dtype"] = "bfloat16"
    (fresh / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(_wanted(raw), fresh / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def add_license(folder: Path) -> None:
    """Say beside the weights under which licence they are."""
    (folder / "LICENSE").write_text(f"These weights are under Meta's SAM License: {LICENSE_PAGE}\n")


def is_for_video(name: str) -> bool:
    """Whether the weight of that name in a `Sam3VideoModel` is one that no image needs."""
    video_only = "|".join(Sam3TrackerModel._keys_to_ignore_on_load_unexpected)
    return name.startswith(TRACKER) and bool(re.match(video_only, name.removeprefix(TRACKER)))


def _wanted(raw: Path) -> dict[str, torch.Tensor]:
    """The weights that images use, by name, in the dtype they are stored in."""
    kept = {}
    for file in weight_files(raw):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a dict
                if is_for_video(name):
                    continue
                tensor = weights.get_tensor(name)
                exact = name.startswith(tuple(TRACKER + part for part in FLOAT32_PARTS))
                kept[name] = tensor if exact else tensor.to(torch.bfloat16)
    return kept
