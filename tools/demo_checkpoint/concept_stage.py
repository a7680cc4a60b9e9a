"""Stage 2: the concept half learns to answer texts and exemplar boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Sam3Model

from tools.demo_checkpoint.batches import Batch
from tools.demo_checkpoint.concept_model import Answer, PromptTensors, query_anchors
from tools.demo_checkpoint.config import GRID, MASK_SIZE, WIDTH
from tools.demo_checkpoint.losses import box_to_xyxy, dice_loss, generalised_iou, mask_error
from tools.demo_checkpoint.matching import match

LAYER_WEIGHTS = (0.6, 0.8, 1.0)


@dataclass(frozen=True)
class ConceptLossOptions:
    """`near`: see `match`. `masks`: prompts per step whose masks are trained; they cost most.
    `absent`: weight of class errors where the concept is absent. `focus`: exponent that makes
    sure negatives count less."""

    near: float = 3.0
    masks: int = 8
    absent: float = 0.6
    focus: float = 1.0


class EncoderHead(nn.Module):
    """A throw-away head on the DETR encoder: does this cell belong to the concept, and where is
    its object's box. It makes the encoder bring text and picture together within minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, 5)

    def forward(self, encoded: Tensor) -> Tensor:
        """(P, G*G, C) → (P, G*G, 5): logit and box offsets."""
        return self.out(encoded)


def concept_loss(
    found: Answer,
    prompts: PromptTensors,
    batch: Batch,
    near: float,
    options: ConceptLossOptions,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the weighted terms of all decoder layers, and the last layer's matches (P, M)."""
    targets = batch.boxes[prompts.image]
    anchors = query_anchors(targets.device)
    present = prompts.wanted.any(dim=1)
    terms = dict.fromkeys(("class", "l1", "giou", "presence"), targets.new_zeros(()))
    total = prompts.wanted.sum().clamp(min=1)
    matched = prompts.wanted.new_zeros(prompts.wanted.shape, dtype=torch.long)
    for layer, weight in enumerate(LAYER_WEIGHTS):
        logits, boxes = found.logits[layer], found.boxes[layer]
        matched = match(logits, boxes, anchors, targets, prompts.wanted, near)
        row, item = prompts.wanted.nonzero(as_tuple=True)
        query = matched[row, item]
        positive = torch.zeros_like(logits)
        positive[row, query] = 1
        error = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
        sure = torch.where(positive > 0, 1.0, logits.sigmoid().detach() ** options.focus)
        share = torch.where(present, 1.0, options.absent)[:, None]
        terms["class"] = terms["class"] + weight * 2 * (error * sure * share).sum() / total
        if len(row):
            predicted, target = box_to_xyxy(boxes[row, query]), targets[row, item]
            l1 = (predicted - target).abs().sum(dim=-1).mean()
            giou = (1 - generalised_iou(predicted, target)).mean()
            terms["l1"] = terms["l1"] + weight * 5 * l1
            terms["giou"] = terms["giou"] + weight * 2 * giou
        terms["presence"] = terms["presence"] + weight * 2 * F.binary_cross_entropy_with_logits(
            found.presence[layer], present.float()
        )
    return terms, matched


def encoder_loss(head: EncoderHead, found: Answer, prompts: PromptTensors, batch: Batch) -> dict:
    """The loss terms of the throw-away head."""
    out = head(found.encoded).float()
    cover = F.avg_pool2d(batch.masks, MASK_SIZE // GRID).flatten(2)[prompts.image]
    best = cover.amax(dim=-1, keepdim=True).clamp(min=1e-6)
    claim = torch.where(cover >= best, cover.clamp(min=0.5), cover)
    claim = claim * batch.valid[prompts.image][..., None]
    strength, owner = claim.max(dim=1)
    seen = strength > 0.35
    mine = seen & prompts.wanted.gather(1, owner)
    sure = seen | (strength < 0.08)
    error = F.binary_cross_entropy_with_logits(out[..., 0], mine.float(), reduction="none")
    # Every object weighs alike in sum, large or small; the rest of the picture as one more.
    area = (claim > 0.35).sum(dim=-1).clamp(min=1).float().gather(1, owner)
    weight = torch.where(seen, area.rsqrt(), torch.full_like(area, 0.08)) * sure
    terms = {"cell": 2 * (error * weight).sum() / weight.sum().clamp(min=1)}
    place = (torch.arange(GRID, device=out.device) + 0.5) / GRID
    centre = torch.stack([place.repeat(GRID), place.repeat_interleave(GRID)] * 2, dim=-1)
    row, cell = mine.nonzero(as_tuple=True)
    if len(row):
        target = (batch.boxes[prompts.image[row], owner[row, cell]] - centre[cell]) * 4
        terms["cell_box"] = 1.5 * F.smooth_l1_loss(out[row, cell, 1:], target, beta=0.1)
    return terms


def mask_loss(
    model: Sam3Model,
    levels: tuple[Tensor, ...],
    found: Answer,
    prompts: PromptTensors,
    batch: Batch,
    matched: Tensor,
    limit: int,
) -> dict[str, Tensor]:
    """Mask and semantic terms of at most `limit` of the prompts that have an answer."""
    rows = prompts.wanted.any(dim=1).nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), device=rows.device)[:limit]]
    if not len(rows):
        return {}
    image = prompts.image[rows]
    query = matched[rows].clamp(min=0)
    chosen = found.queries[rows].gather(1, query[..., None].expand(-1, -1, found.queries.shape[-1]))
    out = model.mask_decoder(
        decoder_queries=chosen,
        backbone_features=[level[image] for level in levels],
        encoder_hidden_states=found.encoded[rows],
        prompt_features=found.features[rows],
        prompt_mask=found.mask[rows],
    )
    wanted = prompts.wanted[rows]
    logits = out.pred_masks[wanted].float()
    masks = batch.masks[image]
    target, boxes = masks[wanted], batch.boxes[image][wanted]
    union = (masks * wanted[..., None, None]).sum(dim=1).clamp(max=1)
    # What the same prompt also means looks the same: a mask must learn to leave it out.
    lookalikes = union[wanted.nonzero()[:, 0]] - target
    semantic = F.binary_cross_entropy_with_logits(out.semantic_seg[:, 0].float(), union)
    return {
        "mask": 5 * mask_error(logits, target, boxes, lookalikes).mean(),
        "dice": 3 * dice_loss(logits.flatten(1), target.flatten(1)).mean(),
        "semantic": semantic,
    }
