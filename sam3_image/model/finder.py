"""find: every instance of a concept, with transformers' `Sam3Model` on encoded features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
# The largest power of two in float16, where larger logits would be infinite.
LARGEST = 2.0**15


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
        # All numbers leave the device at once, since each copy waits for it; maps follow, but only
        # those of the instances that are kept.
        chances = outputs.presence_logits.float().sigmoid()
        scores = outputs.pred_logits.float().sigmoid() * chances
        rows = (scores, chances.expand_as(scores), *outputs.pred_boxes.float().unbind(-1))
        scores, presence, *corners = to_host(torch.stack(rows))
        if not np.isfinite(scores).all():
            raise self.placement.not_finite()
        height, width = features.size
        boxes = np.stack(corners, axis=-1) * np.array([width, height] * 2, dtype=np.float32)
        thresholds = np.array(request.thresholds[indices.start : indices.stop], dtype=np.float32)
        kept = np.nonzero(scores > thresholds[:, None])
        if self.reference.upsample_logits:
            maps = _selected(outputs.pred_masks, kept)
            source = LowResMasks.of_logits(maps, mask_threshold, features.size)
        else:
            maps = _selected(outputs.pred_masks, kept, torch.sigmoid)
            source = LowResMasks(maps, mask_threshold, features.size)
        found = []
        for row, index in enumerate(indices):
            mine = slice(*np.searchsorted(kept[0], (row, row + 1)))
            queries = kept[1][mine]
            part = Detections.of(
                size=features.size,
                source=replace(source, values=source.values[mine]),
                boxes=boxes[row, queries],
                scores=scores[row, queries],
                presence=presence[row, queries],
                concept=request.names[index],
                prompt=index,
                best={index: float(scores[row].max())},
            )
            found.append(part)
        return Detections.joined(found)

    def _forward(
        self, features: Features, concepts: Sequence[str], request: Find
    ) -> Sam3ImageSegmentationOutput:
        levels = self.encoder.levels(features, "find", self.detector.vision_encoder.neck)
        tokens, valid = self.texts.embeddings(concepts)
        geometry = self._geometry(features, levels[-1], request)
        if geometry is not None:
            exemplars, are_valid = geometry
            tokens = torch.cat([tokens, exemplars.expand(len(concepts), -1, -1)], dim=1)
            valid = torch.cat([valid, are_valid.expand(len(concepts), -1)], dim=1)
        return run_heads(self.detector, levels, tokens, valid)

    def _geometry(
        self, features: Features, level: torch.Tensor, request: Find
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Tokens (1, n + 1, C) of n exemplars and which of them are valid (1, n + 1), or None.

        One of them is the geometry encoder's CLS token, which in Meta's SAM 3 is part of every
        prompt; transformers leaves it out where there are no boxes. The tokens depend on the
        features and on where the boxes lie in them, but not on the text: all concepts share them,
        and later requests find them in the cache.
        """
        if not request.boxes and not self.reference.cls_token:
            return None
        height, width = features.size
        # float32 all the way: in half precision they would be off by pixels.
        xyxy = np.array(request.boxes, dtype=np.float32).reshape(-1, 4)
        x0, y0, x1, y1 = (xyxy / np.array([width, height] * 2, dtype=np.float32)).T
        boxes = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=-1)
        return self.encoder.kept(
            features,
            # With the size: images of different sizes may have the same features (blank ones,
            # stripes), where the same pixels are at other places.
            ("geometry", features.size, request.boxes, request.labels),
            partial(geometry_tokens, self.detector, level, boxes, request.labels),
        )


def head(parts: Parts) -> Finder:
    """What answers `Find`."""
    return Finder(parts.detector, parts.texts, parts.encoder, parts.placement, parts.reference)


def _selected(
    logits: torch.Tensor,
    kept: tuple[NDArray[np.int64], ...],
    function: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> NDArray[Any]:
    """`logits[kept]` as (N, h, w) on the host, `function` applied to each value in float32.

    Logits in half precision come as float16, which takes half the time to copy. It holds any
    bfloat16 of at least 2⁻²⁴; a smaller one becomes zero, which no mask shows.
    """
    if logits.device.type != "cpu" or logits.dtype is not torch.float32:
        chosen = logits[tuple(torch.tensor(np.stack(kept), device=logits.device))]
        if function is not None:
            return to_host(function(chosen.float()))
        if chosen.dtype is torch.bfloat16:
            chosen = chosen.clamp(-LARGEST, LARGEST).to(torch.float16)
        return to_host(chosen)
    # In pieces: split over threads, which wait for one another, this takes 0.5 ms on an idle
    # machine and 40 ms next to a busy process.
    maps = torch.empty((len(kept[0]), *logits.shape[2:]), dtype=torch.float32)
    for result, row, query in zip(maps, *kept, strict=True):
        pieces = zip(
            result.view(-1).split(PIECE), logits[row, query].reshape(-1).split(PIECE), strict=True
        )
        for target, source in pieces:
            target.copy_(function(source) if function else source)
    return maps.numpy()
