"""Non-maximum suppression by mask IoU: of instances that cover the same pixels, the best stays."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as coco_masks

from sam3_image import runs
from sam3_image.instances import Instances


def suppress(instances: Instances, iou_threshold: float) -> Instances:
    """Greedy NMS over all prompts of a request, best score first.

    An instance goes when its full-size mask overlaps a better one that stayed with an IoU
    > `iou_threshold`. Expects `instances` sorted by score. Masks are made one at a time and
    compared as run lengths, so memory does not grow with the image.
    """
    kept: list[int] = []
    masks: list[dict[str, Any]] = []
    for index, mask in enumerate(instances.masks()):
        rle = runs.encode(mask)
        overlaps = coco_masks.iou([rle], masks, [0] * len(masks)) if masks else [[0.0]]
        if max(overlaps[0]) <= iou_threshold:
            kept.append(index)
            masks.append(rle)
    return instances.take(kept)
