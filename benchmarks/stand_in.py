"""The predictor with a device that takes its time and no processor, which is what a GPU is.

Cog's server runs it in place of `predict.py`, so that the rest of a request is the product's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks import pictures
from benchmarks.around import ReadyMade
from predict import Predictor as Real
from sam3_image.masks import Detections, LowResMasks
from sam3_image.model import DEFAULT_COMPATIBILITY, Features, Find, ModelInput

COUNT = 5  # instances that each picture has


def seconds() -> float:
    """How long the device takes for one request: SAM3_BENCH_DEVICE_MS."""
    return float(os.environ["SAM3_BENCH_DEVICE_MS"]) / 1000


class StandIn:
    """The part of `Segmenter` that a find needs; the encoder pass is a sleep of `seconds`."""

    def __init__(self, real: Any, seconds: float) -> None:
        """Take everything that is no computation from a loaded segmenter."""
        self._real = real
        self._seconds = seconds
        self._features: Features = real.encode(
            real.prepare(np.zeros((8, 8, 3), np.uint8), real.side(25))
        )
        nothing: Any = None  # the parts that only the model's own pass would use
        self._finder = ReadyMade(
            nothing,
            nothing,
            nothing,
            nothing,
            DEFAULT_COMPATIBILITY,
            outputs=pictures.outputs(COUNT),
        )
        self._found: dict[tuple[int, int], Detections] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def encode(self, square: ModelInput) -> Features:
        """Wait as a host waits for a GPU: without the processor and without Python's lock."""
        time.sleep(self._seconds)
        return replace(self._features, key=square.key, size=square.size)

    def steps(
        self, features: Features, request: Find, mask_threshold: float = 0.5
    ) -> list[Callable[[], Detections]]:
        """Return the instances as the product's own heads found them in the ready-made outputs.

        Each request gets a copy of their maps, which is what the host does when a GPU is done.
        """
        if features.size not in self._found:
            steps = self._finder.steps(features, request, mask_threshold)
            (self._found[features.size],) = (torch.inference_mode()(step)() for step in steps)
        found = self._found[features.size]
        assert isinstance(found.source, LowResMasks)
        maps = replace(found.source, values=found.source.values.copy())
        return [lambda: replace(found, source=maps)]


class Predictor(Real):
    """As `predict.py`, but for the device."""

    def setup(self) -> None:
        """Load the weights, of which only the tokenizer is used."""
        super().setup()
        torch.set_num_threads(1)  # the little that is left to compute is no work for a pool
        self.service._segmenter = StandIn(self.service._segmenter, seconds())  # type: ignore[assignment]
