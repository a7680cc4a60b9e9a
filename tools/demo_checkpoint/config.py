"""The sizes of the demo model, as one transformers configuration for both halves."""

from __future__ import annotations

from typing import Any

from transformers import Sam3TrackerConfig, Sam3VideoConfig

from tools.demo_checkpoint.as_meta import EPSILON

IMAGE_SIZE = 336  # pixels; the picture is squashed to a square of this side
PATCH_SIZE = 14
GRID = IMAGE_SIZE // PATCH_SIZE  # 24 patches per side
MASK_SIZE = 4 * GRID  # 96 mask cells per side
VISION_WIDTH = 128
VISION_LAYERS = 6
WIDTH = 64  # of everything after the backbone; the video tracker wants multiples of 64
QUERY_GRID = 6  # queries start on a grid of this side
TEXT_TOKENS = 32  # the processor pads to this

_FEATURE_SIZES = [[MASK_SIZE, MASK_SIZE], [2 * GRID, 2 * GRID], [GRID, GRID]]


def demo_config(vocabulary_size: int, *, bos: int, eos: int, pad: int) -> Sam3VideoConfig:
    """The configuration of the demo checkpoint.

    `vocabulary_size` and the three token ids are those of its tokenizer.
    """
    text = {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary_size,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": 8,  # its projection is not used by SAM 3
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_TOKENS,
        "hidden_act": "gelu",
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }
    config = Sam3VideoConfig(
        detector_config=_detector(text), tracker_config=_tracker(), low_res_mask_size=MASK_SIZE
    )
    config.architectures = ["Sam3VideoModel"]
    return config


def _vision() -> dict[str, Any]:
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": VISION_WIDTH,
            "intermediate_size": 3 * VISION_WIDTH,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "pretrain_image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "window_size": GRID // 2,
            "layer_norm_eps": EPSILON,
            "global_attn_indexes": [2, 5],
        },
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": _FEATURE_SIZES,
    }


def _detector(text: dict[str, Any]) -> dict[str, Any]:
    layer = {
        "hidden_size": WIDTH,
        "num_attention_heads": 4,
        "intermediate_size": 4 * WIDTH,
        "dropout": 0.0,
    }
    return {
        "model_type": "sam3",
        "vision_config": _vision(),
        "text_config": text,
        "geometry_encoder_config": {**layer, "num_layers": 1, "roi_size": 3},
        "detr_encoder_config": {**layer, "num_layers": 2},
        "detr_decoder_config": {**layer, "num_layers": 3, "num_queries": QUERY_GRID**2},
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 4},
    }


def _tracker() -> dict[str, Any]:
    return {
        "model_type": "sam3_tracker_video",
        # Read before everything else: without it the class writes 1008 over the sizes below.
        "image_size": IMAGE_SIZE,
        "vision_config": _vision(),
        "prompt_encoder_config": {
            "hidden_size": WIDTH,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": 4 * WIDTH,
            # Few wide heads: a head has to tell places apart by the position encoding alone.
            "num_attention_heads": 2,
            "attention_downsample_rate": 1,
            "iou_head_hidden_dim": WIDTH,
        },
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_feed_forward_hidden_size": 4 * WIDTH,
        "memory_attention_num_layers": 1,
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": WIDTH,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 4 * WIDTH,
    }


def tracker_image_config(config: Sam3VideoConfig) -> Sam3TrackerConfig:
    """Return the part of `config` that `Sam3TrackerModel` reads, as its own configuration."""
    tracker = config.tracker_config.to_dict()
    names = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    return Sam3TrackerConfig(**{name: tracker[name] for name in names})
