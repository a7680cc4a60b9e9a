"""Losses on masks and boxes, one value per instance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

OUTSIDE = 0.1  # weight of a cell well outside the object's box
MARGIN = 0.25  # of the box's sides, counts as inside


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - dice of sigmoid(`logits`) (N, P) and `target` (N, P) in 0-1; returns (N,).

    One is added on both sides of the fraction, so that masks of a few cells do not shout.
    """
    chance = logits.sigmoid()
    both = (chance * target).sum(dim=-1)
    return 1 - (2 * both + 1) / (chance.sum(dim=-1) + target.sum(dim=-1) + 1)


def mask_error(
    logits: Tensor, target: Tensor, boxes: Tensor, others: Tensor | None = None
) -> Tensor:
    """Cross-entropy of mask `logits` (N, G, G) and `target` (N, G, G) in 0-1; returns (N,).

    It is a mean over the surroundings of the object, `boxes` (N, 4) xyxy in 0-1: over the whole
    picture a small object would be lost, and the far background would drown the edge. `others`
    (N, G, G) in 0-1 are the objects that a mask is likeliest to take for its own; they count as
    much as the surroundings, however far away they are.
    """
    side = logits.shape[-1]
    place = (torch.arange(side, device=logits.device) + 0.5) / side
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2]) + 2 / side
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    near = (place > low[..., None]) & (place < high[..., None])
    inside = near[:, 1, :, None] & near[:, 0, None, :]
    weight = torch.where(inside, 1.0, OUTSIDE)
    if others is not None:
        weight = torch.maximum(weight, others)
    error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (error * weight).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)


def box_to_xyxy(boxes: Tensor) -> Tensor:
    """(…, 4) cx, cy, w, h → x0, y0, x1, y1."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of xyxy boxes that broadcast against each other, without the last dimension."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    both = overlap.prod(dim=-1)
    union = (a[..., 2:] - a[..., :2]).prod(dim=-1) + (b[..., 2:] - b[..., :2]).prod(dim=-1) - both
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(
        dim=-1
    )
    return both / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)
