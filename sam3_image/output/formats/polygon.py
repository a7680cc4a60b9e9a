"""A plain list of instances, each mask as exact polygons with holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sam3_image.masks import Mask, polygons
from sam3_image.output.formats.base import AnnotationFormat, Categories, ImageInfo, Record
from sam3_image.output.formats.rle import instance_list


def _record(facts: Record, mask: Mask) -> Record:
    # Coordinates are whole and half numbers, so nothing is lost.
    parts = [
        {"outer": part.outer.tolist(), "holes": [hole.tolist() for hole in part.holes]}
        for part in polygons.trace(mask)
    ]
    return {**facts, "area": mask.area, "polygons": parts}


def _document(image: ImageInfo, records: Sequence[Any], _: Categories) -> Record:
    return instance_list("polygon", image, records)


FORMAT = AnnotationFormat("polygon", "JSON with polygons", _record, _document)
