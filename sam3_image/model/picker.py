"""pick: the one object that points, a box or a mask show, with transformers' `Sam3TrackerModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as vision
from transformers import Sam3TrackerModel

from sam3_image.masks import Detections, LowResMasks
from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import Encoder, Features
from sam3_image.model.parts import Parts
from sam3_image.model.prompts import MaskPrompt, Pick, Target
from sam3_image.model.transfer import to_host
from sam3_image.model.transformers_adapter import (
    LEVELS,
    decode_masks,
    embed_prompts,
    with_no_memory,
)

# The concept of what a pick returns.
OBJECT = "object"

# Holes of up to so many of the cells of SAM 3's maps are filled, in smaller maps of the same share.
HOLE, CELLS = 256, 288**2
# How far above the cut the logits of a filled hole are.
FILL = np.float32(10)
# Logits of a mask that was not the model's own answer, off and on the object, and the most that
# logits given back to the model may be: as in Meta's SAM 3.
OFF, ON, MOST = np.float32(-10), np.float32(10), np.float32(32)

# Cells of the patch grid, over all targets of one pass of the mask decoder. On a CPU larger passes
# fall out of its caches; on a GPU 64 targets at full size take about 3 GB in bfloat16.
CPU_PASS_CELLS = 10 * 24**2
GPU_PASS_CELLS = 64 * 72**2


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
        """Calls of `pick`, each for as many targets as the device takes in one pass.

        Targets of one call have the same number of points: what would fill up the shorter ones is
        read by the model, and would change its answer.
        """
        if request.targets[0].mask is not None:  # made here: the device does not wait for it
            height, width = features.hidden.shape[-2:]
            logits = low_res_logits(request.targets[0].mask, (4 * height, 4 * width))
            request = request.with_mask(logits)
        alike: dict[tuple[int, bool], list[int]] = {}
        for index, target in enumerate(request.targets):
            alike.setdefault((len(target.points), target.box is not None), []).append(index)
        most = targets_in_pass(features, self.placement)
        return [
            partial(self.pick, features, request, mask_threshold, same[start : start + most])
            for same in alike.values()
            for start in range(0, len(same), most)
        ]

    @torch.inference_mode()
    def pick(
        self, features: Features, request: Pick, mask_threshold: float, chosen: Sequence[int]
    ) -> Detections:
        """One instance per target, or its three candidates, best first; boxes are zeros.

        mask_threshold: probability above which a pixel is in the mask. Logits are upsampled; before
        that, small holes are filled where both the request and the reference say so. The score is
        the model's own estimate of the mask's IoU with the object, clipped to 0–1 where
        it is not the output of a sigmoid (SAM 3.1); `presence` is the probability that there is an
        object.
        chosen: indices of the targets, all with the same number of points and boxes.
        """
        targets = [request.targets[index] for index in chosen]
        logits, estimates, presence = self._forward(features, targets, request.multimask)
        if not (np.isfinite(estimates).all() and np.isfinite(presence).all()):
            raise self.placement.not_finite()
        objects, candidates = estimates.shape
        # Before they are clipped, which may make them equal.
        order = np.argsort(-estimates, axis=1, kind="stable")
        maps = np.take_along_axis(logits, order[..., None, None], axis=1)
        maps = maps.reshape(objects * candidates, *logits.shape[-2:])
        source = LowResMasks.of_logits(maps, mask_threshold, features.size)
        if self.reference.fill_holes and request.fill_holes:
            source = replace(source, values=maps.copy())  # the next request starts from unfilled
            for one in source.values:
                fill_small_holes(one, source.cut)
        scores = np.take_along_axis(estimates, order, axis=1).clip(0, 1)
        return Detections.of(
            size=features.size,
            source=source,
            boxes=np.zeros((len(source), 4), dtype=np.float32),
            scores=scores.reshape(-1),
            presence=np.repeat(presence, candidates),
            concept=OBJECT,
            prompt=np.repeat(np.array(chosen), candidates),
            candidates=order.reshape(-1),
            logits=maps.clip(-MOST, MOST),
        )

    def levels(self, features: Features) -> tuple[torch.Tensor, ...]:
        """The tracker's feature levels, (1, C, s·h, s·w) for s = 4, 2, 1."""
        neck = self.tracker.vision_encoder.neck
        levels = self.encoder.levels(features, "pick", neck)
        if self.reference.no_memory or len(neck.fpn_layers) == LEVELS:
            levels = with_no_memory(self.tracker, levels)
        return levels

    def _forward(
        self, features: Features, targets: Sequence[Target], multimask: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Mask logits (N, M, h, w), IoU estimates (N, M) and presence (N,) on the host.

        All are float32, for N targets with M candidates each. The estimates of SAM 3.1 may leave
        0–1.
        """
        levels = self.levels(features)
        points, labels, boxes = self._prompts(features.size, targets)
        logits = None
        if targets[0].mask is not None:
            logits = torch.from_numpy(targets[0].mask)[None, None].to(self.placement.device)
        sparse, dense = embed_prompts(self.tracker, levels[-1], points, labels, boxes, logits)
        maps, scores, presence = decode_masks(self.tracker, levels, sparse, dense, multimask)
        return (
            to_host(maps[0].float()),
            to_host(scores[0].float()),
            to_host(presence[0, :, 0].float().sigmoid()),
        )

    def _prompts(
        self, size: tuple[int, int], targets: Sequence[Target]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Points (1, N, p, 2), labels (1, N, p) and boxes (1, N, 4) in encoder pixels.

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


def targets_in_pass(features: Features, placement: Placement) -> int:
    """How many targets the mask decoder takes in one pass; each needs features of its own."""
    cells = CPU_PASS_CELLS if placement.device.type == "cpu" else GPU_PASS_CELLS
    return max(1, cells // (features.hidden.shape[-2] * features.hidden.shape[-1]))


def low_res_logits(mask: MaskPrompt, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A mask as the prompt encoder reads it: float32 logits of `shape`, to which it is stretched.

    Logits are limited to ±32; a bool mask becomes ±10, blended along its edge.
    """
    if mask.dtype == bool:
        white = torch.from_numpy(np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255))
        share = vision.resize(white[None], list(shape), antialias=True)[0].numpy() / np.float32(255)
        return OFF + (ON - OFF) * share
    values = np.asarray(mask, dtype=np.float32).clip(-MOST, MOST)
    if values.shape == shape:
        return values
    return vision.resize(torch.from_numpy(values)[None], list(shape), antialias=True)[0].numpy()


def head(parts: Parts) -> Picker | None:
    """What answers `Pick`, if the checkpoint has a tracker."""
    if parts.tracker is None:
        return None
    return Picker(parts.tracker, parts.encoder, parts.placement, parts.reference)


def fill_small_holes(logits: NDArray[np.float32], cut: float) -> None:
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
