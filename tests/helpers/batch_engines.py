"""What segments in tests of workers: no model, since they are about processes that end.

A worker takes its engine by name, so these work in processes and in Ray's actors alike.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam3_image.batch.job import BatchJob
from sam3_image.batch.results import ATTEMPTS
from sam3_image.decode import Image, Limits, decode, open_image
from sam3_image.errors import MemoryLimitError

KILLER = "killer"  # begins the names of images that end their process


@dataclass(frozen=True)
class Found:
    """One instance: the whole image."""

    size: tuple[int, int]
    concept: str = "anything"

    def annotations(self, annotation_format: str = "rle") -> dict[str, Any]:
        height, width = self.size
        item = {
            "concept": self.concept,
            "score": 0.5,
            "presence": 0.75,
            "box": [0.0, 0.0, float(width), float(height)],
            "area": height * width,
            "rle": {"size": [height, width], "counts": "0"},
        }
        return {"image": {"width": width, "height": height}, "instances": [item]}

    def overlay(self, **_: object) -> NDArray[np.uint8]:
        return np.zeros((*self.size, 3), dtype=np.uint8)


class Frail:
    """Finds the whole image, unless its name says otherwise."""

    seconds = 0.01

    def __init__(self, job: BatchJob) -> None:
        self._folder = job.folder

    def healthy(self) -> bool:
        return True

    def decode(self, data: bytes | Path) -> Image:
        if isinstance(data, bytes):
            return decode(data, Limits())
        if data.name.startswith(KILLER):
            time.sleep(0.2)  # until others are in hand as well
            os.kill(os.getpid(), signal.SIGKILL)
        return open_image(data, Limits())

    def segment(self, image: Image, prompts: tuple[str, ...] | None) -> Found:
        time.sleep(self.seconds)
        return Found(image.size, prompts[0] if prompts else "anything")


class Greedy(Frail):
    """Lacks the memory for wide images unless its shard is the only one in hand."""

    def segment(self, image: Image, prompts: tuple[str, ...] | None) -> Found:
        in_hand = json.loads(self._folder.get(ATTEMPTS) or b"{}")["in_hand"]
        if image.size[1] > 30 and len(in_hand) > 1:
            raise MemoryLimitError("too little memory")
        return super().segment(image, prompts)


class Slow(Frail):
    """The same, at a tenth of a second an image."""

    seconds = 0.1
