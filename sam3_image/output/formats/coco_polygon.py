"""COCO with polygons: for tools that train on them and do not read run lengths.

A ring runs along the pixels' edges. It goes to each hole along a row of pixels and back the same
way, so pycocotools fills it to exactly the mask. A mask without a pixel has no polygon and is
written as run lengths.
"""

from __future__ import annotations

from sam3_image.masks import Mask, polygons, rle
from sam3_image.output.formats.base import AnnotationFormat, Record
from sam3_image.output.formats.coco import annotation, dataset, document


def _record(facts: Record, mask: Mask) -> Record:
    rings = [ring.astype(int).ravel().tolist() for ring in polygons.bridged(mask, 0)]
    return annotation(facts, mask, rings or rle.encode(mask))


FORMAT = AnnotationFormat("coco_polygon", "COCO (polygons)", _record, document, dataset=dataset)
