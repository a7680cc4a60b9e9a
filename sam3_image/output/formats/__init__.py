"""Instances → files that other tools load. One module here is one format; no list names them.

`annotations.schema.json` describes the JSON files of coco, rle and polygon.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
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

__all__ = ["CHOICES", "FORMATS", "NONE", "AnnotationFormat", "Annotations", "ImageInfo", "schema"]

NONE = "none"


def _formats() -> dict[str, AnnotationFormat]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names if name != "base"]
    return {module.FORMAT.name: module.FORMAT for module in modules}


FORMATS = _formats()
CHOICES = (NONE, *FORMATS)


def schema() -> Record:
    """The JSON schema (draft 2020-12) that files of the formats coco, rle and polygon follow."""
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

    def encode(self) -> bytes:
        """The file."""
        return self.format.dump(self.document())
