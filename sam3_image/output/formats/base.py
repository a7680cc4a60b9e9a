"""What an annotation format is, and what every format says about an instance.

Coordinates are pixels of the upright image, origin at its top left corner, x to the right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sam3_image.masks import Detections, Mask

# Of the files that `annotations.schema.json` describes. The second number changes when something is
# added, the first when something that a reader may rely on goes.
VERSION = "1.0"

Record = dict[str, Any]


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about its image.

    size: (height, width) in pixels. file_name, id: as the reader of the file knows the image.
    """

    size: tuple[int, int]
    file_name: str = "image"
    id: int = 1


def dump_json(document: Any) -> bytes:
    """JSON in UTF-8 without spaces; every number is finite."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


@dataclass(frozen=True)
class AnnotationFormat:
    """One way to write instances for other tools. Each module of this package defines one.

    name: as `annotation_format` has it. title: for people, in the page.
    file_name, media_type: of the file.
    record: facts (see `facts`) and mask of one instance → what the file says about it.
    document: image, records in order, and category ids by concept → the file's content.
    dump: that content → bytes.
    """

    name: str
    title: str
    record: Callable[[Record, Mask], Any]
    document: Callable[[ImageInfo, Sequence[Any], dict[str, int]], Any]
    file_name: str = "annotations.json"
    media_type: str = "application/json"
    dump: Callable[[Any], bytes] = dump_json


def facts(instances: Detections, index: int) -> Record:
    """What is known about an instance besides its mask, as JSON values without false precision."""
    return {
        "concept": instances.concepts[index],
        "prompt": int(instances.prompts[index]),
        "score": round(float(instances.scores[index]), 6),
        "presence": round(float(instances.presence[index]), 6),
        "box": [round(float(value), 3) for value in instances.boxes[index]],
        "candidate": int(instances.candidates[index]),
    }


def categories(instances: Detections) -> dict[str, int]:
    """Concept → category id: 1 + the index of its prompt, whatever other prompts found."""
    numbers: dict[str, int] = {}
    for concept, prompt in zip(instances.concepts, instances.prompts.tolist(), strict=True):
        numbers[concept] = min(numbers.get(concept, prompt + 1), prompt + 1)
    return dict(sorted(numbers.items(), key=lambda item: item[1]))
