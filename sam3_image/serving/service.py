"""A loaded model for many callers: one waiting line, a few host threads, one device thread.

Knows no server: the command line, Python programs, `predict.py` and the web server ask it alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode import Image
from sam3_image.model import Reading, locate, weight_files
from sam3_image.request import Request
from sam3_image.serving.answer import Answer, Result
from sam3_image.serving.device_thread import DeviceThread, Turns
from sam3_image.serving.instances import Instances
from sam3_image.serving.ledger import Ledger
from sam3_image.serving.memory import give_back, guarded
from sam3_image.serving.queue import HostPool, Job
from sam3_image.serving.report import Progress, Report, no_progress, print_line, quiet
from sam3_image.serving.settings import Settings
from sam3_image.serving.workspace import Workspace

T = TypeVar("T")
Picture = Path | bytes | NDArray[np.uint8] | Pillow.Image

# A piece of work that runs longer on a GPU than this never ends: the device is lost.
HUNG_SECONDS = 300.0


class Service:
    """Answers requests; every method may be called from several threads at once.

    The methods named `submit…` return at once with a `Job` to await or to block for. The others
    wait for it, and must not be called from inside a job.

    source: where its weights come from.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None] = print_line) -> None:
        """Load the weights; raises UserError with one line that says what to do.

        say: what writes a line of the log while the weights are loaded.
        """
        self.source = settings.source
        self._limits = settings.limits
        self._max_tiles = settings.max_tiles
        self._workspace = Workspace()
        report = Report(say)
        with report.stage("setup"):
            folder = locate(settings.source)
            reading = Reading(weight_files(folder), settings.placement)
            # Imported only now: transformers takes seconds, in which the weights are read.
            from sam3_image.model import CacheBudget, Checkpoint, Segmenter

            checkpoint = Checkpoint.open(folder)
            report.say(
                f"Loading {folder} ({checkpoint.bytes_on_disk / 1e6:.0f} MB) onto "
                f"{settings.placement}, answering as {settings.reference}"
            )
            self._segmenter = Segmenter(
                checkpoint,
                settings.placement,
                CacheBudget(features=settings.kept_features),
                reading,
                settings.reference,
            )
        report.say(str(self._segmenter.architecture))
        advice = settings.placement.advice()
        if advice:
            report.say(advice)
        if settings.source.is_demo:
            report.say(
                "This is the demo checkpoint: it knows drawn shapes ('red circle', 'star'), "
                "not photographs."
            )
        may_hang = settings.placement.device.type != "cpu"
        self._device = DeviceThread(self._segmenter.forget, HUNG_SECONDS if may_hang else None)
        self._pool = HostPool()
        self._ledger = Ledger()
        self._has_worked = False
        report.say(f"Ready after {report.metrics['timing.setup']:.1f} s")

    @property
    def folder(self) -> Path:
        """Where downloads may go: what no request uses there is deleted by its age."""
        return self._workspace.folder

    def check(self, request: Request) -> None:
        """Raise InputError for what only the model can refuse without an image: long texts."""
        self._segmenter.check(request.prompts.concepts)

    # Work in memory

    def submit_open(self, data: Picture) -> Job[Image]:
        """Decode an image in its turn; see `open`."""
        return self._submit(lambda answer: answer.open(data), Report(quiet))

    def open(self, data: Picture) -> Image:
        """Return the upright pixels of an image, within the limits; raises UserError.

        data: the path of a file, its content, a Pillow image, or RGB uint8 (H, W, 3).
        """
        return self.submit_open(data).result()

    def submit(
        self, image: Image, request: Request, report: Report | None = None
    ) -> Job[Instances]:
        """Segment an image in its turn; see `segment`."""
        report = report or Report(quiet)
        return self._submit(lambda answer: answer.segment(image, request), report)

    def segment(self, image: Image, request: Request, report: Report | None = None) -> Instances:
        """Answer one request in memory; raises UserError.

        report: takes its log and metrics; None keeps the log silent.
        """
        return self.submit(image, request, report).result()

    # From file to file

    def submit_file(
        self, path: Path, request: Request, progress: Progress = no_progress
    ) -> Job[Result]:
        """Answer a request about an image file with a file in its turn; see `run`."""
        # Whoever waits for long must not lose the input to the deletion of what is old.
        reference = request.looks.reference_image
        inputs = [path] if reference is None else [path, reference]
        self._workspace.hold(inputs)
        try:
            report = Report(progress=progress)
            job = self._submit(lambda answer: answer.file(path, request), report)
        except BaseException:
            self._workspace.release(inputs)
            raise
        job.when_done(lambda: self._workspace.release(inputs))
        return job

    def run(self, path: Path, request: Request, progress: Progress = no_progress) -> Result:
        """Answer one request with a file; raises UserError.

        progress: is called with how many tiles are done, and how many there are.
        The file stays for a minute (Cog reads it after `predict()` has returned and never deletes
        it), or until the service ends.
        """
        return self.submit_file(path, request, progress).result()

    # Looking after it

    def healthy(self) -> bool:
        """Whether the device still computes and files can be written; may wait for its turn."""
        return self.usable() and self.computes()

    def usable(self) -> bool:
        """Whether files can be written; a folder that vanished is made again."""
        return self._workspace.usable()

    def computes(self) -> bool:
        """Whether the device still computes; waits for its turn on it."""
        return self._device.probe(self._segmenter.healthy)

    def tidy(self) -> None:
        """Delete files whose time is over; while nothing runs, give memory back."""
        self._workspace.sweep()
        if self._has_worked and self._pool.idle:
            self._has_worked = False
            give_back()

    def close(self) -> None:
        """Drop the requests that wait, let those that run end, delete all files."""
        self._pool.close()
        self._device.close()
        self._workspace.close()

    def _submit(self, work: Callable[[Answer], T], report: Report) -> Job[T]:
        def run(job: Job[Any]) -> T:
            self._has_worked = True
            turns = Turns(self._segmenter, self._device, job)
            with self._guarded(), self._ledger.claim(job) as claim:
                return work(
                    Answer(job, turns, self._limits, self._max_tiles, claim, self._workspace)
                )

        return self._pool.submit(run, report)

    def _guarded(self) -> AbstractContextManager[None]:
        return guarded(lambda: self._device.run(self._segmenter.forget))
