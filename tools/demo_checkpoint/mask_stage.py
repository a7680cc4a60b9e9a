"""Last stage: the visual half learns to read a mask as prompt.

Trains `prompt_encoder.mask_embed` of a finished checkpoint and nothing else, so no answer to a
prompt without a mask depends on it. The shipped weights/demo has not been through this stage: its
mask prompts are untrained. Writes into the folder that is named:

    python -m tools.demo_checkpoint.mask_stage COPY [--steps 3000]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam3TrackerModel

from tools.demo_checkpoint.batches import Batch, make_batch
from tools.demo_checkpoint.clicks import corrections, first_clicks
from tools.demo_checkpoint.config import IMAGE_SIZE, MASK_SIZE
from tools.demo_checkpoint.pool import Pool, scene_arrays
from tools.demo_checkpoint.scenes import SceneOptions, random_scene
from tools.demo_checkpoint.tracker_stage import _round_loss, image_embeddings

SEED = 41
SCENES_AT_ONCE, OBJECTS = 4, 3
ON = 10.0  # logits of a mask that was not an answer: ±10
PREFIX = "tracker_model.prompt_encoder.mask_embed."


@dataclass(frozen=True)
class Asked:
    """N objects: `masks` (N, G, G) coverage, `boxes` (N, 4) in 0-1, `levels` of their images."""

    masks: Tensor
    boxes: Tensor
    levels: list[Tensor]


def objects_of(model: Sam3TrackerModel, batch: Batch) -> Asked:
    """A few objects of each scene, each with the features of its image."""
    keep = batch.valid.any(dim=1)
    levels = image_embeddings(model, batch.pixels[keep])
    chosen = torch.multinomial(batch.valid[keep].float(), OBJECTS, replacement=True)
    index = chosen[..., None, None].expand(-1, -1, *batch.masks.shape[-2:])
    return Asked(
        masks=batch.masks[keep].gather(1, index).flatten(0, 1),
        boxes=batch.boxes[keep].gather(1, chosen[..., None].expand(-1, -1, 4)).flatten(0, 1),
        levels=[level.repeat_interleave(OBJECTS, dim=0) for level in levels],
    )


def predict(
    model: Sam3TrackerModel,
    asked: Asked,
    points: Tensor | None,
    labels: Tensor | None,
    logits: Tensor | None,
    multiple: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask logits (N, K, G, G), IoU estimates (N, K) and object logits (N,), one object a row.

    points: (N, p, 2), labels: (N, p); logits: (N, G, G), the mask prompt; or None.
    """
    fine, middle, coarse = asked.levels
    sparse, dense = model.prompt_encoder(
        input_points=None if points is None else points[:, None],
        input_labels=None if labels is None else labels[:, None],
        input_boxes=None,
        input_masks=None if logits is None else logits[:, None],
    )
    if sparse is None:
        sparse = coarse.new_empty((len(coarse), 1, 0, coarse.shape[1]))
    places = model.get_image_wide_positional_embeddings().expand(len(coarse), -1, -1, -1)
    masks, scores, _, presence = model.mask_decoder(
        image_embeddings=coarse,
        image_positional_embeddings=places,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multiple,
        high_resolution_features=[fine, middle],
    )
    return masks[:, 0], scores[:, 0], presence[:, 0, 0]


