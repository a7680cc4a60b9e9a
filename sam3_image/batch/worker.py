"""The worker of a job: it segments the images of a shard and publishes their rows as one part.

The same worker runs in a process of this machine and in an actor of a Ray cluster. While the model
works on one image, the next ones are read and decoded and the rows of the last ones are made.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sam3_image.batch import schema
from sam3_image.batch.folder import unwritable
from sam3_image.batch.items import Item, Reader, SourceError, UnreachableError
from sam3_image.batch.job import SHOWN_ERRORS, Engine, Found, Job, Manifest, Shard
from sam3_image.batch.marks import Mark
from sam3_image.decode import Image, Limits
from sam3_image.errors import MemoryLimitError, UserError
from sam3_image.settings import Settings

READ_AHEAD = 2  # images that are read beforehand, beside those that are decoded beforehand
ROWS_BEHIND = 1  # images whose rows are made while the model works; each holds its pixels
# So many images in a row that could not be fetched: it is the source that is out of order.
UNREACHABLE = 10
DEVICE_LOST = 70  # exit status of a worker whose device computes nothing any more


class ShardWorker:
    """Holds the model; `run` takes one shard after the other. It has its process for itself."""

    def __init__(self, job: Job) -> None:
        """Load the model; raises UserError."""
        self._job = job
        tempfile.tempdir = str(job.folder.temporary)
        self._engine = (job.engine or _load)(job)
        self._reader = Reader(Limits.of(Settings.from_environment(job.environment)), job.root)
        self._ahead = job.decoders + READ_AHEAD
        self._openers = ThreadPoolExecutor(self._ahead, "open")
        self._decoding = threading.Semaphore(job.decoders)
        self._writers = ThreadPoolExecutor(1, "rows")
        self._clock = _Clock()
        self._unreachable = 0
        self._deferred: list[Item] = []
        self._mark: Mark | None = None

    def run(self, shard: Shard) -> Manifest:
        """Segment the images of a shard and publish their rows.

        Raises SourceError where the source is out of reach and OutputError where the part cannot
        be written, SupersededError where the shard is not this worker's any more. After an error
        that it raises the shard has no mark: only death leaves one.
        """
        begun = time.perf_counter()
        self._clock = _Clock()
        self._deferred = []
        try:
            uris = [item.uri for item in shard.items]
            self._mark = self._job.folder.begin(shard.name, uris, shard.alone)
            try:
                rows = list(self._rows(shard, self._mark))
                with self._clock.stage("write"):
                    table = schema.table(rows, self._job.metadata)
                    self._job.folder.publish(shard.name, table)
            finally:
                self.drop()
        except OSError as error:
            raise unwritable(self._job.folder.path, error) from None
        return self._manifest(rows, time.perf_counter() - begun)

    def drop(self) -> None:
        """Give up the shard at hand through no fault of its images."""
        mark, self._mark = self._mark, None
        if mark:
            mark.remove()

    def _rows(self, shard: Shard, mark: Mark) -> Iterator[schema.Row]:
        """Return the rows of a shard's images, without those that memory did not suffice for.

        They are collected in `_deferred` and come back alone, when nobody else needs memory.
        """
        behind: deque[Future[schema.Row]] = deque()
        for index, item, opened, seconds in self._opened(shard.items, mark):
            found, size, more = self._segmented(opened)
            if isinstance(found, MemoryLimitError) and not shard.alone:
                self._deferred.append(item)
                mark.finished(index)
                continue
            behind.append(self._row(index, item, found, size, seconds + more, mark))
            while len(behind) > ROWS_BEHIND:
                yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()

    def _opened(
        self, items: Sequence[Item], mark: Mark
    ) -> Iterator[tuple[int, Item, Image | UserError, float]]:
        """Each image decoded, or why not, and the seconds it took; the next ones beforehand."""
        todo = iter(enumerate(items))
        waiting: deque[tuple[int, Item, Future[tuple[Image | UserError, float]]]] = deque()

        def take_up(count: int) -> None:
            for _, (index, item) in zip(range(count), todo, strict=False):
                mark.started(index)
                waiting.append((index, item, self._openers.submit(self._open, item)))

        take_up(self._ahead)
        while waiting:
            index, item, future = waiting.popleft()
            with self._clock.stage("wait for an image"):
                opened, seconds = future.result()
            self._count_unreachable(opened)
            take_up(1)
            yield index, item, opened, seconds

    def _open(self, item: Item) -> tuple[Image | UserError, float]:
        begun = time.perf_counter()
        opened: Image | UserError
        try:
            with self._clock.stage("read"):
                data = self._reader.read(item)
            with self._decoding, self._clock.stage("decode"):
                opened = self._engine.open(data)
        except SourceError:
            raise
        except UserError as error:
            opened = error
        except Exception as error:
            opened = _unexpected(error)
        return opened, time.perf_counter() - begun

    def _segmented(
        self, opened: Image | UserError
    ) -> tuple[Found | UserError, tuple[int, int] | None, float]:
        """Return what is in an image, its (height, width), and the seconds it took."""
        if isinstance(opened, UserError):
            return opened, None, 0.0
        begun = time.perf_counter()
        found: Found | UserError
        try:
            with self._clock.stage("segment"):
                found = self._engine.segment(opened)
        except UserError as error:
            found = error
        except Exception as error:
            if not self._engine.healthy():
                os._exit(DEVICE_LOST)  # with its mark: a fresh process takes the image up alone
            found = _unexpected(error)
        return found, opened.size, time.perf_counter() - begun

    def _row(
        self,
        index: int,
        item: Item,
        found: Found | UserError,
        size: tuple[int, int] | None,
        seconds: float,
        mark: Mark,
    ) -> Future[schema.Row]:
        """Return the row of an image, made in a thread of its own while the model goes on."""

        def make() -> schema.Row:
            with self._clock.stage("rows"):
                if isinstance(found, UserError):
                    row = schema.error_row(item.uri, found, seconds, size)
                else:
                    row = schema.ok_row(item.uri, found.annotations("rle"), seconds)
            mark.finished(index)
            return row

        return self._writers.submit(make)

    def _count_unreachable(self, opened: object) -> None:
        if not isinstance(opened, UnreachableError):
            self._unreachable = 0
            return
        self._unreachable += 1
        if self._unreachable >= UNREACHABLE:
            raise SourceError(
                f"the last {UNREACHABLE} images could not be fetched, so it is not they that are "
                f"at fault: {opened} and run the same command again; what was written stays"
            )

    def _manifest(self, rows: list[schema.Row], elapsed: float) -> Manifest:
        errors = [(row["uri"], row["error"]) for row in rows if row["status"] == schema.ERROR]
        return Manifest(
            rows=len(rows),
            failed=len(errors),
            instances=sum(len(row["instances"]) for row in rows),
            errors=tuple(errors[:SHOWN_ERRORS]),
            seconds=self._clock.seconds,
            elapsed=elapsed,
            memory=resident_bytes(),
            deferred=tuple(self._deferred),
        )


class _Clock:
    """Seconds by stage, added up from several threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begun
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def resident_bytes() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _load(job: Job) -> Engine:
    # Imported only now: without the model a worker is there in half the time.
    from sam3_image.batch.engine import Model

    return Model(job)


def _unexpected(error: Exception) -> UserError:
    """Return what no image should be able to cause is an error of this image all the same."""
    return UserError(
        f"The image could not be segmented ({type(error).__name__}: {str(error)[:120]}): this is "
        "a fault of the program; please report it with the image."
    )
