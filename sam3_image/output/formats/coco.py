"""COCO with run lengths: what pycocotools loads and evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sam3_image.masks import Mask, rle
from sam3_image.output.formats.base import VERSION, AnnotationFormat, ImageInfo, Record


def _record(facts: Record, mask: Mask) -> Record:
    x0, y0, x1, y1 = mask.box
    return {
        "segmentation": rle.encode(mask),
        "area": mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],  # zeros where the mask has no pixel
        "iscrowd": 0,
        **facts,
    }


def _document(image: ImageInfo, records: Sequence[Any], categories: dict[str, int]) -> Record:
    height, width = image.size
    return {
        "info": {"description": "SAM 3 instances", "version": VERSION},
        "licenses": [],
        "images": [
            {"id": image.id, "file_name": image.file_name, "width": width, "height": height}
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": ""} for name, number in categories.items()
        ],
        "annotations": [
            {
                "id": number,  # from 1: evaluation takes 0 for "no match"
                "image_id": image.id,
                "category_id": categories[record["concept"]],
                **record,
            }
            for number, record in enumerate(records, start=1)
        ],
    }


FORMAT = AnnotationFormat("coco", "COCO (run lengths)", _record, _document)
