"""The worker of a job: it segments the images of a shard and publishes their rows as one part.

The same worker runs in a process of this machine and in an actor of a Ray cluster. While the model
works on one image, the next ones are read and decoded and the row of the last one is made.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from PIL import Image as Pillow

from sam3_image.batch import results, schema
from sam3_image.batch.job import BatchJob, Manifest, Shard
from sam3_image.batch.reader import ImageReader, Item, UnreachableError
from sam3_image.batch.storage import SourceError
from sam3_image.decode import Image, Limits
from sam3_image.errors import MemoryLimitError, UserError
from sam3_image.instances import Instances
from sam3_image.report import LOG, log_to_stdout
from sam3_image.settings import Settings

READ_AHEAD = 2  # images that are read in advance, beside those that are decoded in advance
ROWS_BEHIND = 1  # images whose rows are made while the model works; each holds its pixels
# After so many images in a row that could not be fetched, see whether the source is still there.
UNREACHABLE = 10
DEVICE_LOST = 70  # exit status of a worker whose device no longer computes
OVERLAYS = "_overlays"  # readers of a folder of Parquet skip names that begin so
OVERLAY_SIDE = 1600  # pixels of the longer side
WAIT = "wait for an image"

Opened = tuple[Image | UserError, float]


class ShardWorker:
    """Holds the model; `run` takes one shard after the other. It has its process for itself."""

    def __init__(self, job: BatchJob) -> None:
        """Load the model; raises UserError."""
        self._job = job
        log_to_stdout()  # which is a file of the job, or Ray's log
        if job.scratch.is_dir():  # so that the driver can tidy up after a worker that was killed
            tempfile.tempdir = str(job.scratch)
        if job.engine:
            self._engine = job.engine(job)
        else:  # imported only now: a test's worker without the model is there in half the time
            from sam3_image.batch.engine import BatchModel

            self._engine = BatchModel(job.inputs, job.environment, job.threads)
        self._reader = ImageReader(Limits.of(Settings.from_environment(job.environment)), job.root)
        self._ahead = job.decoders + READ_AHEAD
        self._openers = ThreadPoolExecutor(self._ahead, "open")
        self._decoding = threading.Semaphore(job.decoders)
        self._writer = ThreadPoolExecutor(1, "rows")
        self._seconds: Counter[str] = Counter()  # by stage, from several threads
        self._unreachable = 0

    def run(self, shard: Shard) -> Manifest:
        """Segment the images of a shard and publish their rows.

        Raises SourceError if the source is out of reach and OutputError if the part cannot be
        written. Images that memory did not suffice for are deferred: they get no row yet.
        """
        begun = time.perf_counter()
        self._seconds.clear()
        deferred: list[Item] = []
        made: list[Future[schema.Row]] = []
        try:
            for item, future in self._opened(shard.items):
                with self._stage(WAIT):
                    image, seconds = future.result()
                self._check_source(image)
                start = time.perf_counter()
                found = image if isinstance(image, UserError) else self._segment(image, item)
                if isinstance(found, MemoryLimitError) and not shard.alone:
                    deferred.append(item)
                    continue
                seconds += time.perf_counter() - start
                size = image.size if isinstance(image, Image) else None
                made.append(self._writer.submit(self._row, item, found, size, seconds))
                if len(made) > ROWS_BEHIND:
                    made[-1 - ROWS_BEHIND].result()
            rows = [future.result() for future in made]
            with self._stage("write"):
                folder, metadata = self._job.folder, self._job.metadata
                part = results.publish(folder, rows, metadata) if rows else ""
        except OSError as error:
            raise self._job.folder.unwritable(error) from None
        return results.manifest(
            part,
            rows,
            seconds=dict(self._seconds),
            elapsed=time.perf_counter() - begun,
            memory=psutil.Process().memory_info().rss,
            deferred=tuple(deferred),
        )

    def _opened(self, items: Sequence[Item]) -> Iterator[tuple[Item, Future[Opened]]]:
        """Yield the images in order while the next ones are being opened."""
        waiting: deque[tuple[Item, Future[Opened]]] = deque()
        for item in items:
            waiting.append((item, self._openers.submit(self._open, item)))
            if len(waiting) > self._ahead:
                yield waiting.popleft()
        yield from waiting

    def _open(self, item: Item) -> Opened:
        """Return an image, or why there is none, and the seconds it took."""
        begun = time.perf_counter()
        opened: Image | UserError
        try:
            with self._stage("read"):
                data = self._reader.read(item)
            with self._decoding, self._stage("decode"):
                opened = self._engine.decode(data)
        except SourceError:
            raise
        except UserError as error:
            opened = error
        except Exception as error:
            opened = _unexpected(error, item)
        return opened, time.perf_counter() - begun

    def _segment(self, image: Image, item: Item) -> Instances | UserError:
        try:
            with self._stage("segment"):
                found: Instances = self._engine.segment(image, item.prompts)
            return found
        except UserError as error:
            return error
        except Exception as error:
            if not self._engine.healthy():
                LOG.exception("the device no longer computes")
                os._exit(DEVICE_LOST)  # a fresh process takes the shard up
            return _unexpected(error, item)

    def _row(
        self,
        item: Item,
        found: Instances | UserError,
        size: tuple[int, int] | None,
        seconds: float,
    ) -> schema.Row:
        with self._stage("rows"):
            if isinstance(found, UserError):
                return schema.row_of(item, schema.error_result(found, seconds, size))
            if self._job.overlays:
                self._job.folder.put(overlay_name(item.uri), _jpeg(found), durable=False)
            return schema.row_of(item, schema.ok_result(found.annotations("rle"), seconds))

    def _check_source(self, opened: object) -> None:
        """Raise SourceError if nothing of the source can be reached any more.

        Single dead addresses, and many in a row, are errors of their images.
        """
        self._unreachable = self._unreachable + 1 if isinstance(opened, UnreachableError) else 0
        if self._unreachable < UNREACHABLE:
            return
        self._unreachable = 0
        if not any(self._reader.reachable(item) for item in self._job.probes):
            raise SourceError(
                f"the source is out of reach: {UNREACHABLE} images in a row could not be fetched, "
                f"nor could {len(self._job.probes)} from all over it. The last error: {opened}. "
                "Run the same command again when it is back; what was written stays"
            )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - begun  # type: ignore[assignment]


def overlay_name(uri: str) -> str:
    """Return where an image's overlay goes: its name, made safe, and a digest of its address."""
    name = re.sub(r"[^\w.-]", "_", uri.rpartition("/")[2])[-60:]
    return f"{OVERLAYS}/{name}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}.jpg"


def _jpeg(found: Instances) -> bytes:
    image = Pillow.fromarray(found.overlay(show_labels=True))
    image.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _unexpected(error: Exception, item: Item) -> UserError:
    """Turn an unexpected exception into an error row for this image; the log has its traceback."""
    LOG.error("unexpected exception over %s", item.uri, exc_info=error)
    return UserError(
        f"The image could not be segmented ({type(error).__name__}: {str(error)[:120]}): this is "
        "a fault of the program; please report it with the image."
    )
