"""Instances → annotations that other tools read: COCO, run lengths, polygons."""

from __future__ import annotations

from typing import Any

from sam3_image.instances import Instances
from sam3_image.masks import Mask

NONE = "none"
FORMATS = (NONE, "coco", "rle", "polygon")


class Annotations:
    """Collects annotations while the masks pass by, best first."""

    def __init__(self, instances: Instances, kind: str) -> None:
        """kind: one of `FORMATS`, not "none"."""
        self._instances = instances
        self._kind = kind
        self._records: list[dict[str, Any]] = []

    def add(self, mask: Mask) -> None:
        """Adds the next instance."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """The JSON file, UTF-8."""
        raise NotImplementedError
