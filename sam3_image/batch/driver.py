"""A job from its first shard to its last row, the same over processes and over Ray actors."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from sam3_image.batch import results, schema
from sam3_image.batch.job import BatchJob, Manifest, Shard
from sam3_image.batch.pool import WorkerAnswer, WorkerPool
from sam3_image.batch.reader import Item
from sam3_image.batch.results import Attempts, Lock
from sam3_image.batch.schedule import ALONE_ATTEMPTS, Schedule
from sam3_image.batch.storage import reason
from sam3_image.errors import UserError

TICK = 1.0  # seconds between two looks at the clock when nothing happens
FUTILE_DEATHS = 3  # of workers in a row that had not loaded the model: no image is at fault
GIVEN_UP = (
    f"The process died {ALONE_ATTEMPTS} times over this image alone: it needs more memory than "
    "there is, or its decoder crashes. Segment it on a larger machine, or save it in another "
    "format."
)


@dataclass
class Totals:
    """What a run has done so far; `seconds` by stage are sums over images and workers."""

    ready: int = 0  # times that a worker had loaded the model
    rows: int = 0
    failed: int = 0
    instances: int = 0
    deaths: int = 0
    memory: int = 0  # bytes, the largest worker
    parts: set[str] = field(default_factory=set)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, manifest: Manifest) -> None:
        """Count one part."""
        self.rows += manifest.rows
        self.failed += manifest.failed
        self.instances += manifest.instances
        self.memory = max(self.memory, manifest.memory)
        self.parts.add(manifest.part)
        self.seconds.update(manifest.seconds)


def drive(
    job: BatchJob,
    items: Sequence[Item],
    pool: WorkerPool,
    lock: Lock,
    watch: Callable[[Totals], None],
) -> Totals:
    """Segment all `items` and return what was done; every one has a row then.

    watch: called at least once a second with what is done so far. Raises UserError for what ends
    the job before that; what was written stays. The pool is closed in the end.
    """
    task = _Drive(job, items, pool)
    try:
        while task.working:
            task.take()
            task.give()
            lock.require_held()
            watch(task.totals)
        task.give_up()
    except OSError as error:
        raise job.folder.unwritable(error) from None
    finally:
        pool.close()
        # What was in hand when the job was stopped is not suspected; what ended it is said already.
        task.attempts.in_hand = []
        with contextlib.suppress(OSError):
            task.attempts.save(job.folder)
    return task.totals


class _Drive:
    def __init__(self, job: BatchJob, items: Sequence[Item], pool: WorkerPool) -> None:
        self.job = job
        self.pool = pool
        self.totals = Totals()
        self.futile = 0
        self.idle: list[int] = []
        # Each worker's future, and its shard: None while it loads the model.
        self.busy: dict[Future[WorkerAnswer], tuple[int, Shard | None]] = {}
        self.attempts = Attempts.of(job.folder)
        self.schedule = Schedule(items, self.attempts, pool.size)
        for worker in range(pool.size):
            self.busy[pool.start_worker(worker)] = worker, None

    @property
    def shards(self) -> list[Shard]:
        """The shards in hand."""
        return [shard for _, shard in self.busy.values() if shard]

    @property
    def working(self) -> bool:
        return bool(self.shards) or not self.schedule.empty

    def take(self) -> None:
        """Wait for answers of workers, for a second at most, and handle them."""
        done, _ = wait(self.busy, TICK, FIRST_COMPLETED)
        for future in done:
            worker, shard = self.busy.pop(future)
            try:
                answer = future.result()
            except Exception as error:  # its process is gone, in one way or another
                self.replace(worker, shard, error)
                continue
            if isinstance(answer, UserError):
                raise answer
            self.idle.append(worker)
            if answer is None:
                self.totals.ready += 1
                self.futile = 0
            else:
                self.count(answer)

    def give(self) -> None:
        """Hand shards to idle workers; what is in hand is written down first."""
        given: list[tuple[int, Shard]] = []
        while self.idle and (shard := self.schedule.next(len(self.shards) + len(given))):
            given.append((self.idle.pop(0), shard))
        if given:
            in_hand = [*self.shards, *(shard for _, shard in given)]
            self.attempts.in_hand = [shard.uris for shard in in_hand]
            self.attempts.save(self.job.folder)
        for worker, shard in given:
            self.busy[self.pool.submit(worker, shard)] = worker, shard

    def replace(self, worker: int, shard: Shard | None, error: Exception) -> None:
        """Put a dead worker's shard back in the queue, unless its part is there already."""
        self.totals.deaths += 1
        if shard is None:
            self.futile += 1
        elif (name := results.part_name(shard.uris)) in self.job.folder.files():
            rows = results.read_part(self.job.folder, name).to_pylist()
            self.count(results.manifest(name, rows))
        else:
            self.schedule.died(shard)
        if self.futile >= FUTILE_DEATHS:
            raise UserError(
                f"{self.futile} workers in a row died before they began to work "
                f"({type(error).__name__}: {reason(error)}): there may be too little memory for so "
                f"many (try --workers 1); what they printed is in {self.job.scratch}"
            )
        self.busy[self.pool.start_worker(worker)] = worker, None

    def count(self, manifest: Manifest) -> None:
        self.schedule.finished(manifest)
        self.totals.add(manifest)

    def give_up(self) -> None:
        """Write error rows for the images that have used up their attempts."""
        if self.schedule.given_up:
            error = schema.error_result(GIVEN_UP, 0.0)
            rows = [schema.row_of(item, error) for item in self.schedule.given_up]
            name = results.publish(self.job.folder, rows, self.job.metadata)
            self.totals.add(results.manifest(name, rows))
        self.attempts.deaths.clear()
