"""Instances that a person kept, renamed or corrected on the page → the file that they become.

The page sends what it was answered with, less what was discarded, so a file is written without
asking the model again and holds exactly what the page shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_image.decode import Image
from sam3_image.errors import InputError, shown
from sam3_image.masks import Detections, PackedMasks, rle

if TYPE_CHECKING:
    from sam3_image.instances import Instances

MAX_INSTANCES = 10_000
MAX_NAME = 1_000
MAX_SIDE = 1_000_000


@dataclass(frozen=True)
class _Record:
    """One instance as the page sends it; the fields are those of `Detections`."""

    concept: str
    score: float
    presence: float
    candidate: int
    box: tuple[float, ...] | None
    counts: str


def kept_instances(image: Image, records: Any, concepts: Any) -> Instances:
    """The instances that `records` describe, in their order.

    records: a list of objects as /api/segment gives them: concept, score and rle, perhaps
        presence, candidate and box (without one, the box lies tightly around the mask).
    concepts: names in the order of their class numbers, for files of several images that have to
        number alike; what it does not name is numbered after it. None: numbered as they come.
    Raises InputError for anything else.
    """
    found = [
        _record(f"instances[{i}]", value) for i, value in enumerate(_list("instances", records))
    ]
    given = [] if concepts is None else _list("concepts", concepts)
    numbered = [_name(f"concepts[{i}]", name) for i, name in enumerate(given)]
    names = list(dict.fromkeys([*numbered, *(record.concept for record in found)]))
    masks = [rle.decode(record.counts, image.size) for record in found]
    boxes = [record.box or mask.box for record, mask in zip(found, masks, strict=True)]
    detections = Detections(
        size=image.size,
        source=PackedMasks.of(masks),
        boxes=np.array(boxes, dtype=np.float32).reshape(len(found), 4),
        scores=np.array([record.score for record in found], dtype=np.float32),
        presence=np.array([record.presence for record in found], dtype=np.float32),
        concepts=tuple(record.concept for record in found),
        candidates=np.array([record.candidate for record in found], dtype=np.int64),
        prompts=np.array([names.index(record.concept) for record in found], dtype=np.int64),
    )
    from sam3_image.instances import Instances  # torch takes seconds

    return Instances(image, detections)


def _record(where: str, value: Any) -> _Record:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {shown(value)}; send an object with concept, score and rle.")
    runs = value.get("rle")
    counts = runs.get("counts") if isinstance(runs, dict) else None
    if not isinstance(counts, str):
        raise InputError(f"{where}.rle is {shown(runs)}; send an object with the text counts.")
    return _Record(
        concept=_name(f"{where}.concept", value.get("concept")),
        score=_number(f"{where}.score", value.get("score"), 0, 1),
        presence=_number(f"{where}.presence", value.get("presence", 1), 0, 1),
        candidate=int(_number(f"{where}.candidate", value.get("candidate", 0), 0, MAX_INSTANCES)),
        box=_box(f"{where}.box", value.get("box")),
        counts=counts,
    )


def _box(where: str, box: Any) -> tuple[float, ...] | None:
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4:
        raise InputError(f"{where} is {shown(box)}; send [x0, y0, x1, y1].")
    return tuple(_number(where, part, -MAX_SIDE, MAX_SIDE) for part in box)


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_INSTANCES:
        raise InputError(f"{name} is {shown(value)}; send a list of at most {MAX_INSTANCES:,}.")
    return value


def _name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise InputError(
            f"{where} is {shown(name)}; send a text of 1 to {MAX_NAME:,} printable characters."
        )
    return name


def _number(where: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{where} is {shown(value)}; send a number from {low:g} to {high:g}.")
    return float(value)
