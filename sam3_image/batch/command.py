"""`sam3-image batch SOURCE --prompts … --out FOLDER`: many images → Parquet, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from sam3_image.batch import options, results
from sam3_image.batch.driver import Totals, drive
from sam3_image.batch.export import export
from sam3_image.batch.job import BatchJob, digest
from sam3_image.batch.machine import plan_workers
from sam3_image.batch.pool import LocalPool, WorkerPool
from sam3_image.batch.progress import RunProgress, error_lines, estimate, say
from sam3_image.batch.reader import Item
from sam3_image.batch.results import Lock, Stock
from sam3_image.batch.schema import VERSION
from sam3_image.batch.sources import ImageSource
from sam3_image.batch.storage import WORK, ResultFolder
from sam3_image.errors import InputError, UserError, shown
from sam3_image.model import EVERYTHING_THRESHOLD, WeightsSource, locate
from sam3_image.settings import Settings

DONE, WITH_ERRORS, REFUSED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
# Variables that decide about results, beside the weights.
DECIDING = (
    "SAM3_DTYPE",
    "SAM3_REFERENCE",
    "SAM3_MAX_PIXELS",
    "SAM3_MAX_SIDE",
    "SAM3_MAX_BYTES",
    "SAM3_MAX_TILES",
    "SAM3_MAX_POINTS",
)


def main(arguments: Sequence[str]) -> int:
    """Run a job, or export its results; returns the exit status.

    0: every image has a row. 1: a part of the source cannot be listed or, with --strict, an image
    has an error. 2: refused before anything began. 3: stopped before its end; the same command
    goes on. 130: interrupted.
    """
    run = None
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments and arguments[0] == "export":
            wanted = options.parse_export(arguments[1:])
            print(export(ResultFolder(wanted.folder), wanted.format))
            return DONE
        run = _Run(options.parse(arguments))
        return run.main()
    except UserError as error:
        _say(str(error))
        return STOPPED if run and run.begun else REFUSED
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        return INTERRUPTED


class _Run:
    """One run of the command. begun: whether a worker has loaded the model."""

    def __init__(self, wanted: Any) -> None:
        self.begun = False
        self.wanted = wanted
        self.folder = ResultFolder(wanted.out)

    def main(self) -> int:
        wanted = self.wanted
        weights = WeightsSource.of(Settings.from_environment(os.environ))
        source = ImageSource(wanted.source, wanted.column)
        _check_prompts(wanted.inputs, source.items.values())
        checkpoint = locate(weights).resolve()
        for line in _request_lines(wanted.inputs, checkpoint, weights.is_demo):
            _say(line)
        metadata = _metadata(wanted.inputs, checkpoint)
        with results.locked(self.folder, _say) as lock, _scratch(self.folder) as scratch:
            stock = results.take_stock(self.folder, metadata, Stock())
            missing = _missing(source, stock)
            _say_source(source, len(source.items) - len(missing), wanted)
            if missing:
                job = BatchJob(
                    folder=self.folder,
                    inputs=wanted.inputs,
                    environment=_environment(checkpoint),
                    metadata=metadata,
                    scratch=scratch,
                    root=source.root(),
                    probes=tuple(source.probes()),
                    overlays=wanted.overlays,
                )
                chosen = _spread(missing, wanted.limit)
                self.segment(job, chosen, len(source.items), lock)
                stock = results.take_stock(self.folder, metadata, stock)
            result = export(self.folder, wanted.format)
        for line in error_lines([*source.problems, *stock.errors]):
            _say(line)
        print(result)
        return WITH_ERRORS if source.problems or (wanted.strict and stock.errors) else DONE

    def segment(self, job: BatchJob, items: Sequence[Item], whole: int, lock: Lock) -> None:
        """Segment the images and say how it went."""
        pool = _pool(job, self.wanted)
        progress = RunProgress(len(items), sys.stderr)

        def watch(totals: Totals) -> None:
            self.begun = totals.ready > 0
            progress(totals)

        try:
            totals = drive(job, items, pool, lock, watch)
        finally:
            progress.close()
        for line in progress.end(totals):
            _say(line)
        if len(items) < whole and self.wanted.limit:
            files = self.folder.files()
            size = sum(files[name].size or 0 for name in totals.parts if name)
            _say(estimate(totals.rows, whole, progress.rate(totals), size))


def _say(text: str) -> None:
    say(sys.stderr, text)


def _pool(job: BatchJob, wanted: Any) -> WorkerPool:
    if wanted.ray:
        from sam3_image.batch.ray_pool import LOCAL, RayPool

        count = wanted.workers or 0
        if wanted.ray == LOCAL:
            count = len(plan_workers(os.environ, job.weights, wanted.workers).devices)
        ray = RayPool(job, wanted.ray, count)
        _say(f"{ray.size} workers on Ray ({wanted.ray})")
        return ray
    plan = plan_workers(os.environ, job.weights, wanted.workers)
    _say(str(plan))
    return LocalPool(replace(job, threads=plan.threads, decoders=plan.decoders), plan.devices)


def _check_prompts(inputs: Mapping[str, Any], items: Iterable[Item]) -> None:
    """Raise InputError unless it is said for every image what to find."""
    if inputs.get("task") == "everything":
        return
    if any(inputs.get(name) is not None for name in ("prompt", "prompts", "reference_image")):
        return
    without = next((item.uri for item in items if not item.prompts), None)
    if without is not None:
        raise InputError(
            f"there is nothing to look for in {shown(without, 200)}: give --prompts TEXT …, or a "
            "--reference-image with --reference-boxes, --task everything, or a list with a column "
            "'prompts'"
        )


def _request_lines(inputs: Mapping[str, Any], weights: Path, is_demo: bool) -> list[str]:
    """Return what is said of the request before the work begins."""
    prompts = inputs.get("prompts") or [inputs[name] for name in ("prompt",) if inputs.get(name)]
    known = options.inputs()
    parts = [f"prompts: {', '.join(map(repr, prompts)) or 'those of the list or the reference'}"]
    default = known["threshold"].default
    if inputs.get("task") == "everything":
        parts, default = [], EVERYTHING_THRESHOLD
    parts += [f"threshold: {inputs.get('threshold', default)}"]
    parts += [
        f"{name}: {shown(value)}"
        for name, value in inputs.items()
        if name not in ("prompt", "prompts", "threshold", "reference_image") and value != "auto"
    ]
    if inputs.get("value_range", "auto") == "auto":
        # For a series that is to be compared, a person would want one range: LOW,HIGH.
        parts.append("value_range: auto (each image of more than 8 bits has a range of its own)")
    parts += [f"weights: {weights}{' (the demo checkpoint: drawn shapes only)' if is_demo else ''}"]
    lines = ["; ".join(parts)]
    for prompt in prompts:
        if "," in prompt:
            several = " ".join(f'"{one.strip()}"' for one in prompt.split(",") if one.strip())
            lines.append(
                f"{prompt!r} is searched as one prompt, comma and all; for several, say "
                f"--prompts {several}"
            )
    return lines


def _metadata(inputs: Mapping[str, Any], weights: Path) -> dict[str, Any]:
    """Return what every part says about its run; only runs with the same go on in a folder."""
    variables = {name: os.environ[name] for name in DECIDING if os.environ.get(name)}
    named = {
        name: hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value
        for name, value in inputs.items()
    }
    return {
        "version": VERSION,
        "inputs": named,
        "variables": variables,
        "checkpoint": {"digest": digest(weights)},
    }


def _environment(weights: Path) -> dict[str, str]:
    """Return the variables that workers get; no token is among them."""
    found = {name: os.environ[name] for name in (*DECIDING, "SAM3_DEVICE") if name in os.environ}
    return {**found, "SAM3_WEIGHTS": str(weights)}


def _missing(source: ImageSource, stock: Stock) -> list[Item]:
    """Return the images without a row, with their places in the source as numbers.

    Numbers stay, so that what was exported before stays comparable: where a place is taken, because
    the source has changed, the number is a new one.
    """
    missing: list[Item] = []
    new = itertools.count(max(stock.ids | {len(source.items)}) + 1)
    for place, item in enumerate(source.items.values(), 1):
        if item.uri not in stock.prompts:
            missing.append(item._replace(id=next(new) if place in stock.ids else place))
        elif (before := stock.prompts[item.uri]) != (list(item.prompts) if item.prompts else None):
            raise InputError(
                f"{shown(item.uri, 200)} has a row with prompts={shown(before)}, and now they are "
                f"{shown(item.prompts)}; choose another folder with --out"
            )
    return missing


def _say_source(source: ImageSource, done: int, wanted: Any) -> None:
    parts = [f"{len(source.items):,} images in {source.name}"]
    if source.others:
        parts.append(f"{source.others:,} other files or empty rows left out")
    if source.repeated:
        parts.append(f"{source.repeated:,} named again")
    if done:
        overlays = ", and get no overlay" if wanted.overlays else ""
        parts.append(f"{done:,} skipped, since they have rows already{overlays}")
    if done == len(source.items):
        parts.append("nothing to do")
    _say("; ".join(parts))


@contextlib.contextmanager
def _scratch(folder: ResultFolder) -> Iterator[Path]:
    """Yield a local folder for workers' logs and temporary files.

    It stays where a person looks for logs: with local results, and after an error.
    """
    if folder.local is None:
        path = Path(tempfile.mkdtemp(prefix="sam3-batch-"))
        yield path
        shutil.rmtree(path, ignore_errors=True)
        return
    path = folder.local / WORK / "workers"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        for left in path.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)


def _spread(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """Return so many of the images, from all over the list, so that they stand for the rest."""
    if limit is None or limit >= len(items):
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
