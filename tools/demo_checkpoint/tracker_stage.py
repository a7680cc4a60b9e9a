"""Stage 3: the visual half learns from clicks and boxes, as SAM's did.

Each step asks about several objects of each scene with one click, a box, or both, and then
corrects the answer with further clicks. The loss is on the best of the three candidates (or on
the single mask), and on how well the model knows its own IoU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Sam3TrackerModel

from tools.demo_checkpoint.batches import Batch
from tools.demo_checkpoint.clicks import background_clicks, corrections, first_clicks
from tools.demo_checkpoint.config import GRID, IMAGE_SIZE, WIDTH
from tools.demo_checkpoint.losses import dice_loss, mask_error


@dataclass(frozen=True)
class TrackerOptions:
    """`objects`: asked about per scene and step. `rounds`: answers per object, each but the first
    after one more click. `background`: share of first clicks that hit nothing. `kinds`: chances of
    beginning with a click, a box, both. `neck_rate`: learning rate of its own neck over the
    others'. `crowded`: see `_chances`."""

    objects: int = 6
    rounds: int = 3
    background: float = 0.06
    kinds: tuple[float, float, float] = (0.4, 0.4, 0.2)
    neck_rate: float = 0.5
    crowded: float = 3.0


NECK_SHRINK = 0.15


def quieten_neck(model: Sam3TrackerModel) -> None:
    """Scale down the neck that was copied from the detector.

    Its features are several times as large as the position encoding: attention would follow what
    is in the picture and not where the prompt is, and the mask decoder would hear only itself.
    """
    with torch.no_grad():
        for layer in model.vision_encoder.neck.fpn_layers:
            layer.proj2.weight.mul_(NECK_SHRINK)
            layer.proj2.bias.mul_(NECK_SHRINK)


