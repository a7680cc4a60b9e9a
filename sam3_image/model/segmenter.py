"""Segmenter: encode an image once, then find concepts or pick objects in it.

`find` is transformers' `Sam3Model`, `pick` and `everything` its `Sam3TrackerModel`, both on one
backbone and with the results of their own post-processing. They are called so that the answers are
those of Meta's own SAM 3, unless transformers' are asked for: see `compatibility.py`. Above this
file nobody knows transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from sam3_image.errors import CheckpointError, DeviceError
from sam3_image.masks import Detections
from sam3_image.model.cache import TensorCache
from sam3_image.model.compatibility import DEFAULT_COMPATIBILITY, Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import Encoder, Features, ModelInput
from sam3_image.model.parts import Parts
from sam3_image.model.prompts import TASKS, VISUAL, Find, Pick, Target, Task
from sam3_image.model.texts import Texts
from sam3_image.model.transfer import to_host
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.loading import WeightsLoader
from sam3_image.model.weights.tokenizer import first_line


@dataclass(frozen=True)
class CacheBudget:
    """Bytes on the device that features of images and of texts may keep."""

    features: int = 512 << 20  # four to eight images at full size
    texts: int = 16 << 20  # about 250 concepts at full size


class Segmenter:
    """One checkpoint on one device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement,
        budget: CacheBudget | None = None,
        reading: WeightsLoader | None = None,
        reference: Compatibility = DEFAULT_COMPATIBILITY,
    ) -> None:
        """Load both halves, the tracker's heads onto the detector's backbone.

        reading: of the checkpoint's files to that placement, where it has begun already.
        reference: whose SAM 3 the answers are.

        The heads are 12 of 852 million weights: loading them at the first pick would save little
        and let a broken checkpoint pass `setup()`. Raises CheckpointError.
        """
        budget = budget or CacheBudget()
        self.placement = placement
        self._features = TensorCache(budget.features)
        weights = checkpoint.weights(reading or WeightsLoader(checkpoint.files, placement))
        detector = checkpoint.detector(weights, reference)
        self.architecture = checkpoint.architecture
        # The most instances of one concept that the model finds in one look.
        self.queries = self.architecture.queries
        self._encoder = Encoder(detector, self.architecture, placement, self._features)
        self._texts = Texts(
            detector,
            checkpoint.tokenizer(),
            placement.device,
            TensorCache(budget.texts),
            self.architecture.tokens,
            reference,
        )
        # What does not touch the device is the parts' own, and may run on any thread.
        self.side = self._encoder.side
        self.prepare = self._encoder.prepare
        self.batch = self._encoder.batch
        self.check_texts = self._texts.check_texts
        tracker = None
        if self.architecture.has_tracker:
            tracker = checkpoint.tracker(weights, detector)
        parts = Parts(detector, tracker, self._encoder, self._texts, placement, reference)
        # What answers each kind of task, or None where these weights have no part for it.
        self._heads: dict[type, Any] = {
            task: import_module(f"sam3_image.model.{task.module}").head(parts)
            for task in TASKS.values()
        }

    def encode(self, image: ModelInput) -> Features:
        """Features of an image; the same content is encoded only once."""
        return self._encoder.encode(image)

    def encode_all(self, crops: Sequence[ModelInput]) -> list[Features]:
        """Features of at most `batch(side)` crops of one side; no cache keeps them."""
        return self._encoder.encode_all(crops)

    def segment(
        self,
        features: Features,
        task: Task,
        mask_threshold: float = 0.5,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detections:
        """The instances that the task asks for, best score first.

        mask_threshold: probability above which a pixel belongs to a mask.
        progress: called after each of several steps with how many are done, and their number.
        """
        found: list[Detections] = []
        steps = self.steps(features, task, mask_threshold)
        for step in steps:
            found.append(step())
            if progress is not None:
                progress(len(found), len(steps))
        return merged(found, task)

    def steps(
        self, features: Features, task: Task, mask_threshold: float = 0.5
    ) -> list[Callable[[], Detections]]:
        """The device's part of `segment` in steps of bounded work, for `merged` to put together.

        Between two of them the device may serve another request.
        """
        head = self._heads[type(task)]
        if head is None:
            raise CheckpointError(
                "These weights have no part for task='visual', task='everything' and refine; use "
                "a checkpoint laid out as facebook/sam3, or task='concept' without refine."
            )
        return head.steps(features, task, mask_threshold)

    def warm_up(self) -> None:
        """Encode, find, find by an exemplar and pick once, so that no request has to load kernels.

        Raises DeviceError where the device does not compute, or not with finite numbers.
        """
        side = self.side(100)
        noise = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
        box = (side / 4, side / 4, side * 3 / 4, side * 3 / 4)
        tasks = (
            Find((VISUAL,), 0.5),
            Find((VISUAL,), 0.5, (box,), (1,)),
            Pick((Target(box=box),), False),
        )
        try:
            features = self.encode(ModelInput("noise", (side, side), noise))
            for task in tasks:
                if self._heads[type(task)] is not None:
                    self.segment(features, task)
        except RuntimeError as error:
            raise DeviceError(
                f"The model does not run on {self.placement}: {first_line(error)}. Check the "
                "driver and what else uses the device, or set SAM3_DEVICE=cpu."
            ) from None
        finally:
            self._features.clear()
            self._texts.cache.clear()

    def forget(self) -> None:
        """Give cached features back, here and to the device."""
        self._features.clear()
        self._texts.cache.clear()
        if self.placement.device.type == "cuda":
            torch.cuda.empty_cache()

    def healthy(self) -> bool:
        """Whether the device still computes."""
        try:
            return bool(to_host(torch.ones(2, device=self.placement.device).sum()) == 2)
        except RuntimeError:
            return False


def merged(found: Sequence[Detections], task: Task) -> Detections:
    """The host's part of `Segmenter.segment`: all that the steps found, best score first."""
    all_found = Detections.joined(found)
    if not isinstance(task, Find):  # the model gives boxes for a find only
        all_found = all_found.with_mask_boxes()
    return all_found.sorted()
