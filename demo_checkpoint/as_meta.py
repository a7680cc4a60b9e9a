"""Plain transformers, called so that it answers as Meta's own SAM 3 does.

With the same weights transformers 5.23 leaves out three things that Meta's implementation has, in
training as in use. Its classes can be called so that they are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Sam3TrackerModel

NO_BOX = -10  # the label that masks a box out
EPSILON = 1e-5  # of the vision encoder's layer norms; the configuration's default is 1e-6


def set_epsilon(model: PreTrainedModel) -> None:
    """Give the vision encoder's layer norms Meta's epsilon, in place."""
    for module in model.vision_encoder.backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPSILON


def masked_box(count: int) -> dict[str, Tensor]:
    """Return the inputs of `Sam3Model` for `count` texts without boxes.

    One box each that is masked out: without any, the geometry encoder does not run and its CLS
    token, which Meta's prompts always hold, is missing.
    """
    return {
        "input_boxes": torch.zeros(count, 1, 4),
        "input_boxes_labels": torch.full((count, 1), NO_BOX),
    }


@torch.inference_mode()
def image_embeddings(tracker: Sam3TrackerModel, pixel_values: Tensor) -> Sequence[Tensor]:
    """Call `get_image_embeddings`, with the no-memory embedding on the level that is read.

    pixel_values: (B, 3, side, side). transformers adds it to the last of the neck's levels: with
    four of them, as in SAM 3, that is one which nothing reads.
    """
    levels = tracker.get_image_embeddings(pixel_values)
    if len(tracker.vision_encoder.neck.fpn_layers) > len(levels):
        levels[-1] = levels[-1] + tracker.no_memory_embedding.permute(1, 2, 0)[..., None]
    return levels
