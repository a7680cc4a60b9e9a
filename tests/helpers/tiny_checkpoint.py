"""A randomly initialised, tiny SAM 3 in the layout of `facebook/sam3`: plumbing, no meaning.

What it finds is noise. It stands in where a test needs a whole and valid checkpoint to break, or
where the demo checkpoint is not there. `python -m tests.helpers.tiny_checkpoint FOLDER` writes one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTokenizer,
    Sam3Config,
    Sam3ImageProcessor,
    Sam3Model,
    Sam3Processor,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3VideoConfig,
)

SIDE, PATCH, WIDTH = 112, 14, 64
GRID = SIDE // PATCH
FEATURES = [[4 * GRID, 4 * GRID], [2 * GRID, 2 * GRID], [GRID, GRID]]
TOKENS = 32  # the processor pads every prompt to this many


def write(folder: Path, seed: int = 0) -> Path:
    """Write configuration, weights, tokenizer and processor; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    vision, detector = _vision(), _detector(len(tokenizer))
    tracker = _tracker()
    Sam3VideoConfig(
        detector_config={**detector, "vision_config": vision, "model_type": "sam3"},
        tracker_config={
            **tracker,
            "vision_config": vision,
            "model_type": "sam3_tracker_video",
            "image_size": SIDE,  # without it the class writes 1008 over the sizes below it
            "memory_attention_hidden_size": WIDTH,
            "memory_encoder_hidden_size": WIDTH,
            "memory_encoder_output_channels": WIDTH,
        },
        low_res_mask_size=4 * GRID,
        architectures=["Sam3VideoModel"],
    ).save_pretrained(folder)
    find = Sam3Model(Sam3Config(**detector, vision_config=vision)).eval()
    pick = Sam3TrackerModel(Sam3TrackerConfig(**tracker, vision_config=vision)).eval()
    save_file(_shared_names(find, pick), folder / "model.safetensors", {"format": "pt"})
    image_processor = Sam3ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": 4 * GRID, "width": 4 * GRID}
    )
    Sam3Processor(image_processor, tokenizer, target_size=SIDE).save_pretrained(folder)
    return folder


def _shared_names(find: Sam3Model, pick: Sam3TrackerModel) -> dict[str, torch.Tensor]:
    """State of both halves under the names of `Sam3VideoModel`: one backbone, two necks."""
    state = {f"detector_model.{name}": tensor for name, tensor in find.state_dict().items()}
    for name, tensor in pick.state_dict().items():
        if name.startswith("vision_encoder.neck."):
            state["tracker_neck." + name.removeprefix("vision_encoder.neck.")] = tensor
        elif not name.startswith("vision_encoder."):
            state[f"tracker_model.{name}"] = tensor
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def _vision() -> dict[str, object]:
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "patch_size": PATCH,
        "window_size": GRID // 2,
        "global_attn_indexes": [1],
    }
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": FEATURES,
    }


def _detector(vocabulary: int) -> dict[str, object]:
    layer = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": WIDTH}
    text = {
        **layer,
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "projection_dim": 8,
        "num_hidden_layers": 1,
        "max_position_embeddings": TOKENS,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    return {
        "text_config": text,
        "geometry_encoder_config": {**layer, "num_layers": 1, "roi_size": 3},
        "detr_encoder_config": {**layer, "num_layers": 1},
        "detr_decoder_config": {**layer, "num_layers": 1, "num_queries": 6},
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 2},
    }


def _tracker() -> dict[str, object]:
    return {
        "prompt_encoder_config": {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": PATCH},
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": WIDTH,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": WIDTH,
        },
    }


def _tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: every byte of a prompt is a token, so any text encodes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
