"""find: every instance of a concept, with transformers' `Sam3Model` on encoded features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import (
    Sam3ImageSegmentationOutput,
    Sam3VisionEncoderOutput,
)

from sam3_image.masks import Detections, LowResMasks
from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import Encoder, Features
from sam3_image.model.prompts import Find
from sam3_image.model.texts import Texts
from sam3_image.model.transfer import to_host

# Concepts that go through the head together. Each needs its own pixel decoder pass (about 0.5 GB
# at full size in float32), so more at once buys little and costs memory.
CHUNK = 4

# Elements of a tensor that torch still computes without sharing them out among threads.
PIECE = 1 << 14


@dataclass(frozen=True)
class Finder:
    """The detector's heads; `steps` is a pure function of features and prompts."""

    detector: Sam3Model
    texts: Texts
    encoder: Encoder
    placement: Placement
    reference: Compatibility

    def steps(
        self, features: Features, request: Find, mask_threshold: float
    ) -> list[Callable[[], Detections]]:
        """Return calls that give all instances with a score > `request.threshold`, by a few
        concepts.

        mask_threshold: probability above which an upsampled pixel is in the mask. The score is
        sigmoid(logit) · sigmoid(presence), as in transformers'
        `post_process_instance_segmentation`, and so are masks and boxes.
        """
        every = range(len(request.concepts))
        return [
            partial(self._chunk, features, request, every[start : start + CHUNK], mask_threshold)
            for start in every[::CHUNK]
        ]

    @torch.inference_mode()
    def _chunk(
        self, features: Features, request: Find, indices: range, mask_threshold: float
    ) -> Detections:
        concepts = [request.concepts[index] for index in indices]
        outputs = self._forward(features, concepts, request)
        # Small tensors leave the model's dtype here; maps only once they are known to be kept.
        chances = outputs.presence_logits.float().sigmoid()
        scores = to_host(outputs.pred_logits.float().sigmoid() * chances)
        presence = to_host(chances)
        height, width = features.size
        scale = torch.tensor([width, height, width, height], device=chances.device)
        boxes = to_host(outputs.pred_boxes.float() * scale)
        found = []
        for row, index in enumerate(indices):
            kept = np.flatnonzero(scores[row] > request.threshold)
            maps = _probabilities(outputs.pred_masks[row], kept)
            part = Detections.of(
                size=features.size,
                source=LowResMasks(maps, mask_threshold, features.size),
                boxes=boxes[row, kept],
                scores=scores[row, kept],
                presence=np.full(len(kept), presence[row, 0], dtype=np.float32),
                concept=request.names[index],
                prompt=index,
            )
            found.append(part)
        return Detections.joined(found)

    def _forward(
        self, features: Features, concepts: Sequence[str], request: Find
    ) -> Sam3ImageSegmentationOutput:
        count = len(concepts)
        levels = self.encoder.levels(features, "find", self.detector.vision_encoder.neck)
        position = self._position(levels[-1])
        tokens, mask = self.texts.embeddings(concepts)
        geometry = self._geometry(features, request)
        if geometry is not None:
            own, valid = (part.expand(count, *part.shape[1:]) for part in geometry)
            tokens, mask = torch.cat([tokens, own], dim=1), torch.cat([mask, valid], dim=1)
        levels = tuple(level.expand(count, -1, -1, -1) for level in levels)
        return self.detector(
            # The heads read the position encoding of the lowest level only, and drop a fourth one.
            vision_embeds=Sam3VisionEncoderOutput(
                fpn_hidden_states=(*levels, levels[-1]), fpn_position_encoding=(position,) * 4
            ),
            text_embeds=BaseModelOutputWithPooling(pooler_output=tokens),
            attention_mask=mask,
        )

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
        lowest = self.encoder.levels(features, "find", self.detector.vision_encoder.neck)[-1]
        boxes = self._exemplars(features.size, request)
        labels = torch.tensor([request.labels], dtype=torch.long, device=boxes.device)
        output = self.detector.geometry_encoder(
            box_embeddings=boxes,
            box_mask=torch.ones_like(labels, dtype=torch.bool),
            box_labels=labels,
            img_feats=(lowest,),
            img_pos_embeds=(self._position(lowest),),
        )
        return output.last_hidden_state, output.attention_mask

    def _position(self, level: torch.Tensor) -> torch.Tensor:
        """The position encoding of a feature level (1, C, h, w), of the same shape."""
        neck = self.detector.vision_encoder.neck
        return neck.position_encoding(level.shape, level.device, level.dtype)

    def _exemplars(self, size: tuple[int, int], request: Find) -> torch.Tensor:
        """Boxes as (1, n, 4) cxcywh in 0–1; n may be 0.

        Normalised in float32; half precision would move a box by pixels before that.
        """
        height, width = size
        xyxy = torch.tensor(request.boxes, dtype=torch.float32).reshape(1, -1, 4)
        x0, y0, x1, y1 = (xyxy / torch.tensor([width, height, width, height])).unbind(-1)
        boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)
        return boxes.to(self.placement.device, self.placement.dtype)


def _probabilities(logits: torch.Tensor, kept: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return maps of the instances kept. logits: (queries, h, w); kept: (N,) indices → (N,
    h, w).
    """
    if logits.device.type != "cpu":
        chosen = torch.tensor(kept, device=logits.device)
        return to_host(logits.index_select(0, chosen).float().sigmoid())
    # Piece by piece: shared out among threads, which wait for one another, this takes 0.5 ms on
    # an idle machine and 40 ms beside a busy process.
    maps = torch.empty((len(kept), *logits.shape[1:]), dtype=torch.float32)
    for result, index in zip(maps, kept.tolist(), strict=True):
        pieces = zip(
            result.view(-1).split(PIECE), logits[index].reshape(-1).split(PIECE), strict=True
        )
        for target, source in pieces:
            torch.sigmoid(source.float(), out=target)
    return maps.numpy()
