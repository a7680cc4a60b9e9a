"""What segments in tests of workers: no model, since they are about processes that end.

A worker takes its engine by name, so these work in processes and in Ray's actors alike.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_image.batch.job import Job
from sam3_image.decode import Image, Limits, decode, open_image
from sam3_image.errors import MemoryLimitError

KILLER = "killer"  # begins the names of images that end their process
SLOW = "slow"  # of images that take a second


@dataclass(frozen=True)
class Found:
    """One instance: the whole image."""

    size: tuple[int, int]

    def annotations(self, annotation_format: str = "rle") -> dict[str, Any]:
        height, width = self.size
        item = {
            "concept": "anything",
            "score": 0.5,
            "box": [0.0, 0.0, float(width), float(height)],
            "area": height * width,
            "rle": {"size": [height, width], "counts": "0"},
        }
        return {"image": {"width": width, "height": height}, "instances": [item]}


class Frail:
    """Finds the whole image, unless its name says otherwise."""

    def __init__(self, job: Job) -> None:
        pass

    def healthy(self) -> bool:
        return True

    def open(self, data: bytes | Path) -> Image:
        if isinstance(data, bytes):
            return decode(data, Limits())
        if data.name.startswith(KILLER):
            time.sleep(0.2)  # until others are in hand as well
            os.kill(os.getpid(), signal.SIGKILL)
        return open_image(data, Limits())

    def segment(self, image: Image) -> Found:
        time.sleep(0.01)
        return Found(image.size)


class Greedy(Frail):
    """Lacks the memory for wide images unless it is the only worker that has an image in hand."""

    def __init__(self, job: Job) -> None:
        self._marks = job.folder.marks

    def segment(self, image: Image) -> Found:
        if image.size[1] > 30 and len(list(self._marks.iterdir())) > 1:
            raise MemoryLimitError("too little memory")
        time.sleep(0.01)
        return Found(image.size)


class Slow(Frail):
    """The same, at a tenth of a second an image."""

    def segment(self, image: Image) -> Found:
        time.sleep(0.1)
        return Found(image.size)
