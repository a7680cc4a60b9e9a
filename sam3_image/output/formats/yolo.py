"""YOLO segmentation: what ultralytics trains on, one line of text an instance.

A line is the class, from 0, and x y x y … divided by the image's width and height. It holds one
ring: holes and further parts are reached along a line there and back, as in ultralytics' own
conversion. Between two parts that line is filled one pixel wide when the text is read; everything
else is exact. A mask without a pixel has no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sam3_image.masks import Mask, polygons
from sam3_image.output.formats.base import (
    AnnotationFormat,
    Categories,
    ImageInfo,
    Images,
    Pieces,
    Record,
    number,
    numbered,
    with_stems,
)

# Pixels between the ring and the edges of the mask. ultralytics cuts coordinates to whole pixels
# and fills the ring with its outline: this far inside the edges, it fills exactly the mask.
INSET = 0.01


def _record(facts: Record, mask: Mask) -> Record:
    rings = polygons.bridged(mask, INSET)
    return {"concept": facts["concept"], "ring": polygons.joined(rings) if rings else None}


def _labels(image: ImageInfo, records: Sequence[Any], categories: Categories) -> str:
    """One line for each instance with a pixel, in order."""
    lines = []
    for record in records:
        if record["ring"] is not None:
            values = (record["ring"] / image.size[::-1]).ravel().tolist()
            numbers = " ".join(["%.8f"] * len(values)) % tuple(values)
            lines.append(f"{categories[record['concept']] - 1} {numbers}\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    """A text in YAML, whatever its characters."""
    safe = (one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text)
    return f'"{"".join(safe)}"'


def _names(categories: Categories) -> dict[str, bytes]:
    """`data.yaml`, which ultralytics is given, and `classes.txt`, which labelling tools read."""
    by_number = {key - 1: name for name, key in categories.items()}
    # Concepts that found nothing have a class, too: the numbers must have no gap.
    names = [by_number.get(key, f"prompt {key}") for key in range(max(by_number, default=-1) + 1)]
    rows = "".join(f"  {key}: {_quoted(name)}\n" for key, name in enumerate(names))
    # Without a path, ultralytics takes the folders as beside this file.
    data = f"train: images\nval: images\nnames:{' {}' if not rows else ''}\n{rows}"
    classes = "".join(f"{' '.join(name.split())}\n" for name in names)
    return {"data.yaml": data.encode(), "classes.txt": classes.encode()}


def _dataset(images: Images, concepts: Sequence[str]) -> Pieces:
    known = numbered(concepts)
    for stem, image, records in with_stems(images):
        number(known, records)
        yield f"labels/{stem}.txt", _labels(image, records, known).encode()
    yield from _names(known).items()


FORMAT = AnnotationFormat(
    "yolo",
    "YOLO segmentation",
    _record,
    _labels,
    file_name="labels/image.txt",
    media_type="text/plain",
    dump=str.encode,
    extra=_names,
    dataset=_dataset,
)
