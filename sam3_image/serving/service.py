"""The whole of one prediction, without Cog: settings, weights, stages, log, memory, temp files.

The command line and `predict.py` both come through here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.crops import Exemplar, Eye, Looks, count, find_in_parts, refine
from sam3_image.decode import (
    Image,
    decode,
    from_array,
    from_pillow,
    open_image,
    require_download,
)
from sam3_image.errors import shown
from sam3_image.masks import Detections
from sam3_image.model import Find, Pick, Reading, locate, weight_files
from sam3_image.request import Request
from sam3_image.serving.instances import Instances
from sam3_image.serving.memory import give_back, guarded, settle
from sam3_image.serving.report import Report, no_progress
from sam3_image.serving.settings import Settings
from sam3_image.serving.workspace import Workspace

# Instances of one concept near the model's ceiling: more may be in the picture than it can say.
CROWDED = 0.9
SHOWN_SCORES = 5


@dataclass(frozen=True)
class Result:
    """One file, and the figures that go with it."""

    path: Path
    metrics: dict[str, float | int | str]


class Service:
    """A loaded model that answers one request after the other.

    source: where its weights come from.
    """

    def __init__(
        self,
        settings: Settings,
        downloads_only: bool = True,
        say: Callable[[str], None] = print,
    ) -> None:
        """Load the weights; raises UserError with one line that says what to do.

        downloads_only: accept only image files that Cog has fetched or decoded itself, as a
        server must: a local path in a request could name any file of this machine.
        say: what writes a line of the log while the weights are loaded.
        """
        self.source = settings.source
        self._limits = settings.limits
        self._max_tiles = settings.max_tiles
        self._downloads_only = downloads_only
        self._workspace = Workspace()
        self._running = False
        self._lock = threading.Lock()  # around everything that touches torch and its caches
        if downloads_only:
            self._workspace.take_downloads()
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
        if downloads_only:
            settle()
        report.say(f"Ready after {report.metrics['timing.setup']:.1f} s")

    def healthy(self) -> bool:
        """Whether the device still answers and files can be written; tidies up while idle."""
        if not self._running:
            self._workspace.sweep()
            give_back()
        return self._workspace.usable() and self._segmenter.healthy()

    def open(self, data: Path | bytes | NDArray[np.uint8] | Pillow.Image) -> Image:
        """Return the upright pixels of an image, within the limits; raises UserError.

        data: the path of a file, its content, a Pillow image, or RGB uint8 (H, W, 3).
        """
        if isinstance(data, Path):
            return open_image(data, self._limits)
        if isinstance(data, bytes):
            return decode(data, self._limits)
        if isinstance(data, np.ndarray):
            return from_array(data, self._limits)
        return from_pillow(data, self._limits)

    def check(self, request: Request) -> None:
        """Raise InputError for what only the model can refuse without an image: long texts."""
        self._segmenter.check(request.prompts.concepts)

    def run(
        self, image: Any, request: Request, progress: Callable[[int, int], None] | None = None
    ) -> Result:
        """Answer one request with a file; raises UserError.

        image: path of the file. progress: is called with how many tiles are done, and how many
        there are. The result's folder lives until the next request: Cog reads the
        file after `predict()` has returned and never deletes it.
        """
        self._running = True
        try:
            self._workspace.clear(keep=(image, request.looks.reference_image))
            return self._run(image, request, Report(print, progress or no_progress))
        finally:
            self._running = False

    def segment(self, image: Image, request: Request, report: Report | None = None) -> Instances:
        """Answer one request in memory; callable from several threads. Raises UserError."""
        report = report or Report(_quiet)
        with self._lock, guarded(self._segmenter.forget):
            found = self._segment(image, request, report)
        with report.stage("select"):
            found = request.selection.apply(found)
        report.metrics["instances"] = len(found)
        return Instances(image, found, report.metrics)

    def _run(self, image: Any, request: Request, report: Report) -> Result:
        with report.stage("total"), guarded(self._segmenter.forget):
            self.check(request)
            with report.stage("decode"):
                path = require_download(image) if self._downloads_only else Path(image)
                reference = request.looks.reference_image
                if self._downloads_only and reference is not None:
                    require_download(reference, "reference_image")
                picture = self.open(path)
                request.output.check_size(picture.size)  # not after minutes of work
                request.looks.check_size(picture.size, self._max_tiles)
            instances = self.segment(picture, request, report)
            with report.stage("write"):
                try:
                    path = instances.write(request.output, self._workspace.new())
                except BaseException:  # half a result on a full disk helps nobody
                    self._workspace.clear(keep=(image,))
                    raise
        _say_result(instances.detections, path, report)
        return Result(path=path, metrics=report.metrics)

    def _segment(self, picture: Image, request: Request, report: Report) -> Detections:
        looks, prompts = request.looks, request.prompts
        height, width = picture.size
        looks.check_size(picture.size, self._max_tiles)
        references = self._references(looks)
        side = self._segmenter.side(prompts.input_size_percent)
        report.say(
            f"Image: {width}×{height} {picture.format}, encoded at {side}×{side} on "
            f"{self._segmenter.placement}"
        )
        ask = looks.ask(prompts, picture.size)
        report.say(f"Prompt: {ask}")
        eye = Eye(self._segmenter, side, prompts.mask_threshold)
        if looks.parts and isinstance(ask, Find):
            found = self._find_in_parts(eye, picture, ask, looks, references, report)
        else:
            found = self._look_once(picture, ask, eye, report)
        if looks.refine:
            with report.stage("refine"):
                found = refine(eye, picture.pixels, found)
        return found

    def _references(self, looks: Looks) -> list[Exemplar]:
        """Decode the reference image; returns what its boxes show."""
        if looks.reference_image is None:
            return []
        reference = self.open(looks.reference_image)
        boxes = looks.references(reference.size)
        return [Exemplar(reference.pixels, box) for box in boxes]

    def _find_in_parts(
        self,
        eye: Eye,
        picture: Image,
        ask: Find,
        looks: Looks,
        references: list[Exemplar],
        report: Report,
    ) -> Detections:
        if references:
            report.say(f"Reference: {len(references)} examples from another image")
        if looks.tile_size is not None:
            tiles = report.metrics["tiles"] = count(picture.size, looks.tile_size)
            report.say(f"Tiles: {tiles} of {looks.tile_size} pixels, and the image as a whole")
        with report.stage("find"):
            return find_in_parts(
                eye,
                picture.pixels,
                ask,
                tile_size=looks.tile_size,
                references=references,
                progress=report.progress,
            )

    def _look_once(self, picture: Image, ask: Find | Pick, eye: Eye, report: Report) -> Detections:
        with report.stage("encode"):
            features = self._segmenter.encode(picture.pixels, eye.side)
        if features.cached:
            report.say("Encoder skipped: this image was encoded before")
        report.metrics["encoder_cached"] = int(features.cached)
        with report.stage("find" if isinstance(ask, Find) else "pick"):
            found = self._segmenter.segment(features, ask, eye.mask_threshold)
        if isinstance(ask, Find):
            _warn_if_crowded(found, ask, self._segmenter.queries, report)
        return found


def _quiet(_line: str) -> None:
    """Say nothing: a caller without a log."""


def _warn_if_crowded(instances: Detections, request: Find, queries: int, report: Report) -> None:
    for index, text in enumerate(request.concepts):
        count = int((instances.prompts == index).sum())
        if count >= CROWDED * queries:
            report.say(
                f"Warning: {count} instances of {shown(text)}; the model finds at most "
                f"{queries}, so some may be missing. Give a tile_size to get all."
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
