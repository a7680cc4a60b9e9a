"""Masks without a model: upsampling, NMS, run lengths, polygons.

`Detections` is what the model found in one image, `Mask` the full-size mask of one of them.
"""

from sam3_image.masks import nms, polygons, rle
from sam3_image.masks.detections import (
    Detections,
    LowResMasks,
    PackedMask,
    PackedMasks,
    logit,
)
from sam3_image.masks.mask import Mask
from sam3_image.masks.selection import Selection

__all__ = [
    "Detections",
    "LowResMasks",
    "Mask",
    "PackedMask",
    "PackedMasks",
    "Selection",
    "logit",
    "nms",
    "polygons",
    "rle",
]
