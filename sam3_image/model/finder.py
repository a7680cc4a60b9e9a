"""find: every instance of a concept, with transformers' `Sam3Model` on encoded features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3Model
from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

from sam3_image.masks import Detections, LowResMasks
from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import Encoder, Features
from sam3_image.model.parts import Parts
from sam3_image.model.prompts import Find
from sam3_image.model.texts import Texts
from sam3_image.model.transfer import to_host
from sam3_image.model.transformers_adapter import geometry_tokens, run_heads

# Concepts per batch of the heads. Each needs its own pass of the pixel decoder (about 0.5 GB at
# full size in float32), so larger batches gain little and cost memory.
CHUNK = 4

# Elements of a tensor up to which torch computes on the calling thread alone.
PIECE = 1 << 14


@dataclass(frozen=True)
class Finder:
    """The detector's heads; `steps` depends on features and prompts alone."""

    detector: Sam3Model
    texts: Texts
    encoder: Encoder
    placement: Placement
    reference: Compatibility

    def steps(
        self, features: Features, request: Find, mask_threshold: float
    ) -> list[Callable[[], Detections]]:
        """Calls, each of which computes a few concepts' instances above the threshold.

        request.thresholds: the score to exceed, for each concept; the score is
        sigmoid(logit) · sigmoid(presence).
        mask_threshold: probability above which an upsampled pixel is in the mask. Masks are
        upsampled as `reference.upsample_logits` says; boxes are xyxy in pixels, not clipped.
        """
        steps: list[Callable[[], Detections]] = []
        for index, one in enumerate(request.each):
            own = replace(request, boxes=one.boxes, labels=one.labels)
            chunk = range(index, index + 1)
            steps.append(partial(self._chunk, features, own, chunk, mask_threshold))
        if steps:
            return steps
        for start in range(0, len(request.concepts), CHUNK):
            chunk = range(len(request.concepts))[start : start + CHUNK]
            steps.append(partial(self._chunk, features, request, chunk, mask_threshold))
        return steps

    @torch.inference_mode()
    def _chunk(
        self, features: Features, request: Find, indices: range, mask_threshold: float
    ) -> Detections:
        concepts = request.concepts[indices.start : indices.stop]
        outputs = self._forward(features, concepts, request)
        # Scores become float32 here; maps only later, for the instances that are kept.
        chances = outputs.presence_logits.float().sigmoid()
        scores = to_host(outputs.pred_logits.float().sigmoid() * chances)
        presence = to_host(chances)
        height, width = features.size
        scale = torch.tensor([width, height, width, height], device=chances.device)
        boxes = to_host(outputs.pred_boxes.float() * scale)
        found = []
        for row, index in enumerate(indices):
            kept = np.flatnonzero(scores[row] > request.thresholds[index])
            part = Detections.of(
                size=features.size,
                source=self._maps(outputs.pred_masks[row], kept, mask_threshold, features.size),
                boxes=boxes[row, kept],
                scores=scores[row, kept],
                presence=np.full(len(kept), presence[row, 0], dtype=np.float32),
                concept=request.names[index],
                prompt=index,
                best={index: float(scores[row].max())},
            )
            found.append(part)
        return Detections.joined(found)

    def _maps(
        self,
        logits: torch.Tensor,
        kept: NDArray[np.int64],
        mask_threshold: float,
        size: tuple[int, int],
    ) -> LowResMasks:
        """The maps `kept` (N,) of logits (queries, h, w) for an image of `size`."""
        if self.reference.upsample_logits:
            return LowResMasks.of_logits(_selected(logits, kept), mask_threshold, size)
        return LowResMasks(_selected(logits, kept, torch.sigmoid), mask_threshold, size)

    def _forward(
        self, features: Features, concepts: Sequence[str], request: Find
    ) -> Sam3ImageSegmentationOutput:
        levels = self.encoder.levels(features, "find", self.detector.vision_encoder.neck)
        tokens, valid = self.texts.embeddings(concepts)
        geometry = self._geometry(features, request)
        if geometry is not None:
            exemplars, are_valid = geometry
            tokens = torch.cat([tokens, exemplars.expand(len(concepts), -1, -1)], dim=1)
            valid = torch.cat([valid, are_valid.expand(len(concepts), -1)], dim=1)
        return run_heads(self.detector, levels, tokens, valid)

    def _geometry(
        self, features: Features, request: Find
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Tokens (1, n + 1, C) of n exemplars and which of them are valid (1, n + 1), or None.

        One of them is the geometry encoder's CLS token, which in Meta's SAM 3 is part of every
        prompt; transformers leaves it out where there are no boxes. The tokens depend on the
        features and on where the boxes lie in them, but not on the text: all concepts share them,
        and later requests find them in the cache.
        """
        if not request.boxes and not self.reference.cls_token:
            return None
        return self.encoder.kept(
            features,
            # With the size: images of different sizes may have the same features (blank ones,
            # stripes), where the same pixels are at other places.
            ("geometry", features.size, request.boxes, request.labels),
            partial(self._encode_geometry, features, request),
        )

    def _encode_geometry(
        self, features: Features, request: Find
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes are normalised in float32: pixels in half precision would be off by pixels."""
        levels = self.encoder.levels(features, "find", self.detector.vision_encoder.neck)
        height, width = features.size
        xyxy = torch.tensor(request.boxes, dtype=torch.float32).reshape(1, -1, 4)
        x0, y0, x1, y1 = (xyxy / torch.tensor([width, height, width, height])).unbind(-1)
        boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)
        boxes = boxes.to(self.placement.device, self.placement.dtype)
        labels = torch.tensor([request.labels], dtype=torch.long, device=boxes.device)
        return geometry_tokens(self.detector, levels[-1], boxes, labels)


def head(parts: Parts) -> Finder:
    """What answers `Find`."""
    return Finder(parts.detector, parts.texts, parts.encoder, parts.placement, parts.reference)


def _selected(
    logits: torch.Tensor,
    kept: NDArray[np.int64],
    function: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> NDArray[np.float32]:
    """`logits[kept]` as (N, h, w) float32 on the host, `function` applied to each value."""
    if logits.device.type != "cpu":
        chosen = logits.index_select(0, torch.tensor(kept, device=logits.device)).float()
        return to_host(function(chosen) if function else chosen)
    # In pieces: split over threads, which wait for one another, this takes 0.5 ms on an idle
    # machine and 40 ms next to a busy process.
    maps = torch.empty((len(kept), *logits.shape[1:]), dtype=torch.float32)
    for result, index in zip(maps, kept.tolist(), strict=True):
        pieces = zip(
            result.view(-1).split(PIECE), logits[index].reshape(-1).split(PIECE), strict=True
        )
        for target, source in pieces:
            target.copy_(function(source.float()) if function else source)
    return maps.numpy()
