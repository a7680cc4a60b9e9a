"""Stage 1: the vision encoder alone learns to see objects, under heads that are thrown away.

Every cell of three feature levels answers for the object that covers it: its shape, colour,
texture, box, and (from the object's best cell) its whole mask. None of this needs matching or
language, so it converges many times faster than the detector would from nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.demo_checkpoint.batches import Batch
from tools.demo_checkpoint.config import GRID, MASK_SIZE, WIDTH
from tools.demo_checkpoint.losses import dice_loss
from tools.demo_checkpoint.vocabulary import COLOURS, SHAPES, TEXTURES

COUNTS = (len(SHAPES), len(COLOURS), len(TEXTURES))
KIND_WEIGHTS = (2.0, 0.7, 0.7)  # shapes are by far the last to be learnt
PLACE_WEIGHT = 2.0
BOX_SCALE = 4.0  # brings offsets of a typical object to the order of one


class VisionHeads(nn.Module):
    """1×1 heads on the three feature levels (4, 2 and 1 times GRID cells a side)."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(WIDTH, 1 + sum(COUNTS) + 4, 1)
        self.middle = nn.Conv2d(WIDTH, 1 + sum(COUNTS) + 4, 1)
        self.fine = nn.Conv2d(WIDTH, 1 + 4, 1)
        self.kernel = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, 65)
        )
        self.embed = nn.Conv2d(WIDTH, WIDTH, 1)
        self.places = nn.ModuleList(nn.Conv2d(WIDTH, 2, 1) for _ in range(3))


def vision_loss(heads: VisionHeads, levels: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
    """Return the weighted terms of stage 1; their sum is the loss.

    `levels`: features (B, WIDTH, G, G) for G of 4, 2 and 1 times GRID; the finest may be of the
    first few scenes only, since it is most of the cost.
    """
    fine, middle, coarse = levels[:3]
    terms = {"place": _place_loss(heads, levels)}
    for name, head, features, cells in (
        ("coarse", heads.coarse, coarse, GRID),
        ("middle", heads.middle, middle, 2 * GRID),
    ):
        owner, weight, seen = cell_owners(batch, cells)
        predicted = head(features).float()
        terms[f"{name}_object"] = _object_loss(predicted[:, 0], seen, weight)
        terms[f"{name}_kind"] = _kind_loss(predicted[:, 1:-4], owner, seen, batch)
        terms[f"{name}_box"] = _box_loss(predicted[:, -4:], owner, seen, batch, cells)
    predicted = heads.fine(fine).float()
    batch = batch.first(len(fine))
    coarse = coarse[: len(fine)]
    owner, weight, seen = cell_owners(batch, MASK_SIZE)
    cover = batch.masks.sum(dim=1).clamp(max=1)
    terms["fine_object"] = F.binary_cross_entropy_with_logits(predicted[:, 0], cover)
    terms["fine_box"] = 0.5 * _box_loss(predicted[:, 1:], owner, seen, batch, MASK_SIZE)
    terms.update(_mask_terms(heads, coarse, fine, batch))
    return terms


def _place_loss(heads: VisionHeads, levels: tuple[Tensor, ...]) -> Tensor:
    """Where in the picture is this cell? Asked of every level.

    Nothing else makes features say it, and without it two objects that look alike have the same
    features: whatever mask one of them gets, it covers both.
    """
    total = levels[0].new_zeros((), dtype=torch.float32)
    for head, features in zip(heads.places, levels, strict=False):
        side = features.shape[-1]
        place = (torch.arange(side, device=features.device) + 0.5) / side * 2 - 1
        target = torch.stack([place.expand(side, side), place[:, None].expand(side, side)])
        total = total + PLACE_WEIGHT * (head(features).float() - target).square().mean()
    return total


def cell_owners(batch: Batch, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which object each of cells × cells belongs to.

    Returns `owner` int64 (B, cells, cells), index of the object; `weight` float32, 0 where the
    answer is doubtful; `seen` bool, whether there is an owner at all.
    """
    cover = batch.masks
    if cells != MASK_SIZE:
        cover = F.avg_pool2d(cover, MASK_SIZE // cells)
    best = cover.flatten(2).amax(dim=-1)[..., None, None].clamp(min=1e-6)
    # An object too small to fill a third of any cell still owns the cell it fills most.
    claim = torch.where(cover >= best, cover.clamp(min=0.5), cover)
    claim = claim * batch.valid[..., None, None]
    strength, owner = claim.max(dim=1)
    seen = strength > 0.35
    weight = (seen | (strength < 0.08)).float()
    return owner, weight, seen


def _object_loss(logits: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(logits, seen.float(), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def _kind_loss(logits: Tensor, owner: Tensor, seen: Tensor, batch: Batch) -> Tensor:
    picture, row, column = seen.nonzero(as_tuple=True)
    kinds = batch.kinds[picture, owner[seen]]
    # Nearly alike for each object, however many cells it covers: the small are the hard ones.
    _, index, counts = torch.unique(
        picture * 64 + owner[seen], return_inverse=True, return_counts=True
    )
    share = counts[index].float() ** -0.75
    share = share / share.sum().clamp(min=1e-6)
    chosen = logits[picture, :, row, column]
    total = logits.new_zeros(())
    parts = zip(chosen.split(COUNTS, dim=1), kinds.unbind(1), KIND_WEIGHTS, strict=True)
    for part, target, weight in parts:
        total = total + weight * (F.cross_entropy(part, target, reduction="none") * share).sum()
    return total


def _box_loss(offsets: Tensor, owner: Tensor, seen: Tensor, batch: Batch, cells: int) -> Tensor:
    """Smooth L1 on the distances from the cell's centre to the owner's box."""
    place = (torch.arange(cells, device=owner.device) + 0.5) / cells
    column, row = place.expand(cells, cells), place[:, None].expand(cells, cells)
    centre = torch.stack([column, row, column, row])
    count = len(owner)
    index = owner.flatten(1)[:, None].expand(-1, 4, -1)
    boxes = batch.boxes.transpose(1, 2).gather(2, index).view(count, 4, cells, cells)
    loss = F.smooth_l1_loss(offsets, (boxes - centre) * BOX_SCALE, beta=0.1, reduction="none")
    return 2 * (loss.mean(dim=1) * seen).sum() / seen.sum().clamp(min=1)


def _mask_terms(
    heads: VisionHeads, coarse: Tensor, fine: Tensor, batch: Batch
) -> dict[str, Tensor]:
    """Each object's mask from the features of the coarse cell that it covers most."""
    cell = F.avg_pool2d(batch.masks, MASK_SIZE // GRID).flatten(2).argmax(dim=2)
    index = cell[:, None].expand(-1, coarse.shape[1], -1)
    seed = coarse.flatten(2).gather(2, index).transpose(1, 2)
    kernel = heads.kernel(seed)
    logits = kernel[..., :-1] @ heads.embed(fine).flatten(2) + kernel[..., -1:]
    logits, target = logits.float()[batch.valid], batch.masks.flatten(2)[batch.valid]
    if not len(target):
        return {"mask": kernel.sum() * 0, "dice": kernel.sum() * 0}
    return {
        "mask": 4 * F.binary_cross_entropy_with_logits(logits, target),
        "dice": 2 * dice_loss(logits, target).mean(),
    }
