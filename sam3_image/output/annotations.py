"""Instances → annotations that other tools read: COCO, run lengths, polygons.

The shape of every file is `annotations.schema.json`, beside this module; `VERSION` changes with
it: the second number when something is added, the first when something a reader may rely on goes.
Coordinates are pixels of the upright image, origin at its top left corner, x to the right.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import numpy as np

from sam3_image.masks import Detections, Mask, polygons, rle

VERSION = "1.0"

NONE, COCO, RLE, POLYGON = "none", "coco", "rle", "polygon"
FORMATS = (NONE, COCO, RLE, POLYGON)

# COCO wants a name for each image; the one uploaded is not known here.
COCO_FILE_NAME = "image"
COCO_IMAGE_ID = 1

Record = dict[str, Any]


def schema() -> Record:
    """Return the JSON schema (draft 2020-12) that every file made here follows."""
    text = (
        resources.files("sam3_image.output").joinpath("annotations.schema.json").read_text("utf-8")
    )
    loaded: Record = json.loads(text)
    return loaded


class Annotations:
    """Collects the annotations while the masks pass by, best score first."""

    def __init__(self, instances: Detections, annotation_format: str) -> None:
        """annotation_format: one of `FORMATS` but "none"."""
        self._instances = instances
        self._format = annotation_format
        self._categories = _categories(instances)
        self._records: list[Record] = []

    def add(self, mask: Mask) -> None:
        """Add the next instance of `instances`, whose mask this is."""
        index = len(self._records)
        if self._format == COCO:
            self._records.append(self._coco_annotation(index, mask))
            return
        record = {"index": index, **_facts(self._instances, index), "area": mask.area}
        if self._format == RLE:
            record["rle"] = rle.encode(mask)
        else:
            record["polygons"] = [_part(part) for part in polygons.trace(mask)]
        self._records.append(record)

    def document(self) -> Record:
        """Return the whole file as JSON values."""
        if self._format == COCO:
            return self._coco_document()
        height, width = self._instances.size
        return {
            "version": VERSION,
            "format": self._format,
            "image": {"width": width, "height": height},
            "instances": self._records,
        }

    def encode(self) -> bytes:
        """Return the whole file: UTF-8, no spaces, numbers finite."""
        text = json.dumps(
            self.document(), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode("utf-8")

    def _coco_annotation(self, index: int, mask: Mask) -> Record:
        facts = _facts(self._instances, index)
        return {
            "id": index + 1,  # evaluation takes 0 for "no match"
            "image_id": COCO_IMAGE_ID,
            "category_id": self._categories[facts["concept"]],
            "segmentation": rle.encode(mask),
            "area": mask.area,
            "bbox": _tight_box(mask),
            "iscrowd": 0,
            **facts,
        }

    def _coco_document(self) -> Record:
        height, width = self._instances.size
        image = {"id": COCO_IMAGE_ID, "file_name": COCO_FILE_NAME, "width": width, "height": height}
        return {
            "info": {"description": "SAM 3 instances", "version": VERSION},
            "licenses": [],
            "images": [image],
            "categories": [
                {"id": number, "name": name, "supercategory": ""}
                for name, number in self._categories.items()
            ],
            "annotations": self._records,
        }


def _facts(instances: Detections, index: int) -> Record:
    """Return what every format says about an instance beside its mask."""
    return {
        "concept": instances.concepts[index],
        "prompt": int(instances.prompts[index]),
        "score": _rounded(instances.scores[index], 6),
        "presence": _rounded(instances.presence[index], 6),
        "box": [_rounded(value, 3) for value in instances.boxes[index]],
        "candidate": int(instances.candidates[index]),
    }


def _categories(instances: Detections) -> dict[str, int]:
    """Concept → category id: 1 + the index of its prompt, whatever the others found."""
    numbers: dict[str, int] = {}
    for concept, prompt in zip(instances.concepts, instances.prompts.tolist(), strict=True):
        numbers[concept] = min(numbers.get(concept, prompt + 1), prompt + 1)
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _tight_box(mask: Mask) -> list[int]:
    """[x, y, width, height] around the mask's pixels, zeros when it has none."""
    x0, y0, x1, y1 = mask.box
    return [x0, y0, x1 - x0, y1 - y0]


def _part(part: polygons.Part) -> Record:
    return {"outer": _points(part.outer), "holes": [_points(hole) for hole in part.holes]}


def _points(ring: polygons.Ring) -> list[list[float]]:
    """[[x, y], …]; whole and half numbers, so nothing is lost."""
    points: list[list[float]] = ring.tolist()
    return points


def _rounded(value: np.float32, digits: int) -> float:
    """Without the digits that a float32 does not have."""
    return round(float(value), digits)
