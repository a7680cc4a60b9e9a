"""What differs between checkpoints of the family, read off the configuration: the one place."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, Sam3LiteTextModel, Sam3Model

# `model_type` in config.json → the class of the half that finds concepts. A `sam3_video` holds the
# half that picks objects as well.
DETECTORS: dict[str, type[PreTrainedModel]] = {
    "sam3_video": Sam3Model,
    "sam3": Sam3Model,
    "sam3_lite_text": Sam3LiteTextModel,
}


@dataclass(frozen=True)
class Architecture:
    """Class and sizes of a checkpoint.

    detector: the class that finds concepts.
    has_tracker: whether there is a half for task='visual'.
    tokens: how many the text encoder reads, start and end included (32; with a lite text encoder
        16).
    queries: how many instances of one concept the model finds at most (200).
    side, patch, window: of the vision encoder: side of its input and of a patch in pixels, side of
        a window in patches (1008, 14, 24).
    iou_is_sigmoid: whether the estimated IoU of a picked mask goes through a sigmoid (not in
        SAM 3.1).
    """

    detector: type[PreTrainedModel]
    has_tracker: bool
    tokens: int
    queries: int
    side: int
    patch: int
    window: int
    iou_is_sigmoid: bool

    @classmethod
    def of(cls, config: Any, tokenizer_limit: int = sys.maxsize) -> Architecture:
        """Read a `Sam3VideoConfig`, `Sam3Config` or `Sam3LiteTextConfig`.

        tokenizer_limit: `model_max_length` of the tokenizer that is there.
        """
        tracker = getattr(config, "tracker_config", None)
        half = config if tracker is None else config.detector_config
        vision = half.vision_config.backbone_config
        return cls(
            detector=DETECTORS[config.model_type],
            has_tracker=tracker is not None,
            # A lite text encoder may have room for more positions than it was trained on.
            tokens=min(half.text_config.max_position_embeddings, tokenizer_limit),
            queries=half.detr_decoder_config.num_queries,
            side=vision.image_size,
            patch=vision.patch_size,
            window=vision.window_size,
            iou_is_sigmoid=getattr(
                getattr(tracker, "mask_decoder_config", None), "iou_prediction_use_sigmoid", True
            ),
        )

    def __str__(self) -> str:
        """Say in one line for the log what can be asked."""
        tasks = "concept and visual" if self.has_tracker else "concept only"
        return (
            f"Model: {self.detector.__name__}, tasks {tasks}; prompts of at most {self.tokens} "
            f"tokens, at most {self.queries} instances of one; input {self.side}×{self.side}"
        )
