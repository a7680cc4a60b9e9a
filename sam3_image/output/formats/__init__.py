"""Instances → files that other tools load. One module here is one format; no list names them.

`annotations.schema.json` describes the JSON files of coco, coco_polygon, rle and polygon.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from sam3_image.masks import Detections, Mask
from sam3_image.output.formats.base import (
    AnnotationFormat,
    ImageInfo,
    Record,
    categories,
    facts,
)

__all__ = [
    "CHOICES",
    "DATASETS",
    "FORMATS",
    "NONE",
    "AnnotationFormat",
    "Annotations",
    "ImageInfo",
    "dataset",
    "schema",
]

NONE = "none"


def _formats() -> dict[str, AnnotationFormat]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names if name != "base"]
    return {module.FORMAT.name: module.FORMAT for module in modules}


FORMATS = _formats()
CHOICES = (NONE, *FORMATS)
# Those that many images can share.
DATASETS = tuple(name for name, known in FORMATS.items() if known.dataset)


def schema() -> Record:
    """The JSON schema (draft 2020-12) of the formats coco, coco_polygon, rle and polygon."""
    text = resources.files(__name__).joinpath("annotations.schema.json").read_text("utf-8")
    loaded: Record = json.loads(text)
    return loaded


class Annotations:
    """Collects what a file says about each instance while the masks pass by, best score first."""

    def __init__(
        self, instances: Detections, annotation_format: str, image: ImageInfo | None = None
    ) -> None:
        """annotation_format: a name of `FORMATS`. image: None for a nameless one, with id 1."""
        self.format = FORMATS[annotation_format]
        self._instances = instances
        self._image = image or ImageInfo(instances.size)
        self._records: list[Any] = []

    def add(self, mask: Mask) -> None:
        """Add the next instance of `instances`, whose mask this is."""
        known = facts(self._instances, len(self._records))
        self._records.append(self.format.record(known, mask))

    def document(self) -> Any:
        """The content of the file: JSON values, or text."""
        return self.format.document(self._image, self._records, categories(self._instances))

    def files(self) -> dict[str, bytes]:
        """The files by name: one, and those that the format has besides."""
        files = {self.format.file_name: self.format.dump(self.document())}
        if self.format.extra:
            files |= self.format.extra(categories(self._instances))
        return files


def dataset(
    annotation_format: str,
    images: Iterable[tuple[ImageInfo, Detections]],
    concepts: Sequence[str] = (),
) -> Iterator[tuple[str, bytes]]:
    """The files of one dataset over many images: (name, content) in pieces.

    annotation_format: a name of `DATASETS`. images: taken one at a time, each under a file name
    and an id of its own. concepts: in the order in which the dataset numbers them; others get the
    next numbers as they come.

    Pieces of one name follow each other and are one file, so a large file is never whole in memory.
    Raises InputError for two images whose file names differ in their ending alone, or not at all.
    """
    known = FORMATS[annotation_format]
    if known.dataset is None:
        raise ValueError(annotation_format)
    recorded = (
        (
            image,
            [known.record(facts(found, index), found.mask(index)) for index in range(len(found))],
        )
        for image, found in images
    )
    return known.dataset(recorded, concepts)
