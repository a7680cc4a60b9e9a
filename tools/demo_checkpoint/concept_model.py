"""`Sam3Model` taken apart for training: every decoder layer's answer, many prompts an image.

transformers returns only the last layer and has no loss for SAM 3; what is computed here is the
same as in `Sam3Model.forward`, from the same modules, called as in `as_meta.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTokenizer, Sam3Model
from transformers.models.sam3.modeling_sam3 import inverse_sigmoid

from tools.demo_checkpoint.as_meta import NO_BOX
from tools.demo_checkpoint.config import QUERY_GRID, WIDTH
from tools.demo_checkpoint.prompts import Prompt


@dataclass(frozen=True)
class PromptTensors:
    """P prompts: `image` int64 (P,), which scene; `ids`, `text_mask` (P, T); `boxes` float32
    (P, K, 4) cxcywh in 0-1; `labels` int64 (P, K), 1, 0 or -10 for none; `wanted` bool (P, M)."""

    image: Tensor
    ids: Tensor
    text_mask: Tensor
    boxes: Tensor
    labels: Tensor
    wanted: Tensor


@dataclass(frozen=True)
class Answer:
    """`logits` (L, P, Q); `boxes` (L, P, Q, 4) cxcywh; `presence` (L, P); `queries` (P, Q, C) of
    the last layer; `encoded` (P, G*G, C); `features`, `mask` the prompt as it was used."""

    logits: Tensor
    boxes: Tensor
    presence: Tensor
    queries: Tensor
    encoded: Tensor
    features: Tensor
    mask: Tensor


class Words:
    """Token ids of phrases, remembered because the same phrases come again and again."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Its token ids with start and end, at most 32."""
        if text not in self.known:
            self.known[text] = list(self.tokenizer(text)["input_ids"])[:32]
        return self.known[text]


def prompt_tensors(
    prompts: list[list[Prompt]], boxes: Tensor, words: Words, device: torch.device
) -> PromptTensors:
    """Return prompts of each scene, flattened; `boxes` (B, M, 4) xyxy are the scenes' objects."""
    flat = [(image, prompt) for image, own in enumerate(prompts) for prompt in own]
    texts = [words.ids(prompt.text) for _, prompt in flat]
    length = max(len(ids) for ids in texts)
    most = max(1, max(len(prompt.boxes) for _, prompt in flat))
    count, objects = len(flat), boxes.shape[1]
    pad = words.tokenizer.pad_token_id
    ids = torch.full((count, length), pad, dtype=torch.long)
    text_mask = torch.zeros(count, length, dtype=torch.long)
    chosen = torch.zeros(count, most, 4)
    labels = torch.full((count, most), NO_BOX, dtype=torch.long)
    wanted = torch.zeros(count, objects, dtype=torch.bool)
    plain = boxes.cpu()
    for row, (image, prompt) in enumerate(flat):
        ids[row, : len(texts[row])] = torch.tensor(texts[row])
        text_mask[row, : len(texts[row])] = 1
        wanted[row, list(prompt.answer)] = True
        for column, (index, positive) in enumerate(prompt.boxes):
            low, high = plain[image, index, :2], plain[image, index, 2:]
            size = high - low
            # Nobody draws a box to the pixel.
            shake = (torch.rand(4) - 0.5) * 0.12
            low, high = low + shake[:2] * size, high + shake[2:] * size
            chosen[row, column] = torch.cat([(low + high) / 2, high - low])
            labels[row, column] = int(positive)
    images = torch.tensor([image for image, _ in flat])
    return PromptTensors(*(t.to(device) for t in (images, ids, text_mask, chosen, labels, wanted)))


