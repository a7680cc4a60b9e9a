"""COCO with run lengths: what pycocotools loads and evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sam3_image.masks import Mask, rle
from sam3_image.output.formats.base import (
    VERSION,
    AnnotationFormat,
    Categories,
    ImageInfo,
    Images,
    Pieces,
    Record,
    dump_json,
    number,
    numbered,
)

ANNOTATIONS_PER_IMAGE = 1_000_000


def annotation(facts: Record, mask: Mask, segmentation: Any) -> Record:
    """What COCO says about an instance, but for the numbers that its document gives it."""
    x0, y0, x1, y1 = mask.box
    return {
        "segmentation": segmentation,
        "area": mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],  # zeros where the mask has no pixel
        "iscrowd": 0,
        **facts,
    }


def _record(facts: Record, mask: Mask) -> Record:
    return annotation(facts, mask, rle.encode(mask))


def _info() -> Record:
    return {"description": "SAM 3 instances", "version": VERSION}


def _image(image: ImageInfo) -> Record:
    height, width = image.size
    return {"id": image.id, "file_name": image.file_name, "width": width, "height": height}


def _categories(categories: Categories) -> list[Record]:
    return [{"id": key, "name": name, "supercategory": ""} for name, key in categories.items()]


def _numbered(image: ImageInfo, records: Sequence[Any], categories: Categories, first: int) -> Any:
    return [
        {
            "id": key,
            "image_id": image.id,
            "category_id": categories[record["concept"]],
            **record,
        }
        for key, record in enumerate(records, start=first)
    ]


def document(image: ImageInfo, records: Sequence[Any], categories: Categories) -> Record:
    """The document of one image. Annotations count from 1: evaluation takes 0 for "no match"."""
    return {
        "info": _info(),
        "licenses": [],
        "images": [_image(image)],
        "categories": _categories(categories),
        "annotations": _numbered(image, records, categories, 1),
    }


def dataset(images: Images, concepts: Sequence[str]) -> Pieces:
    """One document of many images, the annotations of each image as a piece."""
    name, known, listed, comma = "annotations.json", numbered(concepts), [], b""
    yield name, b'{"info":' + dump_json(_info()) + b',"licenses":[],"annotations":['
    for image, records in images:
        listed.append(_image(image))
        number(known, records)
        # An id that follows from the image's stays what it is when images are added.
        first = image.id * ANNOTATIONS_PER_IMAGE + 1
        if made := dump_json(_numbered(image, records, known, first))[1:-1]:
            yield name, comma + made
            comma = b","
    rest = dump_json({"images": listed, "categories": _categories(known)})
    yield name, b"]," + rest[1:]


FORMAT = AnnotationFormat("coco", "COCO (run lengths)", _record, document, dataset=dataset)
