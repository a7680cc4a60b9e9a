"""Questions about parts of a picture, asked a batch of parts at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam3_image.crops.windows import Window
from sam3_image.masks import Detections
from sam3_image.model import Find, Pick

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Question:
    """What to ask about a part of the picture.

    pixels: (h, w, 3) uint8 RGB: the window, right of `strip` columns that show something else.
    request: in coordinates of these pixels.
    prompts: for each concept or target of `request` its index in the request as a whole.
    """

    pixels: Pixels
    request: Find | Pick
    window: Window
    prompts: Sequence[int]
    strip: int = 0


class Model(Protocol):
    """What is used of a `Segmenter`, or of what takes turns on one. Features are its own affair."""

    def encode(self, pixels: Pixels, side: int) -> Any:
        """Return features of a picture, kept for the next request about it."""

    def encode_all(self, crops: Sequence[Pixels], side: int) -> Sequence[Any]:
        """Return features of at most `batch(side)` parts of a picture, kept nowhere."""

    def segment(self, features: Any, request: Find | Pick, mask_threshold: float) -> Detections:
        """Return what is asked for, in pixels of the part."""

    def batch(self, side: int) -> int:
        """Return how many parts `encode_all` takes."""


@dataclass(frozen=True)
class Eye:
    """A model and how to look with it.

    side: of the encoder's square, in pixels.
    mask_threshold: probability above which a pixel belongs to a mask.
    """

    model: Model
    side: int
    mask_threshold: float

    def overview(self, question: Question) -> Detections:
        """Return the answer to a question about a whole picture, whose features are kept."""
        features = self.model.encode(question.pixels, self.side)
        return self.model.segment(features, question.request, self.mask_threshold)

    def look(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Detections]]:
        """Yield each question with its answer, in coordinates of the question's pixels.

        Questions are taken a batch at a time, and nothing of a batch is kept once its answers
        were taken: memory does not grow with their number.
        """
        rest = iter(questions)
        batch = self.model.batch(self.side)
        while some := list(islice(rest, batch)):
            features = self.model.encode_all([one.pixels for one in some], self.side)
            for own, one in zip(features, some, strict=True):
                yield one, self.model.segment(own, one.request, self.mask_threshold)
