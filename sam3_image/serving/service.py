"""The whole of one prediction, without Cog: settings, weights, stages, log, memory, temp files.

The command line and `predict.py` both come through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_image.decode import Image, Limits, open_image, require_download
from sam3_image.errors import shown
from sam3_image.masks import Detections, nms
from sam3_image.model import Find, Placement, Query, Reading, Source, locate, parse, weight_files
from sam3_image.output import Output, write
from sam3_image.serving.memory import give_back, guarded, settle
from sam3_image.serving.report import Report
from sam3_image.serving.workspace import Workspace

# Detections of one concept near the model's ceiling: more may be in the picture than it can say.
CROWDED = 0.9
SHOWN_SCORES = 5


@dataclass(frozen=True)
class Settings:
    """What the environment decides, read once in `setup()`."""

    source: Source
    placement: Placement
    limits: Limits

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read SAM3_WEIGHTS, SAM3_DEVICE, SAM3_DTYPE and the limits; raises UserError."""
        return cls(
            source=Source.from_environment(environment),
            placement=Placement.from_environment(environment),
            limits=Limits.from_environment(environment),
        )


@dataclass(frozen=True)
class Result:
    """One file, and the figures that go with it."""

    path: Path
    metrics: dict[str, float | int | str]


class Service:
    """A loaded model that answers one request after the other."""

    def __init__(self, settings: Settings, downloads_only: bool = True) -> None:
        """Load the weights; raises UserError with one line that says what to do.

        downloads_only: accept only image files that Cog has fetched or decoded itself, as a
        server must: a local path in a request could name any file of this machine.
        """
        self._limits = settings.limits
        self._downloads_only = downloads_only
        self._workspace = Workspace()
        self._running = False
        if downloads_only:
            self._workspace.take_downloads()
        report = Report(print)
        with report.stage("setup"):
            folder = locate(settings.source)
            reading = Reading(weight_files(folder), settings.placement)
            # Imported only now: transformers takes seconds, in which the weights are read.
            from sam3_image.model import Checkpoint, Segmenter

            checkpoint = Checkpoint.open(folder)
            report.say(
                f"Loading {folder} ({checkpoint.bytes_on_disk / 1e6:.0f} MB) onto "
                f"{settings.placement}"
            )
            self._segmenter = Segmenter(checkpoint, settings.placement, reading=reading)
        if settings.source.is_demo:
            report.say(
                "This is the demo checkpoint: it knows drawn shapes ('red circle', 'star'), "
                "not photographs."
            )
        if downloads_only:
            settle()
        report.say(f"Ready after {report.metrics['timing.setup']:.1f} s")

    def healthy(self) -> bool:
        """Whether the device still answers and files can be written; tidies up while idle."""
        if not self._running:
            self._workspace.sweep()
            give_back()
        return self._workspace.usable() and self._segmenter.healthy()

    def run(self, image: Any, query: Query, output: Output) -> Result:
        """Answer one request; raises UserError.

        image: path of the file. The result's folder lives until the next request: Cog reads the
        file after `predict()` has returned and never deletes it.
        """
        self._running = True
        try:
            self._workspace.clear(keep=image)
            return self._run(image, query, output)
        finally:
            self._running = False

    def _run(self, image: Any, query: Query, output: Output) -> Result:
        report = Report(print)
        with report.stage("total"), guarded(self._segmenter.forget):
            with report.stage("decode"):
                path = require_download(image) if self._downloads_only else Path(image)
                picture = open_image(path, self._limits)
                output.check_size(picture.size)  # not after minutes of work
            instances = self._segment(picture, query, report)
            with report.stage("write"):
                try:
                    path = write(picture, instances, output, self._workspace.new())
                except BaseException:  # half a result on a full disk helps nobody
                    self._workspace.clear(keep=image)
                    raise
        _say_result(instances, path, report)
        return Result(path=path, metrics=report.metrics)

    def _segment(self, picture: Image, query: Query, report: Report) -> Detections:
        height, width = picture.size
        side = self._segmenter.side(query.input_size_percent)
        report.say(
            f"Image: {width}×{height} {picture.format}, encoded at {side}×{side} on "
            f"{self._segmenter.placement}"
        )
        request = parse(query, picture.size)
        report.say(f"Prompt: {request}")
        self._segmenter.check(request)
        with report.stage("encode"):
            features = self._segmenter.encode(picture.pixels, side)
        if features.cached:
            report.say("Encoder skipped: this image was encoded before")
        report.metrics["encoder_cached"] = int(features.cached)
        with report.stage("find" if isinstance(request, Find) else "pick"):
            instances = self._segmenter.segment(features, request, query.mask_threshold)
        if isinstance(request, Find):
            _warn_if_crowded(instances, request, self._segmenter.queries, report)
        with report.stage("select"):
            if query.nms_iou_threshold is not None:
                instances = nms.suppress(instances, query.nms_iou_threshold)
            if query.max_instances is not None:
                instances = instances.take(range(min(len(instances), query.max_instances)))
        return instances


def _warn_if_crowded(instances: Detections, request: Find, queries: int, report: Report) -> None:
    for index, concept in enumerate(request.concepts):
        count = int((instances.prompts == index).sum())
        if count >= CROWDED * queries:
            report.say(
                f"Warning: {count} instances of {shown(concept.text)}; the model finds at most "
                f"{queries}, so some may be missing. Cut the image into parts to get all."
            )


def _say_result(instances: Detections, path: Path, report: Report) -> None:
    count = len(instances)
    report.metrics["instances"] = count
    best = ", ".join(f"{score:.3f}" for score in instances.scores[:SHOWN_SCORES])
    report.say(
        f"Found {count} instance{'' if count == 1 else 's'}" + (f", best {best}" if best else "")
    )
    report.say(f"Wrote {path.name} ({path.stat().st_size} bytes)")
    times = [
        f"{name.removeprefix('timing.')} {value:.3f} s"
        for name, value in report.metrics.items()
        if name.startswith("timing.")
    ]
    report.say("Time: " + ", ".join(times))