def spoiled(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """Logits of masks as people give them: exact, too large, too small, moved, or a brush stroke.

    masks: (N, G, G) coverage.
    """
    kind = rng.choice(5, p=(0.3, 0.2, 0.15, 0.15, 0.2))
    cells = 1 + int(rng.integers(3))
    drawn = masks[:, None]
    window = 2 * cells + 1
    if kind == 1:
        drawn = F.max_pool2d(drawn, window, 1, cells)
    elif kind == 2:
        smaller = -F.max_pool2d(-drawn, window, 1, cells)
        drawn = torch.where(smaller.amax(dim=(2, 3), keepdim=True) > 0.5, smaller, drawn)
    elif kind == 3:
        shift = rng.integers(-cells, cells + 1, 2).tolist()
        drawn = drawn.roll(shift, dims=(2, 3))
    elif kind == 4:  # a disc around a point of it, as much of the object as a stroke covers
        centre = first_clicks(masks) * (MASK_SIZE / IMAGE_SIZE)
        place = torch.arange(MASK_SIZE) + 0.5
        far = (place[None, None, :] - centre[:, 0, None, None]) ** 2
        far = far + (place[None, :, None] - centre[:, 1, None, None]) ** 2
        radius = masks.sum(dim=(1, 2)).div(np.pi).sqrt() * rng.uniform(0.4, 0.8)
        stroke = (far < radius[:, None, None] ** 2).float() * masks
        drawn = torch.maximum(stroke, (masks >= 1).float() * (far < 1))[:, None]
    return 2 * ON * drawn[:, 0].clamp(0, 1) - ON


def mask_loss(model: Sam3TrackerModel, batch: Batch, rng: np.random.Generator) -> Tensor:
    """The loss of one step: a mask alone, a mask and a click, or an answer that is clicked on."""
    asked = objects_of(model, batch)
    kind, multiple = rng.choice(4, p=(0.4, 0.2, 0.1, 0.3)), bool(rng.random() < 0.5)
    points, labels = first_clicks(asked.masks)[:, None], torch.ones(len(asked.masks), 1).long()
    if kind < 2:
        logits = spoiled(asked.masks, rng)
    else:
        with torch.no_grad():
            answers, scores, _ = predict(model, asked, points, labels, None, False)
        logits = answers[torch.arange(len(answers)), scores.argmax(dim=1)].clamp(-32, 32)
    if kind in (1, 3):
        click, label = corrections(asked.masks, logits)
        before = slice(None) if kind == 3 else slice(0)
        points = torch.cat([points[:, before], click[:, None]], dim=1)
        labels = torch.cat([labels[:, before], label[:, None]], dim=1)
    shown = kind in (1, 3)
    found, scores, presence = predict(
        model, asked, points if shown else None, labels if shown else None, logits, multiple
    )
    real = torch.ones(len(found), dtype=torch.bool)
    terms = _round_loss(found, scores, asked.masks, asked.boxes, real)
    there = F.binary_cross_entropy_with_logits(presence, torch.ones_like(presence))
    return terms["mask"] + terms["iou"] + 0.2 * there


def train(folder: Path, steps: int, scenes: int) -> None:
    """Replace the mask prompt's weights in the checkpoint at `folder`."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    drawn = [
        scene_arrays(random_scene((SEED, n), SceneOptions(objects=(1, 8))), IMAGE_SIZE, MASK_SIZE)
        for n in range(scenes)
    ]
    pool = Pool(*(np.stack(part) for part in zip(*drawn, strict=True)))
    model = Sam3TrackerModel.from_pretrained(folder).eval().requires_grad_(False)
    part = model.prompt_encoder.mask_embed.requires_grad_(True)
    for layer in (part.conv1, part.conv2, part.conv3):
        torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
    for norm in (part.layer_norm1, part.layer_norm2):
        torch.nn.init.ones_(norm.weight)
    optimizer = torch.optim.AdamW(part.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    mean = 0.0
    for step in range(steps):
        rows = [(pool, int(index)) for index in rng.integers(len(pool), size=SCENES_AT_ONCE)]
        batch = make_batch(rows, rng, torch.device("cpu"))
        loss = mask_loss(model, batch, rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"step {step}: loss {mean:.3f}", flush=True)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    own = {PREFIX + name: value.detach() for name, value in part.state_dict().items()}
    tensors |= {name: value.to(tensors[name].dtype).contiguous() for name, value in own.items()}
    save_file(tensors, file, metadata={"format": "pt"})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--scenes", type=int, default=1500)
    options = parser.parse_args()
    train(options.folder, options.steps, options.scenes)


if __name__ == "__main__":
    main()
