"""SAM 3 for Python programs: load once, ask often, without a server."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode import Limits, open_any
from sam3_image.errors import InputError, shown
from sam3_image.instances import Instances
from sam3_image.model import load_segmenter
from sam3_image.pipeline import segment
from sam3_image.report import Report
from sam3_image.request import Request
from sam3_image.serving import MemoryBudget, guarded
from sam3_image.settings import Settings

Picture = str | os.PathLike[str] | Pillow.Image | NDArray[np.uint8]


class Sam:
    """A loaded model; `find` and `pick` may be called from several threads at once.

    An image asked about twice is encoded once. Images are a path, a Pillow image, or RGB uint8 of
    shape (height, width, 3); coordinates are pixels of the upright image, origin top left, x to the
    right.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the weights; raises UserError. Programs call `load`."""
        self._model = load_segmenter(settings, Report())
        self._limits = Limits.of(settings)
        self._max_tiles = settings.max_tiles
        self._memory = MemoryBudget()
        # torch's inference mode and the caches of features are not made for several threads.
        self._lock = threading.Lock()

    def find(
        self, image: Picture, concepts: str | Sequence[str] | None = None, **options: Any
    ) -> Instances:
        """Return every instance of one or more concepts.

        concepts: a text, or up to 16; None to search by exemplar boxes alone.
        options: inputs of `predict()` with the same names: boxes (n, 4) xyxy exemplars,
            box_labels (n,) 1 or 0, threshold, mask_threshold, nms_iou_threshold, max_instances,
            input_size_percent and others; docs/python.md lists them.
        Raises InputError for what is not accepted, ImageError for an image that cannot be used.
        """
        if isinstance(concepts, str):
            options["prompt"] = concepts
        elif concepts is not None:
            options["prompts"] = list(concepts)
        elif "boxes" not in options and "reference_boxes" not in options:
            raise InputError("find has nothing to look for; give concepts, boxes, or both.")
        return self._answer(image, "concept", options)

    def pick(
        self,
        image: Picture,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        multimask_output: bool = False,
        **options: Any,
    ) -> Instances:
        """Return the one object under points and/or a box, or one object for each of several boxes.

        points: (n, 2) x, y in pixels, all of one object. point_labels: (n,) 1 on it, 0 off it;
            None for all on it. boxes: (n, 4) xyxy.
        multimask_output: three candidates of each object, best first, instead of one.
        options: mask_threshold, input_size_percent, max_instances and others of `predict()`.
        Raises InputError and ImageError.
        """
        options.update(
            points=points,
            point_labels=point_labels,
            boxes=boxes,
            multimask_output=multimask_output or None,
        )
        return self._answer(image, "visual", options)

    def _answer(self, image: Picture, task: str, options: dict[str, Any]) -> Instances:
        if "task" in options:
            raise InputError(
                "task is said by the method: call find for 'concept', pick for 'visual'."
            )
        if options.get("reference_image") is not None:
            options["reference_image"] = _source(options["reference_image"], "reference_image")
        request = Request.from_inputs(task=task, **options)
        self._model.check(request.prompts.concepts)
        report = Report()
        with self._memory.claim() as claim:
            opened = open_any(_source(image), self._limits, claim.take)
            request.crops.check_size(opened.size, self._max_tiles)
            reference = request.crops.reference_image
            if reference is not None:
                reference = open_any(reference, self._limits, claim.take)
            with self._lock, guarded(self._model.forget):
                return segment(opened, request, self._model, report, reference)


def load(
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    reference: str | None = None,
) -> Sam:
    """Load SAM 3 weights and return an object to ask.

    weights: a folder, or a Hugging Face repository; None for SAM3_WEIGHTS or weights/sam3.
    device: "cpu", "cuda", "cuda:1"; None for a GPU where there is one.
    dtype: "bfloat16", "float16", "float32"; None for the device's default.
    reference: "meta" to answer as Meta's own SAM 3 does, "transformers" as transformers computes
        it; None for SAM3_REFERENCE or "meta".
    Arguments go before the environment variables of the same purpose. Raises CheckpointError,
    DeviceError and, for another reference, UserError with one line that says what to do.
    """
    given = {
        "SAM3_WEIGHTS": weights,
        "SAM3_DEVICE": device,
        "SAM3_DTYPE": dtype,
        "SAM3_REFERENCE": reference,
    }
    named = {name: os.fspath(value) for name, value in given.items() if value is not None}
    return Sam(Settings.from_environment({**os.environ, **named}))


def _source(image: Picture, name: str = "image") -> Path | Pillow.Image | NDArray[np.uint8]:
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, Pillow.Image | np.ndarray):
        return image
    raise InputError(
        f"{name} is {shown(image)}; give a path, a Pillow image, or an RGB uint8 array of shape "
        "(height, width, 3)."
    )
