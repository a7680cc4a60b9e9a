"""Losses on masks and boxes, one value per instance."""

from __future__ import annotations

import torch
from torch import Tensor


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - dice of sigmoid(`logits`) (N, P) and `target` (N, P) in 0-1; returns (N,).

    One is added on both sides of the fraction, so that masks of a few cells do not shout.
    """
    chance = logits.sigmoid()
    both = (chance * target).sum(dim=-1)
    return 1 - (2 * both + 1) / (chance.sum(dim=-1) + target.sum(dim=-1) + 1)


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
