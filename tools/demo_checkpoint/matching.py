"""Which query answers for which object."""

from __future__ import annotations

import torch
from torch import Tensor

from tools.demo_checkpoint.losses import box_to_xyxy, generalised_iou

FORBIDDEN = 1e4


@torch.no_grad()
def match(
    logits: Tensor, boxes: Tensor, anchors: Tensor, targets: Tensor, wanted: Tensor, near: float
) -> Tensor:
    """For every object the index of its query, cheapest pairs first; -1 for objects not wanted.

    `logits` (P, Q); `boxes` (P, Q, 4) cxcywh; `anchors` (Q, 2), where each query started;
    `targets` (P, M, 4) xyxy; `wanted` bool (P, M). Returns int64 (P, M).

    Greedy instead of Hungarian: with a handful of objects the two rarely differ, and this runs
    for all prompts at once. `near` weighs the distance from a query's start to the object: early
    in training it keeps each query at its own place, so that what it should learn stands still.
    """
    predicted = box_to_xyxy(boxes.float())
    distance = (predicted[:, :, None] - targets[:, None]).abs().sum(dim=-1)
    overlap = generalised_iou(predicted[:, :, None], targets[:, None])
    centre = (targets[..., :2] + targets[..., 2:]) / 2
    offset = (anchors[None, :, None] - centre[:, None]).norm(dim=-1)
    cost = 5 * distance - 2 * overlap - 2 * logits.float().sigmoid()[..., None] + near * offset
    cost = cost.masked_fill(~wanted[:, None], FORBIDDEN)
    prompts, _, objects = cost.shape
    found = torch.full((prompts, objects), -1, dtype=torch.long, device=cost.device)
    every = torch.arange(prompts, device=cost.device)
    for _ in range(int(wanted.sum(dim=1).max()) if wanted.numel() else 0):
        best, place = cost.flatten(1).min(dim=1)
        open_ = best < FORBIDDEN / 2
        query, item = place // objects, place % objects
        found[every[open_], item[open_]] = query[open_]
        cost[every[open_], query[open_], :] = FORBIDDEN
        cost[every[open_], :, item[open_]] = FORBIDDEN
    return found
