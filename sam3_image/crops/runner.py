"""Questions about crops of an image, asked a batch of crops at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.windows import Window
from sam3_image.masks import Detections
from sam3_image.model import Task

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Question:
    """What to ask about a crop.

    pixels: (h, w, 3) uint8 RGB: the window, right of `strip` columns that show something else.
    request: in coordinates of these pixels.
    prompts: for each concept or target of `request` its index in the request as a whole; (0,) for
        everything.
    """

    pixels: Pixels
    request: Task
    window: Window
    prompts: Sequence[int]
    strip: int = 0


class CropModel(Protocol):
    """What is used of a `Segmenter`, or of a `ScheduledModel` in its place.

    Model inputs and features are the model's own affair.
    """

    def prepare(self, pixels: Pixels, side: int) -> Any:
        """The host's part of encoding an image."""

    def encode(self, image: Any) -> Any:
        """Features of an image, kept for the next request about it."""

    def encode_all(self, crops: Sequence[Any]) -> Sequence[Any]:
        """Features of at most `batch(side)` crops, not kept."""

    def segment(
        self,
        features: Any,
        task: Task,
        mask_threshold: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detections:
        """The instances that are asked for, in pixels of what was encoded."""

    def batch(self, side: int) -> int:
        """How many crops `encode_all` takes."""


@dataclass(frozen=True)
class CropRunner:
    """A model, and how images are shown to it.

    side: of the encoder's square input, in pixels.
    mask_threshold: probability above which a pixel belongs to a mask.
    best: by prompt the best score in any answer so far, be it below the threshold.
    """

    model: CropModel
    side: int
    mask_threshold: float
    best: dict[int, float] = field(default_factory=dict)

    def overview(self, question: Question) -> Detections:
        """The answer to a question about a whole image, whose features the model keeps."""
        features = self.model.encode(self.model.prepare(question.pixels, self.side))
        return self._answer(features, question)

    def look(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Detections]]:
        """Yield each question with its answer, in coordinates of the question's pixels.

        Questions are taken a batch at a time, and nothing of a batch is kept once its answers
        were taken: memory does not grow with their number.
        """
        rest = iter(questions)
        batch = self.model.batch(self.side)
        while some := list(islice(rest, batch)):
            crops = [self.model.prepare(one.pixels, self.side) for one in some]
            for features, one in zip(self.model.encode_all(crops), some, strict=True):
                yield one, self._answer(features, one)

    def _answer(self, features: Any, question: Question) -> Detections:
        found = self.model.segment(features, question.request, self.mask_threshold)
        # Beside a strip, the best may be the exemplar in it.
        for own, score in () if question.strip else found.best.items():
            prompt = question.prompts[own]
            self.best[prompt] = max(score, self.best.get(prompt, 0.0))
        return found
