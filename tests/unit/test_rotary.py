"""Our rotary attention beside transformers' own: equal bit for bit."""

from __future__ import annotations

import pytest
import torch
from transformers import Sam3ViTConfig
from transformers.models.sam3.modeling_sam3 import Sam3ViTLayer, apply_rotary_pos_emb_2d

from sam3_image.model.transformers_adapter import RotaryAttention, RotaryTables, rotate


@pytest.fixture
def config() -> Sam3ViTConfig:
    config = Sam3ViTConfig(
        hidden_size=64, num_attention_heads=4, image_size=112, patch_size=14, window_size=4
    )
    config._attn_implementation = "sdpa"
    return config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 4])
def test_rotation_and_attention_equal_transformers(
    config: Sam3ViTConfig, dtype: torch.dtype, window: int
) -> None:
    torch.manual_seed(0)
    layer = Sam3ViTLayer(config, window_size=window).eval()
    side = window or 8
    hidden = torch.randn(2, side, side, 64).to(dtype)
    cosine, sine = layer.rotary_emb(hidden, layer.position_ids)
    phases = RotaryTables(layer)(hidden, layer.position_ids)
    queries = torch.randn(2, side * side, 4, 16).to(dtype)
    theirs, _ = apply_rotary_pos_emb_2d(
        queries.transpose(1, 2), queries.transpose(1, 2), cosine, sine
    )
    assert torch.equal(rotate(queries, phases), theirs.transpose(1, 2))
    attention = layer.attention.to(dtype)
    expected, _ = attention(hidden, (cosine, sine))
    assert torch.equal(RotaryAttention(attention)(hidden, phases)[0], expected)


def test_positions_matter(config: Sam3ViTConfig) -> None:
    layer = Sam3ViTLayer(config, window_size=0)
    phases = RotaryTables(layer)(torch.zeros(1, 8, 8, 64), layer.position_ids)
    assert phases.shape == (64, 1, 8)
    assert len({tuple(row.tolist()) for row in phases[:, 0]}) == 64