def answer(
    model: Sam3Model,
    levels: tuple[Tensor, ...],
    positions: tuple[Tensor, ...],
    prompts: PromptTensors,
) -> Answer:
    """Run text, geometry, DETR encoder and decoder. `levels`: three FPN levels, finest first."""
    text = model.get_text_features(
        input_ids=prompts.ids, attention_mask=prompts.text_mask
    ).pooler_output
    geometry, geometry_mask = _geometry(model, levels, positions, prompts, text.dtype)
    features = torch.cat([text, geometry.to(text.dtype)], dim=1)
    mask = torch.cat([prompts.text_mask.bool(), geometry_mask], dim=1)
    encoded = model.detr_encoder(
        vision_features=[levels[-1][prompts.image]],
        text_features=features,
        vision_pos_embeds=[positions[-1][:1].expand(len(prompts.image), -1, -1, -1)],
        text_mask=mask,
    )
    decoded = model.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=encoded.text_features,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    hidden = decoded.intermediate_hidden_states
    offsets = model.detr_decoder.box_head(hidden).float()
    boxes = (inverse_sigmoid(decoded.reference_boxes.float()) + offsets).sigmoid()
    logits = model.dot_product_scoring(
        decoder_hidden_states=hidden, text_features=encoded.text_features, text_mask=mask
    )
    return Answer(
        logits.squeeze(-1).float(),
        boxes,
        decoded.presence_logits.squeeze(-1).float(),
        hidden[-1],
        encoded.last_hidden_state,
        features,
        mask,
    )


def _geometry(
    model: Sam3Model,
    levels: tuple[Tensor, ...],
    positions: tuple[Tensor, ...],
    prompts: PromptTensors,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Tokens of each prompt's boxes (P, K + 1, C) and which are not padding (P, K + 1).

    One of them is the CLS token, which a prompt without boxes has as well, as in Meta's SAM 3.
    """
    # roi_align has no bfloat16.
    with torch.autocast(levels[-1].device.type, enabled=False):
        out = model.geometry_encoder(
            box_embeddings=prompts.boxes,
            box_mask=prompts.labels != NO_BOX,
            box_labels=prompts.labels.clamp(min=0),
            img_feats=(levels[-1][prompts.image].float(),),
            img_pos_embeds=(positions[-1][:1].float().expand(len(prompts.image), -1, -1, -1),),
        )
    return out.last_hidden_state.to(dtype), out.attention_mask


def start_queries(model: Sam3Model) -> None:
    """Let every query begin as a detector of its own place.

    The boxes start on a grid, the box head starts at "no change", and the position bias of the
    decoder's attention starts as a fence around the box, high for some heads and low for others.
    From a random start it takes thousands of steps until queries have found a place.
    """
    decoder = model.detr_decoder
    place = (torch.arange(QUERY_GRID) + 0.5) / QUERY_GRID
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    size = torch.full_like(rows, 1.2 / QUERY_GRID)
    boxes = torch.stack([columns, rows, size, size], dim=-1).flatten(0, 1)
    fences = torch.tensor([18.0, 9.0, 4.0, 1.0])
    with torch.no_grad():
        decoder.reference_points.weight.copy_(torch.logit(boxes))
        decoder.query_embed.weight.normal_(std=0.5)
        decoder.box_head.layer3.weight.zero_()
        decoder.box_head.layer3.bias.zero_()
        # Most queries find nothing: begin with scores near sigmoid(-2.5), not one half.
        model.dot_product_scoring.text_proj.bias.fill_(0.5)
        model.dot_product_scoring.query_proj.bias.fill_(-2.5 * WIDTH**0.5 / (0.5 * WIDTH))
        model.mask_decoder.instance_projection.weight.mul_(0.3)
        for bias in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
            # Inputs: signed distance beyond the low edge, and beyond the high edge.
            bias.layer1.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
            bias.layer1.bias[:2] = 0
            bias.layer2.weight.mul_(0.1)
            bias.layer2.weight[:, :2] = -fences[:, None]


def query_anchors(device: torch.device) -> Tensor:
    """Where queries start: float32 (Q, 2), x and y in 0-1."""
    place = (torch.arange(QUERY_GRID, device=device) + 0.5) / QUERY_GRID
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)
