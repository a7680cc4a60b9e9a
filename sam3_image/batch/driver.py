"""A job from its first shard to its last row, the same over processes and over Ray actors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from sam3_image.batch import marks, schema
from sam3_image.batch.folder import LOGS, Folder, unwritable
from sam3_image.batch.items import Item
from sam3_image.batch.job import SHOWN_ERRORS, Job, Manifest, Shard
from sam3_image.batch.pool import Died, Event, Failed, Finished, Pool
from sam3_image.batch.schedule import ATTEMPTS, Schedule
from sam3_image.errors import UserError

TICK = 1.0  # seconds between two looks at the clock when nothing happens
FUTILE_DEATHS = 3  # of workers in a row that had not begun to work: no image is at fault


@dataclass
class Totals:
    """What a run has done so far; the clock's seconds are sums over images and workers."""

    ready: int = 0  # times that a worker had loaded the model
    rows: int = 0
    failed: int = 0
    instances: int = 0
    parts: int = 0
    deaths: int = 0
    memory: int = 0  # bytes, the largest worker
    errors: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, manifest: Manifest) -> None:
        """Count one part."""
        self.rows += manifest.rows
        self.failed += manifest.failed
        self.instances += manifest.instances
        self.parts += 1
        self.memory = max(self.memory, manifest.memory)
        self.errors = [*self.errors, *manifest.errors][:SHOWN_ERRORS]
        for name, seconds in manifest.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def drive(job: Job, items: Sequence[Item], pool: Pool, watch: Callable[[Totals], None]) -> Totals:
    """Segment all `items` and return what was done; every one has a row then.

    watch: called at least once a second with what is done so far. Raises UserError for what ends
    the job before that; what was written stays. The pool is closed in the end.
    """
    task = _Drive(job, items, pool, watch)
    try:
        totals = task.run()
    except OSError as error:
        raise unwritable(job.folder.path, error) from None
    finally:
        pool.close()
        task.forgive()
    task.give_up()
    return totals


class _Drive:
    def __init__(
        self, job: Job, items: Sequence[Item], pool: Pool, watch: Callable[[Totals], None]
    ) -> None:
        self.job = job
        self.folder: Folder = job.folder
        self.pool = pool
        self.watch = watch
        self.totals = Totals()
        self.futile = 0
        self.idle: list[int] = []
        self.busy: dict[int, Shard] = {}
        left = marks.leftovers(self.folder.marks)
        self.schedule = Schedule(items, left, pool.size, self.folder.session)

    def run(self) -> Totals:
        while self.busy or not self.schedule.empty:
            for event in self.pool.wait(TICK):
                self.take(event)
            self.give()
            self.watch(self.totals)
        return self.totals

    def forgive(self) -> None:
        """Return what was at hand when the job was ended is to blame for nothing."""
        with contextlib.suppress(OSError):
            for shard in self.busy.values():
                self.folder.forgive(shard.name)

    def take(self, event: Event) -> None:
        if isinstance(event, Failed):
            raise event.error
        shard = self.busy.pop(event.worker, None)
        if isinstance(event, Died):
            self.bury(event, shard)
            return
        if isinstance(event, Finished):
            self.futile = 0
            self.count(event.manifest)
        else:
            self.totals.ready += 1
        self.idle.append(event.worker)

    def give(self) -> None:
        while self.idle:
            shard = self.schedule.next(len(self.busy))
            if shard is None:
                return
            worker = self.idle.pop(0)
            self.busy[worker] = shard
            self.pool.give(worker, shard)

    def bury(self, event: Died, shard: Shard | None) -> None:
        """Return a worker died: take its shard back, unless its part is there already."""
        self.totals.deaths += 1
        if event.worker in self.idle:
            self.idle.remove(event.worker)
        leftover = None
        if shard:
            if self.folder.revoke(shard.name):
                self.count(self.published(shard))
                return
            leftover = marks.read(self.folder.marks / (shard.name + marks.DEAD))
            self.schedule.died(shard, leftover)
        self.futile = 0 if leftover else self.futile + 1
        if self.futile >= FUTILE_DEATHS:
            raise UserError(
                f"{self.futile} workers in a row died before they began to work ({event.reason}): "
                "there may be too little memory for so many (try --workers 1); what they printed "
                f"is in {self.folder.work / LOGS}"
            )

    def published(self, shard: Shard) -> Manifest:
        """Return the manifest of a part whose worker died before it could send one."""
        rows = pq.read_table(self.folder.part(shard.name)).to_pylist()
        errors = [(row["uri"], row["error"]) for row in rows if row["status"] == schema.ERROR]
        return Manifest(
            len(rows), len(errors), sum(len(row["instances"]) for row in rows), tuple(errors)
        )

    def count(self, manifest: Manifest) -> None:
        self.schedule.finished(manifest)
        self.totals.add(manifest)

    def give_up(self) -> None:
        """Write error rows for the images that have used up their attempts; forget all marks."""
        try:
            if self.schedule.given_up:
                error = (
                    f"The process died {ATTEMPTS} times over this image alone: it needs more "
                    "memory than there is, or its decoder crashes. Segment it on a larger machine, "
                    "or save it in another format."
                )
                uris = [item.uri for item in self.schedule.given_up]
                rows = [schema.error_row(uri, error, 0.0) for uri in uris]
                name = f"{self.folder.session}-given-up"
                mark = self.folder.begin(name, uris, alone=False)
                self.folder.publish(name, schema.table(rows, self.job.metadata))
                mark.remove()
                errors = tuple((uri, error) for uri in uris)
                self.totals.add(Manifest(len(rows), len(rows), 0, errors))
            for leftover in self.folder.marks.iterdir():
                leftover.unlink()
        except OSError as problem:
            raise unwritable(self.folder.path, problem) from None
