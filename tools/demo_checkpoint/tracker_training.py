"""The third stage of training: the visual half, on the vision encoder of the second."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Sam3TrackerModel

from tools.demo_checkpoint.config import tracker_image_config
from tools.demo_checkpoint.loop import Stage, StageOptions, Worker, averaged_state
from tools.demo_checkpoint.tracker_stage import (
    TrackerOptions,
    quieten_neck,
    start_prompts,
    tracker_loss,
)
from tools.demo_checkpoint.training import (
    UNUSED_LEVEL,
    Setting,
    autocast,
    channels_last,
    new_config,
)


def new_tracker() -> Sam3TrackerModel:
    """Return a `Sam3TrackerModel` with random weights."""
    config = tracker_image_config(new_config())
    vision = config.vision_config
    vision._attn_implementation = vision.backbone_config._attn_implementation = "eager"
    model = Sam3TrackerModel._from_config(config, attn_implementation="eager")
    # One set of random directions under two names, for points and for the picture: as in SAM,
    # they must agree, or a point means another place than it says.
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(
        model.shared_image_embedding.positional_embedding
    )
    start_prompts(model)
    return model.train()


def train_tracker(
    worker: Worker,
    folder: Path,
    options: StageOptions,
    tracker: TrackerOptions,
    setting: Setting,
    detector_folder: Path,
    follow_seconds: float | None = None,
) -> None:
    """Stage 3, on the backbone of the detector in `detector_folder`, which stays as it is.

    With `follow_seconds`, the detector may still be training: its backbone is read again that
    often.
    """
    torch.manual_seed(setting.seed + 2)
    model = new_tracker()
    model.vision_encoder.load_state_dict(detector_vision(detector_folder))
    quieten_neck(model)
    channels_last(model.vision_encoder.neck)
    model.to(setting.device)
    frozen = {"tracker.vision_encoder.backbone": 0.0, f"tracker.vision_encoder.{UNUSED_LEVEL}": 0.0}
    frozen["tracker.vision_encoder.neck"] = tracker.neck_rate
    stage = Stage(folder, {"tracker": model}, options, worker, frozen)
    if stage.resume():
        _take_backbone(model, detector_vision(detector_folder))
    source = setting.source(stage)
    rng = np.random.default_rng((setting.seed, 6, worker.rank, stage.step))
    read = time.monotonic()
    while not stage.done:
        if follow_seconds and time.monotonic() - read > follow_seconds:
            _take_backbone(model, detector_vision(detector_folder))
            read = time.monotonic()
        batch = next(source)
        if not bool(batch.valid.any()):
            continue
        with autocast(setting.device):
            terms = tracker_loss(model, batch, tracker, rng)
        stage.update(terms)


def detector_vision(folder: Path) -> dict[str, Tensor]:
    """Return the averaged vision encoder in the folder of stage 1 or 2."""
    modules = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)["modules"]
    if "vision" in modules:
        return averaged_state(folder, "vision")
    prefix = "vision_encoder."
    weights = averaged_state(folder, "detector")
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _take_backbone(model: Sam3TrackerModel, vision: dict[str, Tensor]) -> None:
    prefix = "backbone."
    own = {k.removeprefix(prefix): v for k, v in vision.items() if k.startswith(prefix)}
    model.vision_encoder.backbone.load_state_dict(own)
