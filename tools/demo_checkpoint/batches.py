"""Rows of a pool as training tensors, turned and re-lit so that no picture is seen twice alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tools.demo_checkpoint.pool import NO_OBJECT, Pool

MASK_LEVELS = 252.0  # the value of a fully covered mask cell in a pool


@dataclass(frozen=True)
class Batch:
    """B scenes with up to M objects.

    `pixels` float32 (B, 3, S, S) in -1..1; `masks` float32 (B, M, G, G) share of the cell that
    is seen; `boxes` float32 (B, M, 4) xyxy in 0-1; `kinds` int64 (B, M, 3); `valid` bool (B, M).
    """

    pixels: Tensor
    masks: Tensor
    boxes: Tensor
    kinds: Tensor
    valid: Tensor

    def first(self, count: int) -> Batch:
        """Return the first `count` scenes."""
        return Batch(*(getattr(self, f.name)[:count] for f in fields(self)))


def batches(
    pools: list[Pool], size: int, rng: np.random.Generator, device: torch.device
) -> Iterator[Batch]:
    """Endless random batches of `size` scenes drawn from all pools alike."""
    lengths = np.array([len(pool) for pool in pools])
    starts = np.cumsum(lengths) - lengths
    while True:
        order = rng.permutation(int(lengths.sum()))
        for first in range(0, len(order) - size + 1, size):
            chosen = np.sort(order[first : first + size])
            owner = np.searchsorted(starts, chosen, side="right") - 1
            rows = [
                (pools[who], index - starts[who])
                for who, index in zip(owner.tolist(), chosen.tolist(), strict=True)
            ]
            yield make_batch(rows, rng, device)


def make_batch(
    rows: list[tuple[Pool, int]], rng: np.random.Generator | None, device: torch.device
) -> Batch:
    """Return the given rows as one batch; without `rng`, as they were drawn."""
    pixels = torch.from_numpy(np.stack([pool.images[index] for pool, index in rows]))
    masks = torch.from_numpy(np.stack([pool.masks[index] for pool, index in rows]))
    boxes = torch.from_numpy(np.stack([pool.boxes[index] for pool, index in rows]))
    kinds = torch.from_numpy(np.stack([pool.kinds[index] for pool, index in rows])).long()
    pixels = pixels.to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    masks = masks.to(device).float().div_(MASK_LEVELS)
    boxes, kinds = boxes.to(device), kinds.to(device)
    if rng is not None:
        pixels, masks, boxes = _turn(pixels, masks, boxes, int(rng.integers(8)))
        pixels = _light(pixels, rng)
    return Batch(pixels.contiguous(), masks, boxes, kinds, kinds[..., 0] != NO_OBJECT)


def _turn(pixels: Tensor, masks: Tensor, boxes: Tensor, which: int) -> tuple[Tensor, ...]:
    """One of the eight symmetries of the square, the same for pixels, masks and boxes."""
    if which & 1:
        pixels, masks = pixels.flip(-1), masks.flip(-1)
        boxes = torch.stack(
            [1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], dim=-1
        )
    if which & 2:
        pixels, masks = pixels.flip(-2), masks.flip(-2)
        boxes = torch.stack(
            [boxes[..., 0], 1 - boxes[..., 3], boxes[..., 2], 1 - boxes[..., 1]], dim=-1
        )
    if which & 4:
        pixels, masks = pixels.transpose(-1, -2), masks.transpose(-1, -2)
        boxes = boxes[..., [1, 0, 3, 2]]
    return pixels, masks, boxes


def _light(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Slight changes of exposure, contrast and white balance, too small to rename a colour."""
    count = pixels.shape[0]
    gain = rng.uniform(0.93, 1.04, (count, 1, 1, 1)) * rng.uniform(0.98, 1.02, (count, 3, 1, 1))
    shift = rng.uniform(-0.04, 0.04, (count, 1, 1, 1))
    gain_tensor = torch.from_numpy(gain.astype(np.float32)).to(pixels.device)
    shift_tensor = torch.from_numpy(shift.astype(np.float32)).to(pixels.device)
    return (pixels * gain_tensor + shift_tensor).clamp_(-1, 1)