def start_prompts(model: Sam3TrackerModel) -> None:
    """Let every prompt begin by looking at its own place.

    transformers draws weights for widths of a thousand; at 64 nearly nothing passes through
    several such layers, and the model answers the same whatever the prompt for a long time. So
    layers start at the usual scale, and queries and keys as the same projection of the position
    encoding, which makes attention a bump around the prompt. Self-attention starts by handing
    that place on to the mask tokens.
    """
    with torch.no_grad():
        for module in model.mask_decoder.modules():
            if isinstance(module, nn.Linear | nn.ConvTranspose2d | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        # The picture's fine features must not drown what comes from the prompt.
        model.mask_decoder.conv_s0.weight.mul_(0.1)
        model.mask_decoder.conv_s1.weight.mul_(0.1)
        transformer = model.mask_decoder.transformer
        attentions = [transformer.final_attn_token_to_image]
        for layer in transformer.layers:
            attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
            layer.self_attn.v_proj.weight.copy_(torch.eye(WIDTH))
            layer.self_attn.o_proj.weight.copy_(0.7 * torch.eye(WIDTH))
        # Each head takes every other frequency, sine and cosine together.
        order = torch.cat([torch.arange(part, WIDTH, 2) for part in (0, 1)])
        for attention in attentions:
            projection = 1.9 * torch.eye(WIDTH)[order]
            attention.q_proj.weight.copy_(projection)
            attention.k_proj.weight.copy_(projection)


def image_embeddings(model: Sam3TrackerModel, pixels: Tensor) -> list[Tensor]:
    """Return what `Sam3TrackerModel.get_image_embeddings` returns, with gradients behind
    the backbone.
    """
    with torch.no_grad():
        hidden = model.vision_encoder.backbone(pixels).last_hidden_state
    grid = hidden.view(len(pixels), GRID, GRID, -1).permute(0, 3, 1, 2)
    fine, middle, coarse = (layer(grid) for layer in model.vision_encoder.neck.fpn_layers[:3])
    return [
        model.mask_decoder.conv_s0(fine),
        model.mask_decoder.conv_s1(middle),
        coarse + model.no_memory_embedding.view(1, -1, 1, 1),
    ]


def tracker_loss(
    model: Sam3TrackerModel, batch: Batch, options: TrackerOptions, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return the weighted terms over all rounds. Scenes without an object are left out."""
    keep = batch.valid.any(dim=1)
    embeddings = image_embeddings(model, batch.pixels[keep])
    count = len(embeddings[0])
    chances = _chances(batch.boxes[keep], batch.valid[keep], options.crowded)
    chosen = torch.multinomial(chances, options.objects, replacement=True)
    index = chosen[..., None, None].expand(-1, -1, *batch.masks.shape[-2:])
    masks = batch.masks[keep].gather(1, index).flatten(0, 1)
    boxes = batch.boxes[keep].gather(1, chosen[..., None].expand(-1, -1, 4))
    kind = rng.choice(3, p=options.kinds)
    points = first_clicks(masks)[:, None]
    labels = torch.ones(len(masks), 1, dtype=torch.long, device=masks.device)
    real = torch.ones(len(masks), dtype=torch.bool, device=masks.device)
    if kind == 0:
        real = torch.rand(len(masks), device=masks.device) >= options.background
        everything = batch.masks[keep].sum(dim=1).repeat_interleave(options.objects, dim=0)
        missed = background_clicks(everything)[:, None]
        points = torch.where(real[:, None, None], points, missed)
    box_prompt = _shaken(boxes) * IMAGE_SIZE - 0.5 if kind else None
    terms: dict[str, Tensor] = {}
    previous: Tensor | None = None
    for turn in range(options.rounds):
        shown = turn > 0 or kind != 1
        multiple = bool(rng.random() < 0.6)
        out = model(
            image_embeddings=embeddings,
            input_points=points.view(count, options.objects, -1, 2) if shown else None,
            input_labels=labels.view(count, options.objects, -1) if shown else None,
            input_boxes=box_prompt,
            multimask_output=multiple,
        )
        logits = out.pred_masks.flatten(0, 1).float()
        answer = _round_loss(
            logits, out.iou_scores.flatten(0, 1).float(), masks, boxes.flatten(0, 1), real
        )
        score = out.object_score_logits.flatten().float()
        answer["object"] = 0.2 * F.binary_cross_entropy_with_logits(score, real.float())
        for name, value in answer.items():
            terms[name] = terms.get(name, 0) + value / options.rounds
        best = out.iou_scores.flatten(0, 1).argmax(dim=1)
        previous = logits.detach()[torch.arange(len(best), device=best.device), best]
        click, label = corrections(masks, previous)
        before = slice(None) if shown else slice(0)
        points = torch.cat([points[:, before], click[:, None]], dim=1)
        labels = torch.cat([labels[:, before], label[:, None]], dim=1)
    return terms


def _chances(boxes: Tensor, valid: Tensor, crowded: float) -> Tensor:
    """How likely each object (B, M) is asked about: `crowded` times as likely where its box and
    another's overlap, for that is where a click or a box leaves something to decide."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    meets = (high > low).all(dim=-1) & valid[:, :, None] & valid[:, None, :]
    meets = meets & ~torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    return valid * torch.where(meets.any(dim=-1), crowded, 1.0)


def _shaken(boxes: Tensor) -> Tensor:
    """Boxes xyxy in 0-1, each edge moved by up to 6 % of the side; often not at all."""
    size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    amount = 0.12 * torch.rand(boxes.shape[:2], device=boxes.device)[..., None]
    still = torch.rand(boxes.shape[:2], device=boxes.device)[..., None] < 0.4
    noise = (torch.rand_like(boxes) - 0.5) * amount * size
    return torch.where(still, boxes, boxes + noise)


def _round_loss(
    logits: Tensor, iou: Tensor, masks: Tensor, boxes: Tensor, real: Tensor
) -> dict[str, Tensor]:
    """`logits` (N, K, G, G), `iou` (N, K) as the model says it, `masks` (N, G, G), `boxes`
    (N, 4) xyxy in 0-1, `real` bool (N,): whether the prompt was on an object at all."""
    count, candidates = iou.shape
    target = masks[:, None].expand_as(logits).flatten(2)
    flat = logits.flatten(2)
    error = mask_error(
        logits.flatten(0, 1),
        masks.repeat_interleave(candidates, dim=0),
        boxes.repeat_interleave(candidates, dim=0),
    ).view(count, candidates)
    both = 4 * error + 2 * dice_loss(flat, target)
    # Mostly the best candidate, as in SAM; but all of them a little, or the three share the
    # picture's objects among themselves and never listen to the prompt.
    best = 0.6 * both.amin(dim=1) + 0.4 * both.mean(dim=1)
    weight = real.float()
    guess, truth = flat > 0, target > 0.5
    true_iou = (guess & truth).sum(dim=2) / (guess | truth).sum(dim=2).clamp(min=1)
    knows = F.smooth_l1_loss(iou, true_iou * weight[:, None], beta=0.1)
    return {"mask": (best * weight).sum() / weight.sum().clamp(min=1), "iou": 3 * knows}
