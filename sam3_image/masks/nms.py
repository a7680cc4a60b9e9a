"""Non-maximum suppression by mask IoU: of instances that cover the same pixels, the best stays."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as coco_masks

from sam3_image.masks import rle
from sam3_image.masks.detections import Detections


def suppress(instances: Detections, iou_threshold: float, per_concept: bool = False) -> Detections:
    """Greedy NMS over all prompts of a request, or over those of each concept; best score first.

    An instance goes when its full-size mask overlaps a better one that stayed with an IoU
    > `iou_threshold`. Expects `instances` sorted by score. Masks are made one at a time and
    compared as run lengths, so memory does not grow with the image.
    """
    kept: list[int] = []
    groups: dict[str, list[dict[str, Any]]] = {}
    for index, mask in enumerate(instances.masks()):
        masks = groups.setdefault(instances.concepts[index] if per_concept else "", [])
        encoded = rle.encode(mask)
        overlaps = coco_masks.iou([encoded], masks, [0] * len(masks)) if masks else [[0.0]]
        if max(overlaps[0]) <= iou_threshold:
            kept.append(index)
            masks.append(encoded)
    return instances.take(kept)
