"""A plain list of instances, each mask as COCO's compressed run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sam3_image.masks import Mask
from sam3_image.masks import rle as run_lengths
from sam3_image.output.formats.base import VERSION, AnnotationFormat, Categories, ImageInfo, Record


def instance_list(name: str, image: ImageInfo, records: Sequence[Record]) -> Record:
    """The document of the plain formats: version, format, image, and one object an instance."""
    height, width = image.size
    return {
        "version": VERSION,
        "format": name,
        "image": {"width": width, "height": height},
        "instances": [{"index": index, **record} for index, record in enumerate(records)],
    }


def _record(facts: Record, mask: Mask) -> Record:
    return {**facts, "area": mask.area, "rle": run_lengths.encode(mask)}


def _document(image: ImageInfo, records: Sequence[Any], _: Categories) -> Record:
    return instance_list("rle", image, records)


FORMAT = AnnotationFormat("rle", "JSON with run lengths", _record, _document)
