"""Everything that touches the inside of transformers' SAM 3, with the reason at each place.

Its public calls do the whole way from an image to results each time. Ours keep features between
requests and replace the slowest part, so they call modules and read attributes that transformers
does not promise to keep. Whoever moves to another version of transformers checks this file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

# A neck makes four levels (4, 2, 1 and ½ × the patch grid); no head reads the last.
LEVELS = 3


def first_levels(neck: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The levels of a `Sam3VisionNeck` that are read: (1, C, s·h, s·w) for s = 4, 2, 1.

    Its own forward also makes the fourth one, and position encodings of all.
    """
    levels = []
    for layer in neck.fpn_layers[:LEVELS]:
        levels.append(layer(hidden))
    return tuple(levels)


def position_encoding(detector: Any, level: torch.Tensor) -> torch.Tensor:
    """The position encoding of a feature level (1, C, h, w), of the same shape."""
    neck = detector.vision_encoder.neck
    # In bfloat16 its sines would be off by 0.03; computed in float32 and rounded once, by 0.002.
    encoding: torch.Tensor = neck.position_encoding(level.shape, level.device, torch.float32)
    return encoding.to(level.dtype)


def geometry_tokens(
    detector: Any, level: torch.Tensor, boxes: NDArray[np.float32], labels: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (1, n + 1, C) of n exemplar boxes and which of them are valid (1, n + 1).

    The model itself runs the geometry encoder only when boxes are given, and at every call.
    level: the lowest one of the detector's neck. boxes: (n, 4) cxcywh in 0–1; labels: n of 1 or 0.
    """
    signs = torch.tensor([labels], dtype=torch.long, device=level.device)
    output = detector.geometry_encoder(
        box_embeddings=torch.tensor(boxes[None], device=level.device),
        box_mask=torch.ones_like(signs, dtype=torch.bool),
        box_labels=signs,
        img_feats=(level,),
        img_pos_embeds=(position_encoding(detector, level),),
    )
    return output.last_hidden_state, output.attention_mask


def run_heads(
    detector: Any, levels: tuple[torch.Tensor, ...], tokens: torch.Tensor, valid: torch.Tensor
) -> Any:
    """A `Sam3ImageSegmentationOutput` for B prompts about one image.

    levels: of `first_levels`. tokens, valid: (B, t, C) and (B, t) of texts and exemplars.
    The detector must have been through `install_host_shapes`.
    """
    position = position_encoding(detector, levels[-1])
    spread = []
    for level in levels:
        spread.append(level.expand(len(tokens), -1, -1, -1))
    return detector(
        # The heads read only the lowest level's position encoding, and drop a fourth level.
        vision_embeds=Sam3VisionEncoderOutput(
            fpn_hidden_states=(*spread, spread[-1]), fpn_position_encoding=(position,) * 4
        ),
        text_embeds=BaseModelOutputWithPooling(pooler_output=tokens),
        # As attention reads it. From two dimensions each of three parts would make the same, after
        # it has asked the device whether all tokens are valid.
        attention_mask=valid[:, None, None],
    )


def with_no_memory(tracker: Any, levels: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The tracker's feature levels with the no-memory embedding added to the lowest.

    transformers adds it to the neck's last level. In SAM 3 that is a fourth one, which nothing
    reads, so it has no effect; Meta adds it to the third.
    """
    low, middle, high = levels
    return low, middle, high + tracker.no_memory_embedding.permute(1, 2, 0)[..., None]


def decode_masks(
    tracker: Any,
    levels: tuple[torch.Tensor, ...],
    sparse: torch.Tensor,
    dense: torch.Tensor,
    multimask: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mask logits (1, N, M, h, w), IoU estimates (1, N, M) and object logits (1, N, 1).

    For N targets with M candidates each. `Sam3TrackerModel` itself takes prompts for its full
    resolution only, and makes the features anew where they are not given in its own form.
    sparse, dense: the targets as `embed_prompts` gives them.
    """
    low, middle, high = levels
    logits, scores, _, presence = tracker.mask_decoder(
        image_embeddings=high,
        image_positional_embeddings=_cell_positions(tracker, high),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        high_resolution_features=[
            tracker.mask_decoder.conv_s0(low),
            tracker.mask_decoder.conv_s1(middle),
        ],
    )
    return logits, scores, presence


def embed_prompts(
    tracker: Any,
    high: torch.Tensor,
    points: torch.Tensor | None,
    labels: torch.Tensor | None,
    boxes: torch.Tensor | None,
    logits: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of N targets: sparse (1, N, t, C) and dense (1, C, h, w), for `decode_masks`.

    high: the lowest feature level, (1, C, h, w).
    points: (1, N, p, 2), labels: (1, N, p), boxes: (1, N, 4) xyxy, in pixels of the encoder's input
    at full resolution, float32; None where there are none.
    logits: (1, 1, 4·h, 4·w), the mask prompt of a single target, or None.
    """
    if logits is not None:
        logits = logits.to(high.dtype)
    sparse, dense = tracker.prompt_encoder(
        input_points=points, input_labels=labels, input_boxes=boxes, input_masks=logits
    )
    if sparse is None:  # a mask alone
        sparse = high.new_empty((1, 1, 0, high.shape[1]))
    height, width = high.shape[-2:]
    # Without a mask prompt all its vectors are equal, so a part serves any resolution.
    return sparse, dense[..., :height, :width].to(high.dtype)


@dataclass(frozen=True)
class DecodedPoints:
    """The mask decoder after its transformer, for N points, before it makes any mask.

    scores: IoU estimates (N, 3). presence: object logits (N,).
    tokens: (N, 3, C) of the candidates. cells: (N, C, h, w).
    """

    scores: torch.Tensor
    presence: torch.Tensor
    tokens: torch.Tensor
    cells: torch.Tensor


def decode_points(tracker: Any, high: torch.Tensor, points: torch.Tensor) -> DecodedPoints:
    """The first half of `decode_masks` for N single points (N, 2), each an object of its own.

    The estimates of the masks' IoU are known before the masks are, so a caller who keeps a few of
    many candidates need not compute the rest. high: the lowest feature level.
    """
    decoder = tracker.mask_decoder
    count = len(points)
    labels = torch.ones((1, count, 1), dtype=torch.long, device=points.device)
    sparse, dense = embed_prompts(tracker, high, points[None, :, None], labels, None)
    own = (decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight)
    tokens = torch.cat([torch.cat(own).expand(1, count, -1, -1), sparse.to(high.dtype)], dim=2)
    tokens, cells = decoder.transformer(
        point_embeddings=tokens,
        image_embeddings=(high + dense).expand(count, -1, -1, -1),
        image_positional_embeddings=_cell_positions(tracker, high).expand(count, -1, -1, -1),
        attention_similarity=None,
        target_embedding=None,
    )
    scores = decoder.iou_prediction_head(tokens[0, :, 1])
    return DecodedPoints(
        scores=scores[:, 1:],  # the first is of the single mask, which is not asked for
        presence=decoder.pred_obj_score_head(tokens[0, :, 0])[:, 0],
        tokens=tokens[0, :, 3 : 2 + decoder.num_mask_tokens],
        cells=cells.transpose(-1, -2).reshape(count, *high.shape[1:]),
    )


def fine_features(tracker: Any, levels: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """What `candidate_masks` reads of the two finer levels: (1, c, 4·h, 4·w), (1, C, 2·h, 2·w)."""
    decoder = tracker.mask_decoder
    return decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1])


def candidate_masks(
    tracker: Any, fine: tuple[torch.Tensor, ...], decoded: DecodedPoints, chosen: torch.Tensor
) -> torch.Tensor:
    """The second half of `decode_masks`: logits (n, 3, 4·h, 4·w) of the points `chosen` (n,)."""
    decoder = tracker.mask_decoder
    cells = decoder.upscale_conv1(decoded.cells[chosen]) + fine[1]
    cells = decoder.activation(decoder.upscale_layer_norm(cells))
    cells = decoder.activation(decoder.upscale_conv2(cells) + fine[0])
    heads = decoder.output_hypernetworks_mlps[1:]
    weights = [head(decoded.tokens[chosen, index]) for index, head in enumerate(heads)]
    logits: torch.Tensor = torch.stack(weights, dim=1) @ cells.flatten(2)
    return logits.view(len(chosen), len(heads), *cells.shape[2:])


def _cell_positions(tracker: Any, level: torch.Tensor) -> torch.Tensor:
    """The position encoding (1, C, h, w) of the centres of a level's cells, computed in float32.

    Stands in for `get_image_wide_positional_embeddings`, which knows the full resolution only.
    """
    height, width = level.shape[-2:]
    y = (torch.arange(height, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32) + 0.5) / width
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    encoded = tracker.shared_image_embedding(centres.to(level.device))
    return encoded.permute(2, 0, 1)[None].to(level.dtype)


# What a GPU computes is queued, and a pass of the heads is a thousand short steps: it is fast only
# while the host runs ahead. transformers stops it fifteen times a pass, to read the side of the
# patch grid back (twice in each of six layers) and whether a mask is all true.


def install_host_shapes(detector: Any) -> None:
    """Let a `Sam3Model` know the patch grid on the host, and take masks as `run_heads` has them."""
    detector.detr_encoder._prepare_multilevel_features = _one_level
    detector.dot_product_scoring.register_forward_pre_hook(_flat_mask, with_kwargs=True)


class HostShapes(dict[tuple[int, int], int]):
    """(h, w) of the one feature level, read as transformers reads a tensor (1, 2) of them."""

    shape = (1, 2)


def _one_level(
    features: list[torch.Tensor], positions: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, HostShapes]:
    """Stands in for `Sam3DetrEncoder._prepare_multilevel_features`: (B, h·w, C) twice, and (h, w).

    The decoder's grid of coordinates is cached by these numbers, which tensors would never match.
    """
    (level,), (position,) = features, positions
    shapes = HostShapes({(0, 0): level.shape[-2], (0, 1): level.shape[-1]})
    return level.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2), shapes


