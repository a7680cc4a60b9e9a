"""pick: the one object under points and/or a box, with transformers' `Sam3TrackerModel`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3TrackerModel

from sam3_image.masks import Detections, LowResMasks
from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import LEVELS, Encoder, Features
from sam3_image.model.prompts import Pick, Target
from sam3_image.model.transfer import to_host

# The name of what a pick returns, where *find* has its concept.
OBJECT = "object"


@dataclass(frozen=True)
class Picker:
    """The tracker's prompt encoder and mask decoder; `pick` is a pure function of its inputs."""

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
        """One instance per target, or three candidates of each, in order and without boxes.

        mask_threshold: probability above which a pixel is in the mask. The score is the model's
        own estimate of the mask's IoU with the object; `presence` its probability that there is
        an object. Masks as in `Sam3TrackerProcessor.post_process_masks`: logits are upsampled.
        """
        logits, scores, presence = self._forward(features, request)
        objects, candidates = scores.shape
        maps = logits.reshape(objects * candidates, *logits.shape[-2:])
        return Detections.of(
            size=features.size,
            source=LowResMasks(maps, _logit(mask_threshold), features.size),
            boxes=np.zeros((len(maps), 4), dtype=np.float32),
            scores=scores.reshape(-1),
            presence=np.repeat(presence, candidates),
            concept=OBJECT,
            prompt=np.repeat(np.arange(objects), candidates),
            candidates=np.tile(np.arange(candidates), objects),
        )

    def _forward(
        self, features: Features, request: Pick
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Mask logits (N, M, h, w), scores (N, M), presence (N,), all float32 on the host."""
        low, middle, high = self._embeddings(features)
        grid = high.shape[-2:]
        points, labels, boxes = self._prompts(features.size, request.targets)
        sparse, dense = self.tracker.prompt_encoder(
            input_points=points, input_labels=labels, input_boxes=boxes, input_masks=None
        )
        logits, scores, _, presence = self.tracker.mask_decoder(
            image_embeddings=high,
            image_positional_embeddings=self._positions(grid),
            sparse_prompt_embeddings=sparse,
            # Without a mask prompt it is one vector everywhere, so a part serves any resolution.
            dense_prompt_embeddings=dense[..., : grid[0], : grid[1]].to(self.placement.dtype),
            multimask_output=request.multimask,
            high_resolution_features=[low, middle],
        )
        return (
            to_host(logits[0].float()),
            to_host(scores[0].float()),
            to_host(presence[0, :, 0].float().sigmoid()),
        )

    def _embeddings(self, features: Features) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `Sam3TrackerModel.get_image_embeddings`, from features that are there already.

        transformers adds the no-memory embedding to the last level that the neck makes. SAM 3's
        makes a fourth one, which nothing reads, so there it has no effect; Meta adds it to the
        third.
        """
        neck, decoder = self.tracker.vision_encoder.neck, self.tracker.mask_decoder
        low, middle, high = self.encoder.levels(features, "pick", neck)
        if self.reference.no_memory or len(neck.fpn_layers) == LEVELS:
            high = high + self.tracker.no_memory_embedding.permute(1, 2, 0)[..., None]
        return decoder.conv_s0(low), decoder.conv_s1(middle), high

    def _positions(self, grid: Sequence[int]) -> torch.Tensor:
        """Position encoding (1, C, h, w) of the cells' centres, computed in float32."""
        height, width = grid
        y = (torch.arange(height, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32) + 0.5) / width
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
        encoded = self.tracker.shared_image_embedding(centres.to(self.placement.device))
        return encoded.permute(2, 0, 1)[None].to(self.placement.dtype)

    def _prompts(
        self, size: tuple[int, int], targets: Sequence[Target]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Points (1, N, p, 2), labels (1, N, p), boxes (1, N, 4) in encoder pixels, float32."""
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


def _logit(probability: float) -> float:
    """Inverse of the sigmoid; ±infinity at 0 and 1."""
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability))
