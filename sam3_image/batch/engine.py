"""The model of a worker, loaded for the one request of its job.

Of `sam3_image.serving` the batch package imports only what is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sam3_image.decode import Image, Limits
from sam3_image.instances import Instances
from sam3_image.report import quiet
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings

# For the features of one image at full size: its prompts share them, and no image comes twice.
KEPT_FEATURES = 160 << 20


class BatchModel:
    """What segments in a worker: a `job.BatchEngine`. Safe from several threads."""

    def __init__(
        self, inputs: Mapping[str, Any], environment: Mapping[str, str], threads: int = 0
    ) -> None:
        """Load the weights and decode the reference image, if any; raises UserError.

        inputs: of the request. environment: the SAM3_… variables. threads: of torch, 0 for its own
        choice.
        """
        if threads:
            import cv2
            import torch

            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        settings = replace(Settings.from_environment(environment), kept_features=KEPT_FEATURES)
        self.limits = Limits.of(settings)
        self._service = Service(settings, say=quiet)
        self._inputs = dict(inputs)
        if self._inputs.get("reference_image") is not None:
            reference = self._service.open(self._inputs["reference_image"])
            self._inputs["reference_image"] = reference.pixels
        self._request = lru_cache(256)(self._checked)
        self._request(None)

    def open(self, data: bytes | Path) -> Image:
        """Return the upright pixels of an image; raises UserError."""
        return self._service.open(data)

    def segment(self, image: Image, prompts: tuple[str, ...] | None = None) -> Instances:
        """Return what the request finds in an image; raises UserError.

        prompts: in place of those of the request.
        """
        return self._service.segment(image, self._request(prompts))

    def healthy(self) -> bool:
        """Whether the device still computes."""
        return self._service.computes()

    def _checked(self, prompts: tuple[str, ...] | None) -> Request:
        own = {"prompt": None, "prompts": list(prompts)} if prompts else {}
        request = Request.from_inputs(**{**self._inputs, **own})
        self._service.check(request)
        return request