def _flat_mask(_: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The one part that reads the mask as (B, t)."""
    return values, {**named, "text_mask": named["text_mask"][:, 0, 0]}


# In half precision, boxes and scores still are float32. transformers computes them in the dtype of
# the whole model: bfloat16 has steps of 1/256 between 0.5 and 1, so a box would be off by up to 5 ‰
# of the image's side. Meta runs SAM 3 under autocast, where the same tensors are float32 because
# its weights are; here the weights are in half precision, so that each border is a cast.

# Modules whose weights are float32 (`loading.FLOAT32_PARTS`) but which read half precision.
TO_FLOAT32 = (
    "detr_decoder.box_head",
    "detr_decoder.presence_head",
    "dot_product_scoring",
    "mask_decoder.iou_prediction_head",
    "mask_decoder.pred_obj_score_head",
)
# Modules with weights in half precision that read coordinates: these are rounded once, here.
TO_HALF = (
    "detr_decoder.ref_point_head",
    "detr_decoder.box_rpb_embed_x",
    "detr_decoder.box_rpb_embed_y",
    "geometry_encoder.boxes_direct_project",
    "geometry_encoder.boxes_pos_enc_project",
    "geometry_encoder.boxes_pool_project",
)
# What it gives is sampled inside the exemplar boxes, at positions that must not be rounded.
FROM_HALF = "geometry_encoder.vision_layer_norm"


def install_casts(model: Any, dtype: torch.dtype) -> None:
    """Let a model in half precision compute boxes and scores in float32.

    model: a `Sam3Model` or `Sam3TrackerModel`. dtype: of its weights, but for those that stay
        float32; nothing changes where that is float32 too.
    """
    if dtype is torch.float32:
        return
    modules = dict(model.named_modules())
    for names, wanted in ((TO_FLOAT32, torch.float32), (TO_HALF, dtype)):
        for name in names:
            if name in modules:
                modules[name].register_forward_pre_hook(_inputs_to(wanted), with_kwargs=True)
    if FROM_HALF in modules:
        modules[FROM_HALF].register_forward_hook(lambda _, inputs, output: output.float())


def _inputs_to(dtype: torch.dtype) -> Callable[..., Any]:
    """A hook that converts the floating-point tensors among a module's inputs."""

    def convert(value: Any) -> Any:
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if is_float else value

    def hook(_: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return tuple(map(convert, values)), {key: convert(one) for key, one in named.items()}

    return hook


# The ViT's rotary attention: transformers computes cosines and sines in each of 32 layers at every
# call, and rotates queries and keys in nine passes over memory. Here the tables are made once per
# token grid, and a pair of channels is one complex number, so that the rotation is one
# multiplication. The results are equal bit for bit, at an eighth of the time on a CPU.


class RotaryTables(nn.Module):
    """Stands in for the `rotary_emb` of every ViT layer: one table per token grid.

    Positions follow `Sam3ViTLayer.precompute_positions`: a grid of any size spans the window that
    the frequencies were trained on, so global layers keep their meaning at other resolutions.
    """

    def __init__(self, layer: Any) -> None:
        """Take frequencies and position rule from a `Sam3ViTLayer`, one of those to be served."""
        super().__init__()
        self._rotary: nn.Module = type(layer.rotary_emb)(layer.config)
        self._positions = layer.precompute_positions
        self._config = copy.copy(layer.config)
        self._tables: dict[tuple[int, torch.device], torch.Tensor] = {}

    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Phases (h·w, 1, head_dim / 2) complex64 for `hidden` (B, h, w, C), h = w."""
        side = hidden.shape[1]
        key = (side, hidden.device)
        if key not in self._tables:
            self._config.image_size = side * self._config.patch_size
            positions = self._positions(self._config, window_size=0).to(hidden.device)
            cosine, sine = self._rotary.to(hidden.device)(hidden, positions)
            # Each frequency is there twice, once for either channel of a pair.
            self._tables[key] = torch.complex(cosine[0, :, ::2], sine[0, :, ::2])[:, None]
        return self._tables[key]


class RotaryAttention(nn.Module):
    """Stands in for `Sam3ViTRoPEAttention`, with its weights; reads phases of `RotaryTables`."""

    def __init__(self, original: Any) -> None:
        """Take over the projections of a `Sam3ViTRoPEAttention`."""
        super().__init__()
        self.q_proj, self.k_proj = original.q_proj, original.k_proj
        self.v_proj, self.o_proj = original.v_proj, original.o_proj
        self.heads: int = original.num_attention_heads

    def forward(
        self, hidden_states: torch.Tensor, position_embeddings: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """Self-attention within each of B windows; `hidden_states` (B, h, w, C) in and out."""
        windows, height, width, _channels = hidden_states.shape
        shape = (windows, height * width, self.heads, -1)
        query = rotate(self.q_proj(hidden_states).view(shape), position_embeddings)
        key = rotate(self.k_proj(hidden_states).view(shape), position_embeddings)
        value = self.v_proj(hidden_states).view(shape)
        attended = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        return self.o_proj(attended.transpose(1, 2).reshape(hidden_states.shape)), None


def rotate(values: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    """Turn each pair of channels of (B, n, heads, d) by `phases` (n, 1, d / 2) complex64.

    Computed in float32 and returned in the dtype of `values`, as in transformers'
    `apply_rotary_pos_emb_2d`.
    """
    pairs = torch.view_as_complex(values.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases).flatten(-2).to(values.dtype)


def install_rotary(backbone: Any) -> None:
    """Replace tables and attention of a `Sam3ViTModel` in place; weights stay where they are."""
    tables = RotaryTables(backbone.layers[0])
    for layer in backbone.layers:
        layer.rotary_emb = tables
        layer.attention = RotaryAttention(layer.attention)
