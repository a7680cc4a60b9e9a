"""One request from start to end, in the order in which the data passes; runs on one host thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.crops import Exemplar, Eye, Looks, count, find_in_parts, refine
from sam3_image.decode import Image, Limits, decode, from_array, from_pillow, open_image
from sam3_image.errors import shown
from sam3_image.masks import Detections
from sam3_image.model import Find, Pick
from sam3_image.request import Request
from sam3_image.serving.device_thread import Turns
from sam3_image.serving.instances import Instances
from sam3_image.serving.ledger import WORK_BYTES, Claim
from sam3_image.serving.queue import Job
from sam3_image.serving.report import Report
from sam3_image.serving.workspace import Workspace

# Instances of one concept near the model's ceiling: more may be in the picture than it can say.
CROWDED = 0.9
SHOWN_SCORES = 5


@dataclass(frozen=True)
class Result:
    """One file, and the figures that go with it."""

    path: Path
    metrics: dict[str, float | int | str]


@dataclass(frozen=True)
class Answer:
    """The stages of one request, with what they work with.

    job: whose log and metrics are written, and whose cancel ends the work between stages.
    turns: the segmenter. claim: the memory that is promised to this request.
    """

    job: Job[Any]
    turns: Turns
    limits: Limits
    max_tiles: int
    claim: Claim
    workspace: Workspace

    def open(self, data: Path | bytes | NDArray[np.uint8] | Pillow.Image) -> Image:
        """Return the upright pixels of an image once there is memory to decode it."""
        if isinstance(data, Path):
            return open_image(data, self.limits, self._room)
        if isinstance(data, bytes):
            return decode(data, self.limits, self._room)
        if isinstance(data, np.ndarray):
            return from_array(data, self.limits)
        return from_pillow(data, self.limits)

    def _room(self, needed: int, pixels: int) -> int | None:
        return self.claim.take(needed, pixels * WORK_BYTES)

    def segment(self, image: Image, request: Request) -> Instances:
        """Return what the request asks for in the image."""
        report = self.job.report
        found = self._look(image, request, report)
        with report.stage("select"):
            found = request.selection.apply(found)
        report.metrics["instances"] = len(found)
        return Instances(image, found, report.metrics)

    def file(self, path: Path, request: Request) -> Result:
        """Return the file that the request asks for about an image file."""
        report = self.job.report
        self.turns.segmenter.check(request.prompts.concepts)
        with report.stage("decode"):
            image = self.open(path)
            request.output.check_size(image.size)  # not after minutes of work
            request.looks.check_size(image.size, self.max_tiles)
        self.claim.keep(image.size[0] * image.size[1] * WORK_BYTES)
        instances = self.segment(image, request)
        self.job.check()
        with report.stage("write"), self.workspace.result_folder() as folder:
            result = instances.write(request.output, folder)
            self.job.check()  # nobody would fetch it
        report.metrics["timing.total"] = round(self.job.seconds, 4)
        _say_result(instances.detections, result, report)
        return Result(result, report.metrics)

    def _look(self, picture: Image, request: Request, report: Report) -> Detections:
        looks, prompts, segmenter = request.looks, request.prompts, self.turns.segmenter
        height, width = picture.size
        looks.check_size(picture.size, self.max_tiles)
        references = self._references(looks)
        side = segmenter.side(prompts.input_size_percent)
        report.say(
            f"Image: {width}×{height} {picture.format}, encoded at {side}×{side} on "
            f"{segmenter.placement}"
        )
        ask = looks.ask(prompts, picture.size)
        report.say(f"Prompt: {ask}")
        eye = Eye(self.turns, side, prompts.mask_threshold)
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
        promised = self.claim.bytes
        reference = self.open(looks.reference_image)
        self.claim.keep(promised)
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
        crowd = _Crowd(ask, self.turns.segmenter.queries)

        def looked(done: int, total: int, found: Detections) -> None:
            crowd.see(found)
            report.progress(done, total)

        with report.stage("find"):
            found = find_in_parts(
                eye,
                picture.pixels,
                ask,
                tile_size=looks.tile_size,
                references=references,
                looked=looked,
            )
        crowd.warn(report, " in one tile", "a smaller tile_size")
        return found

    def _look_once(self, picture: Image, ask: Find | Pick, eye: Eye, report: Report) -> Detections:
        with report.stage("encode"):
            features = self.turns.encode(picture.pixels, eye.side, picture.squares)
        if features.cached:
            report.say("Encoder skipped: this image was encoded before")
        report.metrics["encoder_cached"] = int(features.cached)
        with report.stage("find" if isinstance(ask, Find) else "pick"):
            found = self.turns.segment(features, ask, eye.mask_threshold)
        if isinstance(ask, Find):
            crowd = _Crowd(ask, self.turns.segmenter.queries)
            crowd.see(found)
            crowd.warn(report, "", "a tile_size")
        return found


class _Crowd:
    """The most instances of each concept in one look, beside how many the model finds at most."""

    def __init__(self, request: Find, queries: int) -> None:
        self._concepts = request.concepts
        self._queries = queries
        self._most = np.zeros(len(request.concepts), dtype=np.int64)

    def see(self, found: Detections) -> None:
        """Count what one look found."""
        counts = np.bincount(found.prompts, minlength=len(self._most))
        self._most = np.maximum(self._most, counts)

    def warn(self, report: Report, where: str, remedy: str) -> None:
        """Say where there may be more than the model can say."""
        for text, most in zip(self._concepts, self._most, strict=True):
            if most >= CROWDED * self._queries:
                report.say(
                    f"Warning: {most} instances of {shown(text)}{where}; the model finds at most "
                    f"{self._queries}, so some may be missing. Give {remedy} to get all."
                )


def _say_result(instances: Detections, path: Path, report: Report) -> None:
    found = len(instances)
    best = ", ".join(f"{score:.3f}" for score in instances.scores[:SHOWN_SCORES])
    report.say(
        f"Found {found} instance{'' if found == 1 else 's'}" + (f", best {best}" if best else "")
    )
    report.say(f"Wrote {path.name} ({path.stat().st_size} bytes)")
    times = [
        f"{name.removeprefix('timing.')} {value:.3f} s"
        for name, value in report.metrics.items()
        if name.startswith("timing.")
    ]
    report.say("Time: " + ", ".join(times))
