"""A loaded model for many callers: the pipeline, scheduled, within a budget of memory.

Knows no server: the command line, `predict.py`, the web server and bulk jobs ask it alike.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image import pipeline
from sam3_image.decode import Image, Limits, open_any
from sam3_image.instances import Instances
from sam3_image.model import WeightsSource, load_segmenter
from sam3_image.output import RenderedFile, render, save
from sam3_image.report import LOG, Metrics, Progress, Report, quiet
from sam3_image.request import Request
from sam3_image.serving.memory import WORK_BYTES, Claim, MemoryBudget, give_back, within_memory
from sam3_image.serving.scheduler import DeviceExecutor, HostPool, Job, ScheduledModel
from sam3_image.serving.workspace import Workspace
from sam3_image.settings import Settings

if TYPE_CHECKING:
    from sam3_image.model import Placement

T = TypeVar("T")
# What an image can be given as: a file, its content, pixels, or an image that is decoded already.
ImageData = Path | bytes | NDArray[np.uint8] | Pillow.Image | Image

# Seconds after which a step on a GPU is considered hung, and the device lost.
HUNG_SECONDS = 300.0
# The caretaker sweeps the folder this often, and probes the device when somebody asked.
SWEEP_SECONDS = 5.0
PAUSE_SECONDS = 0.2  # between two probes, however often somebody asks
SHOWN_SCORES = 5


@dataclass(frozen=True)
class FileResult:
    """The path of a result, and the metrics that go with it."""

    path: Path
    metrics: Metrics


class Service:
    """Answers requests; every method may be called from several threads at once.

    The methods named `submit…` return at once with a `Job` to await or to block for. The others
    wait for it, and must not be called from inside a job.

    source: where its weights come from.
    """

    def __init__(self, settings: Settings, say: Callable[..., None] = LOG.info) -> None:
        """Load the weights; raises UserError with one line that says what to do.

        say: takes the lines of the log while the weights are loaded.
        """
        self.source = WeightsSource.of(settings)
        self._limits = Limits.of(settings)
        self._max_tiles, self._max_points = settings.max_tiles, settings.max_points
        self._workspace = Workspace()
        self._segmenter = load_segmenter(settings, Report(say))
        may_hang = self._segmenter.placement.device.type != "cpu"
        self._device = DeviceExecutor(self._segmenter.forget, HUNG_SECONDS if may_hang else None)
        self._pool = HostPool()
        self._memory = MemoryBudget()
        self._has_worked = False
        self._healthy = True
        self._asked = threading.Event()
        self._closed = threading.Event()

    @property
    def folder(self) -> Path:
        """Where downloads may go: what no request uses there is deleted by its age."""
        return self._workspace.folder

    @property
    def placement(self) -> Placement:
        """The device and dtype of the model."""
        return self._segmenter.placement

    @property
    def unfinished(self) -> int:
        """How many requests wait or run."""
        return self._pool.unfinished

    def check_texts(self, request: Request) -> None:
        """Raise InputError for what only the model can refuse without an image: long texts."""
        self._segmenter.check_texts(request.prompts.concepts)

    # Work in memory

    def submit_open(self, source: ImageData, value_range: str = "auto") -> Job[Image]:
        """Decode an image when its turn comes; see `open`."""
        return self._submit(
            lambda job, claim: self._open(source, value_range, claim), Report(quiet)
        )

    def open(self, source: ImageData, value_range: str = "auto") -> Image:
        """The upright pixels of an image, within the limits; raises UserError.

        source: the path of a file, its content, a Pillow image, or an array.
        value_range: how more than 8 bits become 8, as the input of `predict()`.
        """
        return self.submit_open(source, value_range).result()

    def submit(
        self, source: ImageData, request: Request, report: Report | None = None
    ) -> Job[Instances]:
        """Decode and segment an image when its turn comes; see `segment`."""
        report = report or Report(quiet)
        return self._submit(lambda job, claim: self._segment(source, request, job, claim), report)

    def segment(
        self, source: ImageData, request: Request, report: Report | None = None
    ) -> Instances:
        """The instances that a request asks for; raises UserError.

        source: as for `open`, or an image that is decoded already.
        report: takes its log and metrics; None keeps the log silent.
        """
        return self.submit(source, request, report).result()

    def submit_rendered(
        self, source: ImageData, request: Request, report: Report | None = None
    ) -> Job[RenderedFile]:
        """Decode, segment and render in one claim of memory: the file that `request` asks for."""

        def work(job: Job[RenderedFile], claim: Claim) -> RenderedFile:
            found = self._segment(source, request, job, claim)
            job.check_canceled()
            with job.report.stage("write"):
                rendered = render(found.image, found.detections, request.output)
            _say_result(found, rendered.name, len(rendered.data), job.report)
            return rendered

        return self._submit(work, report or Report(quiet))

    # From file to file

    def submit_file(
        self, path: Path, request: Request, progress: Progress = quiet
    ) -> Job[FileResult]:
        """Answer a request about an image file with a file when its turn comes; see `run`."""
        reference = request.crops.reference_image
        inputs = [path] if reference is None else [path, reference]
        # Keep the inputs while the request is queued; the sweeper deletes old files.
        self._workspace.hold(inputs)
        try:
            report = Report(progress=progress)
            job = self._submit(lambda job, claim: self._file(path, request, job, claim), report)
        except BaseException:
            self._workspace.release(inputs)
            raise
        job.when_done(lambda: self._workspace.release(inputs))
        return job

    def run(self, path: Path, request: Request, progress: Progress = quiet) -> FileResult:
        """Answer one request with a file; raises UserError.

        progress: called with the number of tiles done and their total.
        The file stays for a minute (Cog reads it after `predict()` has returned and never deletes
        it), or until the service ends.
        """
        return self.submit_file(path, request, progress).result()

    # Health

    def start_caretaker(self) -> None:
        """Start a thread that sweeps the folder, gives memory back and probes the device.

        It ends with `close()`, or when nothing else holds the service any more.
        """
        threading.Thread(
            target=_take_care, args=(weakref.ref(self),), name="caretaker", daemon=True
        ).start()

    def healthy(self) -> bool:
        """Whether files can be written, and whether the device computed when last probed.

        Does not wait for the device, and has the caretaker probe it again: Cog handles nothing
        else, not even a cancel, while it waits for this answer.
        """
        self._asked.set()
        return self.usable() and self._healthy

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
        self._closed.set()
        self._asked.set()
        self._pool.close()
        self._device.close()
        self._workspace.close()

    # The work of one request, on a host thread

    def _open(self, source: ImageData, value_range: str, claim: Claim) -> Image:
        """Decode within a claim, which then spans the work that comes after it."""
        if isinstance(source, Image):
            claim.take(0, source.size[0] * source.size[1])
            return source
        return open_any(source, self._limits, claim.take, value_range)

    def _segment(
        self, source: ImageData, request: Request, job: Job[Any], claim: Claim
    ) -> Instances:
        report, value_range = job.report, request.decoding.value_range
        self.check_texts(request)
        with report.stage("decode"):
            image = self._open(source, value_range, claim)
            # Not after minutes of work.
            request.output.check_size(image.size)
            request.check_work(image.size, self._max_tiles, self._max_points)
        claim.keep(image.size[0] * image.size[1] * WORK_BYTES)
        promised = claim.bytes
        reference = None
        if request.crops.reference_image is not None:
            reference = self._open(request.crops.reference_image, value_range, claim)
        mask = request.mask(image.size, lambda given: self._open(given, "auto", claim))
        claim.keep(promised)
        model = ScheduledModel(self._segmenter, self._device, job)
        return pipeline.segment(image, request, model, report, reference, mask)

    def _file(self, path: Path, request: Request, job: Job[FileResult], claim: Claim) -> FileResult:
        report = job.report
        found = self._segment(path, request, job, claim)
        job.check_canceled()
        with report.stage("write"), self._workspace.result_folder() as folder:
            result = save(found.image, found.detections, request.output, folder)
            job.check_canceled()  # the caller has left
        report.metrics["timing.total"] = round(job.seconds, 4)
        _say_result(found, result.name, result.stat().st_size, report)
        return FileResult(result, report.metrics)

    def _submit(self, work: Callable[[Job[Any], Claim], T], report: Report) -> Job[T]:
        def run(job: Job[Any]) -> T:
            self._has_worked = True
            return within_memory(
                lambda: claimed(job), lambda: self._device.run(self._segmenter.forget)
            )

        def claimed(job: Job[Any]) -> T:
            with self._memory.claim(job.check_canceled, job.report.waited) as claim:
                return work(job, claim)

        return self._pool.submit(run, report)


def _take_care(reference: weakref.ref[Service]) -> None:
    """What the caretaker does, without keeping the service alive while it sleeps."""
    while True:
        service = reference()
        if service is None:
            return
        asked_event, closed = service._asked, service._closed
        del service
        asked = asked_event.wait(SWEEP_SECONDS)
        asked_event.clear()
        service = reference()
        if service is None or closed.is_set():
            return
        service.tidy()
        if asked:
            service._healthy = service.computes()
        del service
        if closed.wait(PAUSE_SECONDS):
            return


def _say_result(found: Instances, name: str, size: int, report: Report) -> None:
    best = ", ".join(f"{score:.3f}" for score in found.scores[:SHOWN_SCORES])
    report.say(
        f"Found {len(found)} instance{'' if len(found) == 1 else 's'}"
        + (f", best {best}" if best else "")
    )
    report.say(f"Wrote {name} ({size} bytes)")
    times = [
        f"{name.removeprefix('timing.')} {value:.3f} s"
        for name, value in report.metrics.items()
        if name.startswith("timing.")
    ]
    report.say("Time: " + ", ".join(times))
