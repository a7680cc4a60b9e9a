"""Masks → one image whose pixel values are numbers of instances or of concepts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam3_image.errors import InputError
from sam3_image.masks import Detections, Mask
from sam3_image.output import png
from sam3_image.output.formats.base import Record, categories, dump_json, facts

NONE, INSTANCE, CONCEPT = "none", "instance", "concept"
CHOICES = (NONE, INSTANCE, CONCEPT)
BYTE, MOST = np.iinfo(np.uint8).max, np.iinfo(np.uint16).max


class LabelMap:
    """Collects the masks of `instances` while they pass by, best score first.

    pixels: (H, W) uint16. 0 is background, 1 the instance of the best score, or the concept of the
        first prompt. Where instances overlap, the better score wins.
    """

    def __init__(self, instances: Detections, kind: str) -> None:
        """kind: "instance" or "concept". Raises InputError for more values than 16 bits hold."""
        if kind == INSTANCE:
            self.values = list(range(1, len(instances) + 1))
        else:
            numbers = categories(instances)
            self.values = [numbers[concept] for concept in instances.concepts]
        if max(self.values, default=0) > MOST:
            raise InputError(
                f"label_map={kind!r} holds {MOST:,} values and there are {len(instances):,} "
                "instances; give max_instances, or a higher threshold."
            )
        self.pixels = np.zeros(instances.size, dtype=np.uint16)
        self._instances = instances
        self._next = 0

    def add(self, mask: Mask) -> None:
        """Add the next instance, whose mask this is."""
        region = self.pixels[mask.window]
        region[mask.inside & (region == 0)] = self.values[self._next]
        self._next += 1

    def encode(self) -> bytes:
        """A grayscale PNG: 8 bits where the largest value is 255 at most, else 16."""
        narrow = max(self.values, default=0) <= BYTE
        return png.encode(self.pixels.astype(np.uint8) if narrow else self.pixels)

    def legend(self) -> bytes:
        """JSON: by value the concept, the score (the best of a concept) and the area in the map."""
        areas = np.bincount(self.pixels.ravel(), minlength=max(self.values, default=0) + 1)
        found: dict[int, Record] = {}
        for index, value in enumerate(self.values):
            known = facts(self._instances, index)
            entry = {"concept": known["concept"], "score": known["score"]}
            found.setdefault(value, {**entry, "area": int(areas[value])})
        return dump_json({str(value): found[value] for value in sorted(found)})


def label_map(instances: Detections, kind: str) -> NDArray[np.uint16]:
    """The pixels of a `LabelMap` of all instances: (H, W) uint16."""
    made = LabelMap(instances, kind)
    for mask in instances.masks():
        made.add(mask)
    return made.pixels
