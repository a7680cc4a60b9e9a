"""The model of a worker, loaded for the one request of its job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sam3_image.batch.job import Job
from sam3_image.decode import Image
from sam3_image.instances import Instances
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings

# Of one image at full size: its prompts share them, and no image comes twice.
KEPT_FEATURES = 160 << 20


class Model:
    """What segments in a worker: a `job.Engine`."""

    def __init__(self, job: Job) -> None:
        """Load the weights; raises UserError."""
        if job.threads:
            import cv2
            import torch

            torch.set_num_threads(job.threads)
            cv2.setNumThreads(job.threads)
        self._request = Request.from_inputs(**job.inputs)
        settings = replace(Settings.from_environment(job.environment), kept_features=KEPT_FEATURES)
        self._service = Service(settings, say=_quiet)
        self._service.check(self._request)

    def open(self, data: bytes | Path) -> Image:
        """Upright pixels of an image; raises UserError. Called from several threads."""
        return self._service.open(data, self._request.decoding.value_range)

    def segment(self, image: Image) -> Instances:
        """Return what the job's request finds in an image; raises UserError."""
        return self._service.segment(image, self._request)

    def healthy(self) -> bool:
        """Whether the device still computes."""
        return self._service.healthy()


def _quiet(_: str) -> None:
    """Say nothing: the log of a hundred workers helps nobody."""
