"""A checkpoint of full size with random weights: honest speed and memory without gated files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam3ImageProcessor, Sam3Processor, Sam3VideoConfig, Sam3VideoModel

from sam3_image.model import store
from tools.demo_checkpoint.tokenizer import build_tokenizer


def single(keep: Path, device: str = "cpu") -> Path:
    """A checkpoint in float32, laid out as facebook/sam3; made, in a minute, if it is not there.

    device: where its values are drawn, which on a GPU takes seconds.
    Of the tokenizer only the layout is CLIP's: its words are the demo's, which costs the same.
    """
    folder = keep / "float32"
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        # 850 M parameters of both halves, drawn as transformers draws them before training.
        with torch.device(device):
            model = Sam3VideoModel(Sam3VideoConfig())
        Sam3Processor(Sam3ImageProcessor(), build_tokenizer()).save_pretrained(folder)
        model.config.save_pretrained(folder)
        # Not the model's own save_pretrained: it writes names that Sam3TrackerModel then misses.
        state = model.state_dict().items()
        weights = {name: value.cpu().contiguous() for name, value in state}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def half(keep: Path, device: str = "cpu") -> Path:
    """The same checkpoint as download-weights stores it: bfloat16, and only what images use."""
    folder = keep / "bfloat16"
    if not folder.exists():
        store(single(keep, device), folder)
    return folder
