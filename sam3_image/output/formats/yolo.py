"""YOLO segmentation: what ultralytics trains on, one line of text an instance.

A line is the class, from 0, and x y x y … divided by the image's width and height. It holds one
ring: holes and further parts are reached along a line there and back, as in ultralytics' own
conversion. ultralytics fills a ring with all of its edges, so between two parts it fills that line,
one pixel wide and as long as the parts are apart; no ring has fewer. Everything else is exact. A
mask without a pixel has no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    return {"concept": facts["concept"], "ring": polygons.joined(mask, INSET)}


def _labels(image: ImageInfo, records: Sequence[Any], categories: Categories) -> str:
    """One line for each instance with a pixel, in order."""
    # So many that rounding cannot take a point out of its pixel.
    decimals = len(str(max(image.size))) + 2
    return "".join(
        f"{categories[record['concept']] - 1}"
        f"{_fractions(record['ring'] / image.size[::-1], decimals)}\n"
        for record in records
        if record["ring"] is not None
    )


def _fractions(values: NDArray[np.float64], decimals: int) -> str:
    """Numbers from 0 to below 1 as " 0.25 0.5 …", many times faster than Python formats them."""
    rest = np.rint(values.ravel() * 10**decimals).astype(np.uint32)
    text = np.empty((rest.size, 3 + decimals), dtype=np.uint8)
    text[:, :3] = np.frombuffer(b" 0.", dtype=np.uint8)
    for place in reversed(range(3, 3 + decimals)):
        tens = rest // 10
        text[:, place] = rest - 10 * tens
        rest = tens
    text[:, 3:] += ord("0")
    return text.tobytes().decode("ascii")


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
    images="images/",
)
