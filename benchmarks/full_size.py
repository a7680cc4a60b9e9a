"""A checkpoint of full size with random weights: honest speed and memory without gated files."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Sam3ImageProcessor, Sam3Processor, Sam3VideoConfig, Sam3VideoModel

from demo_checkpoint.tokenizer import build_tokenizer


def checkpoint(folder: Path, dtype: torch.dtype) -> Path:
    """The checkpoint in `folder`, laid out as facebook/sam3; made (a minute) if it is not there.

    Of the tokenizer only the layout is CLIP's: its words are the demo's, which costs the same.
    """
    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(0)
    # 840 M parameters of both halves, drawn as transformers draws them before training.
    model = Sam3VideoModel(Sam3VideoConfig()).to(dtype)
    Sam3Processor(Sam3ImageProcessor(), build_tokenizer()).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
