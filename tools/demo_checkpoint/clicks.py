"""Simulated clicks: a first one on the object, then one where the answer is most wrong.

All masks here are on the grid of MASK_SIZE cells; points are float32 (x, y) pixels of the square
input, as `Sam3TrackerProcessor` hands them to the model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tools.demo_checkpoint.config import IMAGE_SIZE, MASK_SIZE

CELL = IMAGE_SIZE / MASK_SIZE  # input pixels per mask cell


def first_clicks(masks: Tensor) -> Tensor:
    """Return a point on each object: `masks` (N, G, G) coverage → (N, 2)."""
    return _pick(torch.where(masks > 0.85, masks, 0.02 * masks))


def corrections(masks: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next click for each object, and its label 1 or 0.

    `masks` (N, G, G) coverage; `predicted` (N, G, G) logits. The click falls into what is missing
    or into what is too much, whichever is larger; where nothing is wrong, on the object.
    """
    truth, guess = masks > 0.5, predicted > 0
    missing, surplus = (truth & ~guess).float(), (guess & ~truth).float()
    more_missing = missing.sum(dim=(1, 2)) >= surplus.sum(dim=(1, 2))
    error = torch.where(more_missing[:, None, None], missing, surplus)
    nothing = error.sum(dim=(1, 2)) == 0
    error = torch.where(nothing[:, None, None], masks, error)
    return _pick(error), (more_missing | nothing).long()


def background_clicks(masks: Tensor) -> Tensor:
    """Return a point where there is no object at all: `masks` (N, G, G), all objects' coverage."""
    return _pick((masks < 0.01).float())


def _pick(weight: Tensor) -> Tensor:
    """Return a random cell of the region, as often its middle as anywhere in it, and a
    point in it.
    """
    count = len(weight)
    inside = (weight > 0).float()
    middle = F.avg_pool2d(weight[:, None], 7, stride=1, padding=3, divisor_override=49)[:, 0]
    bold = torch.rand(count, 1, 1, device=weight.device) ** 2 * 3
    noise = torch.rand_like(weight)
    score = (middle * bold + noise) * inside + weight.clamp(min=0) * 2 * inside
    cell = score.flatten(1).argmax(dim=1)
    place = torch.stack([cell % MASK_SIZE, cell // MASK_SIZE], dim=-1).float()
    jitter = 0.5 + (torch.rand_like(place) - 0.5) * 0.7
    # The prompt encoder adds half a pixel.
    return (place + jitter) * CELL - 0.5
