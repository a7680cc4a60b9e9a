"""Plain transformers, called so that it answers as Meta's own SAM 3 does.

With the same weights transformers 5.23 differs from Meta's implementation in what goes into the
model and in what is made of its outputs. Its classes can be called so that the answers agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, Sam3Model, Sam3TrackerModel

NO_BOX = -10  # the label that masks a box out
EPSILON = 1e-5  # of the vision encoder's layer norms; the configuration's default is 1e-6


def set_epsilon(model: PreTrainedModel) -> None:
    """Set the epsilon of the vision encoder's layer norms to Meta's, in place."""
    for module in model.vision_encoder.backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPSILON


def masked_box(count: int) -> dict[str, Tensor]:
    """Return the inputs of `Sam3Model` for `count` texts without boxes.

    They are one box per text that is masked out: without any box the geometry encoder does not
    run, and its CLS token, which all of Meta's prompts contain, is missing.
    """
    return {
        "input_boxes": torch.zeros(count, 1, 4),
        "input_boxes_labels": torch.full((count, 1), NO_BOX),
    }


@torch.inference_mode()
def text_inputs(detector: Sam3Model, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
    """Return the inputs of `Sam3Model` for the tokens (B, n) of B texts.

    The detector does not read tokens with the id 0, with which Meta pads, but the text encoder
    does: so the texts are encoded beforehand.
    """
    embeddings = detector.get_text_features(
        input_ids=input_ids, attention_mask=attention_mask, return_dict=True
    )
    return {"text_embeds": embeddings, "attention_mask": attention_mask * (input_ids != 0)}


@torch.inference_mode()
def image_embeddings(tracker: Sam3TrackerModel, pixel_values: Tensor) -> Sequence[Tensor]:
    """Call `get_image_embeddings`, but add the no-memory embedding to the level that is read.

    pixel_values: (B, 3, side, side). transformers adds it to the neck's last level; where there
    are four, as in SAM 3, nothing reads that one.
    """
    levels = tracker.get_image_embeddings(pixel_values)
    if len(tracker.vision_encoder.neck.fpn_layers) > len(levels):
        levels[-1] = levels[-1] + tracker.no_memory_embedding.permute(1, 2, 0)[..., None]
    return levels


def post_process(
    processor: Any,
    outputs: Any,
    sizes: Sequence[tuple[int, int]],
    threshold: float,
    mask_threshold: float = 0.5,
) -> list[dict[str, Tensor]]:
    """Call `post_process_instance_segmentation`, but upsample masks as logits.

    sizes: (height, width) of each image, in pixels. transformers upsamples probabilities.
    """
    results = processor.post_process_instance_segmentation(
        outputs, threshold=threshold, mask_threshold=mask_threshold, target_sizes=list(sizes)
    )
    scores = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
    cut = torch.tensor(mask_threshold, dtype=torch.float64).logit().item()
    for row, (result, size) in enumerate(zip(results, sizes, strict=True)):
        logits = outputs.pred_masks[row][scores[row] > threshold]
        if len(logits):
            full = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
            result["masks"] = (full > cut).long()
    return results


def fill_holes(logits: Tensor) -> Tensor:
    """Return mask logits (..., h, w) of a pick with holes of up to 256 of 288×288 cells filled.

    A hole is an 8-connected component of background (<= 0), at the border or not.
    """
    filled = logits.clone()
    for one in filled.reshape(-1, *logits.shape[-2:]):
        background = (one <= 0).numpy().astype(np.uint8)
        count, labels, areas, _ = cv2.connectedComponentsWithStats(background, connectivity=8)
        for label in range(1, count):
            if areas[label, cv2.CC_STAT_AREA] <= one.numel() * 256 / 288**2:
                one[torch.from_numpy(labels == label)] = 10.0
    return filled
