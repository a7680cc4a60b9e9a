"""LabelMe: polygons to edit by hand. The parts of an instance are a group.

LabelMe's polygons have no holes: a ring goes to each hole along a row of pixels and back the same
way, and LabelMe fills it to exactly the mask. A mask without a pixel has no polygon.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from sam3_image.masks import Mask, polygons
from sam3_image.output.formats.base import (
    AnnotationFormat,
    Categories,
    ImageInfo,
    Record,
    dump_json,
    one_file_each,
)

VERSION = "5.5.0"  # of LabelMe, whose fields these are
# As for YOLO: LabelMe, too, cuts coordinates to whole pixels and fills the outline.
INSET, DECIMALS = 0.01, 2


def _record(facts: Record, mask: Mask) -> Record:
    rings = [ring.round(DECIMALS).tolist() for ring in polygons.bridged(mask, INSET)]
    return {**facts, "rings": rings}


def _document(image: ImageInfo, records: Sequence[Any], _: Categories) -> Record:
    height, width = image.size
    shapes = [
        {
            "label": record["concept"],
            "points": ring,
            "group_id": index,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
            "score": record["score"],
        }
        for index, record in enumerate(records)
        for ring in record["rings"]
    ]
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": PurePosixPath(image.file_name).name,  # relative to this file
        "imageData": None,  # LabelMe opens the image at that path
        "imageHeight": height,
        "imageWidth": width,
    }


FORMAT = AnnotationFormat(
    "labelme",
    "LabelMe",
    _record,
    _document,
    dataset=one_file_each(_document, dump_json, "{stem}.json"),
    images="",
)
