"""pick: the one object under points and/or a box, with transformers' `Sam3TrackerModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3TrackerModel

from sam3_image.masks import Detections, LowResMasks
from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import Encoder, Features
from sam3_image.model.parts import Parts
from sam3_image.model.prompts import Pick, Target
from sam3_image.model.transfer import to_host
from sam3_image.model.transformers_adapter import LEVELS, decode_masks, with_no_memory

# The concept of what a pick returns.
OBJECT = "object"

# Holes of up to so many of the cells of SAM 3's maps are filled, in smaller maps of the same share.
HOLE, CELLS = 256, 288**2
# How far above the cut the logits of a filled hole are.
FILL = np.float32(10)


@dataclass(frozen=True)
class Picker:
    """The tracker's prompt encoder and mask decoder; `pick` depends on its arguments alone."""

    tracker: Sam3TrackerModel
    encoder: Encoder
    placement: Placement
    reference: Compatibility

    def steps(
        self, features: Features, request: Pick, mask_threshold: float
    ) -> list[Callable[[], Detections]]:
        """One call of `pick`: all targets go through the mask decoder together."""
        return [partial(self.pick, features, request, mask_threshold)]

    @torch.inference_mode()
    def pick(self, features: Features, request: Pick, mask_threshold: float) -> Detections:
        """Return one instance per target, or its three candidates, best first; boxes are zeros.

        mask_threshold: probability above which a pixel is in the mask. Logits are upsampled; before
        that, small holes are filled where both the request and the reference say so. The score is
        the model's own estimate of the mask's IoU with the object, clipped to 0–1 where
        it is not the output of a sigmoid (SAM 3.1); `presence` is the probability that there is an
        object.
        """
        logits, estimates, presence = self._forward(features, request)
        if not (np.isfinite(estimates).all() and np.isfinite(presence).all()):
            raise self.placement.not_finite()
        objects, candidates = estimates.shape
        # Before they are clipped, which may make them equal.
        order = np.argsort(-estimates, axis=1, kind="stable")
        maps = np.take_along_axis(logits, order[..., None, None], axis=1)
        source = LowResMasks.of_logits(
            maps.reshape(objects * candidates, *logits.shape[-2:]), mask_threshold, features.size
        )
        if self.reference.fill_holes and request.fill_holes:
            for one in source.values:
                _fill_holes(one, source.cut)
        scores = np.take_along_axis(estimates, order, axis=1).clip(0, 1)
        return Detections.of(
            size=features.size,
            source=source,
            boxes=np.zeros((len(source), 4), dtype=np.float32),
            scores=scores.reshape(-1),
            presence=np.repeat(presence, candidates),
            concept=OBJECT,
            prompt=np.repeat(np.arange(objects), candidates),
            candidates=order.reshape(-1),
        )

    def _forward(
        self, features: Features, request: Pick
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return mask logits (N, M, h, w), IoU estimates (N, M) and presence (N,) on the host.

        All are float32, for N targets with M candidates each. The estimates of SAM 3.1 may leave
        0–1.
        """
        neck = self.tracker.vision_encoder.neck
        levels = self.encoder.levels(features, "pick", neck)
        if self.reference.no_memory or len(neck.fpn_layers) == LEVELS:
            levels = with_no_memory(self.tracker, levels)
        points, labels, boxes = self._prompts(features.size, request.targets)
        logits, scores, presence = decode_masks(
            self.tracker, levels, points, labels, boxes, request.multimask
        )
        return (
            to_host(logits[0].float()),
            to_host(scores[0].float()),
            to_host(presence[0, :, 0].float().sigmoid()),
        )

    def _prompts(
        self, size: tuple[int, int], targets: Sequence[Target]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Return points (1, N, p, 2), labels (1, N, p) and boxes (1, N, 4) in encoder pixels.

        Coordinates are float32; points and labels, or boxes, are None where there are none.
        """
        side = self.tracker.prompt_encoder.input_image_size
        scale = torch.tensor([side / size[1], side / size[0]])
        points = labels = boxes = None
        if targets[0].points:
            points = (torch.tensor([[t.points for t in targets]]) * scale).to(self.placement.device)
            labels = torch.tensor([[t.labels for t in targets]], device=self.placement.device)
        if targets[0].box:
            corners = torch.tensor([[t.box for t in targets]], dtype=torch.float32)
            boxes = (corners * scale.repeat(2)).to(self.placement.device)
        return points, labels, boxes


def head(parts: Parts) -> Picker | None:
    """What answers `Pick`, if the checkpoint has a tracker."""
    if parts.tracker is None:
        return None
    return Picker(parts.tracker, parts.encoder, parts.placement, parts.reference)


def _fill_holes(logits: NDArray[np.float32], cut: float) -> None:
    """Raise small components of background (h, w) above the cut, in place.

    Background is <= cut. Components are 8-connected, and those at the border count too: so does
    Meta's predictor on a GPU, and on a CPU only where scikit-image is installed. Here the answer
    does not depend on the machine.
    """
    background = (logits <= cut).view(np.uint8)
    labels = np.asarray(cv2.connectedComponents(background, connectivity=8)[1], dtype=np.int32)
    is_hole = np.bincount(labels.ravel()) <= HOLE * logits.size // CELLS
    is_hole[0] = False  # the foreground
    if is_hole.any():
        logits[is_hole.take(labels)] = np.float32(cut) + FILL
