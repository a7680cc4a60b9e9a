"""`script/batch SOURCE --prompts … --out FOLDER`: a bucket of images → Parquet, resumable."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from sam3_image.batch import machine, options
from sam3_image.batch.driver import Totals, drive
from sam3_image.batch.export import export
from sam3_image.batch.folder import Folder
from sam3_image.batch.items import Item
from sam3_image.batch.job import Job, digest
from sam3_image.batch.local import LocalPool
from sam3_image.batch.pool import Pool
from sam3_image.batch.progress import Progress, estimate, say
from sam3_image.batch.schema import VERSION
from sam3_image.batch.sources import Source
from sam3_image.errors import UserError
from sam3_image.model import Source as Weights
from sam3_image.model import locate
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
)


def main(arguments: Sequence[str]) -> int:
    """Run a job, or export its results; returns the exit status.

    0: every image has a row. 1: with --strict, and a row has an error. 2: refused before anything
    began. 3: stopped before its end; the same command goes on. 130: interrupted.
    """
    run = _Run()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments and arguments[0] == "export":
            wanted = options.parse_export(arguments[1:])
            print(export(Folder(wanted.folder), wanted.format))
            return DONE
        return run.main(options.parse(arguments))
    except UserError as error:
        say(sys.stderr, str(error))
        return STOPPED if run.begun else REFUSED
    except KeyboardInterrupt:
        say(sys.stderr, "interrupted; the same command goes on from here")
        return INTERRUPTED


class _Run:
    """One run of the command. begun: whether a worker had loaded the model."""

    begun = False

    def main(self, wanted: Any) -> int:
        weights = locate(Weights.of(Settings.from_environment(os.environ))).resolve()
        metadata = _metadata(wanted.inputs, weights)
        source = Source.open(wanted.source, wanted.column)
        with Folder(wanted.out.absolute()).driven() as folder:
            done = folder.done(metadata)
            missing = [item for item in source.items if item.uri not in done.uris]
            _say_source(source, len(source.items) - len(missing))
            errors = done.errors
            if missing:
                chosen = _spread(missing, wanted.limit)
                job = Job(
                    folder=folder,
                    inputs=wanted.inputs,
                    environment=_environment(weights),
                    metadata=metadata,
                    root=source.root(),
                )
                errors += self.segment(job, chosen, len(source.items), wanted)
            result = export(folder, wanted.format)
        print(result)
        return WITH_ERRORS if wanted.strict and errors else DONE

    def segment(self, job: Job, items: Sequence[Item], whole: int, wanted: Any) -> int:
        """Segment the images and say how it went; returns how many have an error."""
        before = _bytes(job.folder)
        pool = _pool(job, wanted)
        progress = Progress(len(items), sys.stderr)

        def watch(totals: Totals) -> None:
            self.begun = totals.ready > 0
            progress(totals)

        try:
            totals = drive(job, items, pool, watch)
        finally:
            progress.close()
        for line in progress.end(totals):
            say(sys.stderr, line)
        if len(items) < whole and wanted.limit:
            size = _bytes(job.folder) - before
            say(sys.stderr, estimate(totals.rows, whole, progress.rate(totals), size))
        return totals.failed


def _pool(job: Job, wanted: Any) -> Pool:
    if wanted.ray:
        from sam3_image.batch.ray_executor import LOCAL, RayPool

        count = wanted.workers or 0
        if wanted.ray == LOCAL:
            count = len(machine.crew(os.environ, job.weights, wanted.workers).devices)
        ray = RayPool(job, wanted.ray, count)
        say(sys.stderr, f"{ray.size} workers on Ray ({wanted.ray})")
        return ray
    crew = machine.crew(os.environ, job.weights, wanted.workers)
    say(sys.stderr, str(crew))
    return LocalPool(replace(job, threads=crew.threads, decoders=crew.decoders), crew.devices)


def _metadata(inputs: Mapping[str, Any], weights: Path) -> dict[str, Any]:
    """Return what every part says about the run it is from; two runs with the same are one."""
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
    """Return what workers are told of the environment; no token is in it."""
    found = {name: os.environ[name] for name in (*DECIDING, "SAM3_DEVICE") if name in os.environ}
    return {**found, "SAM3_WEIGHTS": str(weights)}


def _say_source(source: Source, done: int) -> None:
    parts = [f"{len(source.items):,} images in {source.name}"]
    if source.others:
        parts.append(f"{source.others:,} other files left out")
    if source.repeated:
        parts.append(f"{source.repeated:,} named again")
    if done:
        parts.append(f"{done:,} skipped, since they have rows already")
    if done == len(source.items):
        parts.append("nothing to do")
    say(sys.stderr, "; ".join(parts))


def _spread(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """So many of them, from all over the list, so that they stand for the rest."""
    if limit is None or limit >= len(items):
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def _bytes(folder: Folder) -> int:
    return sum(path.stat().st_size for path in folder.parts())


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
