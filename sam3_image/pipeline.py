"""Image + request + model → instances: the one path that every entry point takes.

No threads, no server, no temporary files: servers and bulk jobs schedule this function, they do not
change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sam3_image.crops import (
    CropModel,
    CropRunner,
    Exemplar,
    count,
    everything_in_tiles,
    find_in_crops,
    refine,
)
from sam3_image.decode import Image
from sam3_image.errors import shown
from sam3_image.instances import Instances
from sam3_image.masks import Detections
from sam3_image.model import Everything, Find, Pick
from sam3_image.report import Report
from sam3_image.request import Request

if TYPE_CHECKING:
    from sam3_image.model import MaskPrompt, Placement, Task

# So near the most instances of one concept that the model can give, some may be missing.
CROWDED = 0.9


class PipelineModel(CropModel, Protocol):
    """What the pipeline uses of a `Segmenter`, or of a `ScheduledModel` in its place."""

    placement: Placement  # for the log
    queries: int  # the most instances of one concept that the model finds in one look

    def side(self, input_size_percent: int) -> int:
        """Side of the encoder's square input in pixels."""


def segment(
    image: Image,
    request: Request,
    model: PipelineModel,
    report: Report | None = None,
    reference: Image | None = None,
    mask: MaskPrompt | None = None,
) -> Instances:
    """The instances that `request` asks for in `image`, best score first.

    report: takes the log, the progress over tiles and points, and metrics (seconds of each stage).
    reference: the decoded `reference_image` of a request that has one; mask: what `Request.mask`
    gives for one that has a `mask_image`.

    Raises InputError for coordinates outside the image and for texts that the model cannot read.
    """
    report = report or Report()
    prompts, crops = request.prompts, request.crops
    side = model.side(prompts.input_size_percent)
    task = request.task(image.size)
    if isinstance(task, Pick) and mask is not None:
        task = task.with_mask(mask)
    height, width = image.size
    report.say(
        "Image: %d×%d %s, encoded at %d×%d on %s",
        *(width, height, image.format, side, side, model.placement),
    )
    for note in image.notes:
        report.say(note)
    report.say("Prompt: %s", task)
    runner = CropRunner(model, side, prompts.mask_threshold)
    if isinstance(task, Find) and (crops.tile_size is not None or reference is not None):
        found = _find_in_crops(image, request, task, runner, model.queries, report, reference)
    elif isinstance(task, Everything) and crops.tile_size is not None:
        found = _everything_in_tiles(image, task, runner, crops.tile_size, report)
    else:
        found = _whole_image(image, task, runner, model.queries, report)
    if isinstance(task, Find):
        _say_how_near(task, found, found.best or runner.best, report)
    if crops.refine:
        with report.stage("refine"):
            # Refining changes neither scores nor order, so nothing is refined only to be dropped.
            found = request.selection.apply_before_masks(found)
            found = refine(runner, image.pixels, found, crops.tile_size)
    with report.stage("select"):
        if request.selection.model_fields_set:
            found = request.selection.apply(found, report.say)
    report.metrics["instances"] = len(found)
    return Instances(image, found, report.metrics)


def _whole_image(
    image: Image, task: Task, runner: CropRunner, queries: int, report: Report
) -> Detections:
    with report.stage("encode"):
        side = runner.side
        if side not in image.model_inputs:
            image.model_inputs[side] = runner.model.prepare(image.pixels, side)
        features = runner.model.encode(image.model_inputs[side])
    if features.cached:
        report.say("Encoder skipped: this image was encoded before")
    report.metrics["encoder_cached"] = int(features.cached)
    with report.stage(task.name):
        progress = report.progress if isinstance(task, Everything) else None
        found = runner.model.segment(features, task, runner.mask_threshold, progress)
    if isinstance(task, Everything):
        report.metrics["points"] = task.points_per_side**2
    if isinstance(task, Find):
        _warn_of_crowd(task, _counts(found, task), queries, report, "", "a tile_size")
    return found


def _find_in_crops(
    image: Image,
    request: Request,
    task: Find,
    runner: CropRunner,
    queries: int,
    report: Report,
    reference: Image | None,
) -> Detections:
    tile_size = request.crops.tile_size
    references = []
    if reference is not None:
        boxes = request.crops.references(reference.size)
        references = [Exemplar(reference.pixels, box) for box in boxes]
        report.say("Reference: %d examples from another image", len(references))
    if tile_size is not None:
        tiles = report.metrics["tiles"] = count(image.size, tile_size)
        report.say("Tiles: %d of %d pixels, and the image as a whole", tiles, tile_size)
    most = np.zeros(len(task.concepts), dtype=np.int64)

    def tile_done(done: int, total: int, found: Detections) -> None:
        np.maximum(most, _counts(found, task), out=most)
        if tile_size is not None:
            report.progress(done, total)

    with report.stage("find"):
        found = find_in_crops(
            runner,
            image.pixels,
            task,
            tile_size=tile_size,
            references=references,
            tile_done=tile_done,
        )
    if tile_size is None:
        _warn_of_crowd(task, most, queries, report, "", "a tile_size")
    else:
        _warn_of_crowd(task, most, queries, report, " in one tile", "a smaller tile_size")
    return found


def _everything_in_tiles(
    image: Image, task: Everything, runner: CropRunner, tile_size: int, report: Report
) -> Detections:
    tiles = count(image.size, tile_size)
    if tiles == 1:
        return _whole_image(image, task, runner, 0, report)
    report.metrics["tiles"] = tiles
    report.metrics["points"] = (tiles + 1) * task.points_per_side**2
    report.say("Tiles: %d of %d pixels, and the image as a whole", tiles, tile_size)
    with report.stage(task.name):
        return everything_in_tiles(
            runner,
            image.pixels,
            task,
            tile_size,
            lambda done, total, found: report.progress(done, total),
        )


def _counts(found: Detections, task: Find) -> NDArray[np.int64]:
    """How many instances of each concept there are."""
    return np.bincount(found.prompts, minlength=len(task.concepts))


def _say_how_near(task: Find, found: Detections, best: Mapping[int, float], report: Report) -> None:
    """Say the best score of each concept of which nothing is above its threshold."""
    counts = _counts(found, task)
    for index, score in sorted(best.items()):
        threshold = task.thresholds[index]
        if not counts[index] and score <= threshold:
            rounded = math.floor(score * 1000) / 1000  # up, it might look like enough
            report.say(f"Best {shown(task.names[index])} {rounded}, not above {threshold}")
            report.metrics[f"best_score_{index}"] = round(score, 6)


def _warn_of_crowd(
    task: Find, most: NDArray[np.int64], queries: int, report: Report, where: str, remedy: str
) -> None:
    """Say where there may be more instances than the model can give in one pass."""
    for text, number in zip(task.names, most.tolist(), strict=True):
        if number >= CROWDED * queries:
            report.say(
                f"Warning: {number} instances of {shown(text)}{where}; the model finds at most "
                f"{queries}, so some may be missing. Give {remedy} to get all."
            )
