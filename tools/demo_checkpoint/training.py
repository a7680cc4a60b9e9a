"""The first two stages of training as loops over batches: vision encoder, concept half.

The third is `tracker_training`; `train.py` strings them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Sam3Model, Sam3VideoConfig, Sam3VisionConfig
from transformers.models.sam3.modeling_sam3 import Sam3VisionModel

from tools.demo_checkpoint.batches import Batch, batches
from tools.demo_checkpoint.concept_model import Words, answer, prompt_tensors, start_queries
from tools.demo_checkpoint.concept_stage import (
    ConceptLossOptions,
    EncoderHead,
    concept_loss,
    encoder_loss,
    mask_loss,
)
from tools.demo_checkpoint.config import GRID, demo_config
from tools.demo_checkpoint.loop import Stage, StageOptions, Worker
from tools.demo_checkpoint.pool import Pool
from tools.demo_checkpoint.prompts import Kind, PromptMix, sample_prompt
from tools.demo_checkpoint.tokenizer import build_tokenizer
from tools.demo_checkpoint.vision_stage import VisionHeads, vision_loss
from tools.demo_checkpoint.vocabulary import COLOURS, SHAPES, TEXTURES

# The neck's coarsest level is computed by transformers but read by nothing: it is not trained.
UNUSED_LEVEL = "neck.fpn_layers.3"
# The one place from which features can know where in the picture they are. It has to outgrow its
# tiny start, or two objects that look alike stay one.
POSITIONS = "backbone.embeddings.position_embeddings"
POSITIONS_RATE = 5.0


@dataclass(frozen=True)
class Setting:
    """Where and from what a stage trains. `easy`: share of the steps on the easy scenes."""

    device: torch.device
    seed: int
    pools: list[Pool]
    easy_pools: list[Pool] = field(default_factory=list)
    easy: float = 0.0

    def source(self, stage: Stage) -> Iterator[Batch]:
        """Return an endless iterator of batches that turns from easy to all scenes by itself."""
        rng = np.random.default_rng((self.seed, stage.worker.rank, stage.step))
        every = batches(self.pools, stage.options.batch, rng, self.device)
        simple = batches(self.easy_pools or self.pools, stage.options.batch, rng, self.device)
        while True:
            yield next(simple if stage.progress < self.easy else every)


def vision_config(config: Sam3VideoConfig) -> Sam3VisionConfig:
    """Return the vision part, with the attention that is fastest at this size on a CPU."""
    vision = config.detector_config.vision_config
    vision._attn_implementation = vision.backbone_config._attn_implementation = "eager"
    return vision


def new_config() -> Sam3VideoConfig:
    """Return the configuration of the demo checkpoint with its own tokenizer."""
    tokenizer = build_tokenizer()
    return demo_config(
        len(tokenizer),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
    )


def pyramid(vision: Sam3VisionModel, pixels: Tensor, fine: int | None = None) -> list[Tensor]:
    """The three feature levels that are used, finest first; the finest of `fine` scenes only."""
    hidden = vision.backbone(pixels).last_hidden_state
    grid = hidden.view(len(pixels), GRID, GRID, -1).permute(0, 3, 1, 2)
    layers = vision.neck.fpn_layers
    return [layers[0](grid[:fine]), layers[1](grid), layers[2](grid)]


def channels_last(*modules: nn.Module) -> None:
    """Lay convolution weights out as the CPU likes them best."""
    for module in modules:
        module._apply(
            lambda t: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
        )


def autocast(device: torch.device) -> torch.autocast:
    """Matrix products in bfloat16, weights in float32."""
    return torch.autocast(device.type, torch.bfloat16)


def train_vision(worker: Worker, folder: Path, options: StageOptions, setting: Setting) -> None:
    """Stage 1; see `vision_stage`."""
    torch.manual_seed(setting.seed)
    vision = Sam3VisionModel(vision_config(new_config())).to(setting.device).train()
    heads = VisionHeads().to(setting.device)
    channels_last(vision.neck, heads)
    stage = Stage(
        folder,
        {"vision": vision, "heads": heads},
        options,
        worker,
        slower={f"vision.{UNUSED_LEVEL}": 0, f"vision.{POSITIONS}": POSITIONS_RATE},
    )
    stage.resume()
    source = setting.source(stage)
    while not stage.done:
        batch = next(source)
        with autocast(setting.device):
            levels = pyramid(vision, batch.pixels, fine=max(1, options.batch // 2))
            terms = vision_loss(heads, tuple(levels), batch)
        stage.update(terms)


@dataclass(frozen=True)
class ConceptOptions:
    """How the concept half trains.

    `asked`: scenes of a batch that are asked about; the others only teach the backbone, which
    needs to see far more scenes than the heads. `prompts`: per scene asked about. `vision_rate`,
    `neck_rate`: learning rates of the backbone and of the detector's own neck over the others',
    0 to freeze. `vision_weight`: of stage 1's loss, which goes on. `near_until`: share of the
    steps after which queries are matched by their answers alone.
    """

    asked: int = 6
    prompts: int = 7
    vision_rate: float = 0.5
    neck_rate: float = 1.0
    vision_weight: float = 0.4
    near_until: float = 0.6
    mix: PromptMix = field(default_factory=PromptMix)
    loss: ConceptLossOptions = field(default_factory=ConceptLossOptions)


def new_detector(vision_state: dict[str, Tensor] | None) -> Sam3Model:
    """Return a `Sam3Model` with random heads on the given vision encoder."""
    config = new_config()
    vision_config(config)
    model = Sam3Model._from_config(config.detector_config, attn_implementation="eager")
    start_queries(model)
    if vision_state is not None:
        model.vision_encoder.load_state_dict(vision_state)
    return model.train()


def train_concept(
    worker: Worker,
    folder: Path,
    options: StageOptions,
    concept: ConceptOptions,
    setting: Setting,
    start: dict[str, dict[str, Tensor]],
) -> None:
    """Stage 2; `start`: state dicts "vision" and "heads" from stage 1, or "detector"."""
    torch.manual_seed(setting.seed + 1)
    detector = new_detector(start.get("vision"))
    heads, cells = VisionHeads(), EncoderHead()
    parts: dict[str, nn.Module] = {"detector": detector, "heads": heads, "cells": cells}
    for name, part in parts.items():
        if name in start:
            part.load_state_dict(start[name])
        part.to(setting.device)
    channels_last(detector.vision_encoder.neck, detector.mask_decoder, heads)
    stage = Stage(folder, parts, options, worker, _concept_rates(concept))
    stage.resume()
    source = setting.source(stage)
    rng = np.random.default_rng((setting.seed, 5, worker.rank, stage.step))
    words = Words(build_tokenizer())
    positions = _positions(detector, setting.device)
    while not stage.done:
        seen = next(source)
        batch = seen.first(concept.asked)
        asked = [
            [sample_prompt(kinds, concept.mix, rng) for _ in range(concept.prompts)]
            for kinds in scene_kinds(batch)
        ]
        prompts = prompt_tensors(asked, batch.boxes, words, setting.device)
        loss_options = concept.loss
        near = loss_options.near * max(0.0, 1 - stage.progress / concept.near_until)
        with autocast(setting.device):
            whole = pyramid(detector.vision_encoder, seen.pixels, fine=concept.asked)
            dense = vision_loss(heads, tuple(whole), seen)
            levels = tuple(level[: concept.asked] for level in whole)
            found = answer(detector, levels, positions, prompts)
            terms, matched = concept_loss(found, prompts, batch, near, loss_options)
            terms["vision"] = concept.vision_weight * torch.stack(list(dense.values())).sum()
            terms |= encoder_loss(cells, found, prompts, batch)
            terms |= mask_loss(detector, levels, found, prompts, batch, matched, loss_options.masks)
        stage.update(terms)


def _concept_rates(concept: ConceptOptions) -> dict[str, float]:
    """Learning rate factors by prefix, as `Stage` takes them."""
    return {
        "detector.vision_encoder.backbone": concept.vision_rate,
        f"detector.vision_encoder.{POSITIONS}": POSITIONS_RATE if concept.vision_rate else 0.0,
        "detector.vision_encoder.neck": concept.neck_rate,
        f"detector.vision_encoder.{UNUSED_LEVEL}": 0.0,
        "detector.text_encoder.text_projection": 0.0,
    }


def scene_kinds(batch: Batch) -> list[list[Kind]]:
    """Attributes of the objects of each scene. Objects fill the first places of a row, except
    that one may be missing where it was hidden; its place is then kept by a kind of no word."""
    found = []
    for kinds, valid in zip(batch.kinds.tolist(), batch.valid.tolist(), strict=True):
        scene: list[Kind] = []
        for (shape, colour, texture), is_valid in zip(kinds, valid, strict=True):
            if not is_valid:
                break
            scene.append((SHAPES[shape], COLOURS[colour], TEXTURES[texture]))
        found.append(scene)
    return found


def _positions(detector: Sam3Model, device: torch.device) -> tuple[Tensor, ...]:
    """Position encodings of the three levels for one picture; they do not change."""
    encode = detector.vision_encoder.neck.position_encoding
    width = detector.config.vision_config.fpn_hidden_size
    return tuple(
        encode(torch.Size((1, width, side, side)), device, torch.float32)
        for side in (4 * GRID, 2 * GRID, GRID)
    )
