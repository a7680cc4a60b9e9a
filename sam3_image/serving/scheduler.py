"""Who works when: a few host threads for whole requests, and one thread for the device.

Decoding, masks, rendering and PNG leave Python's lock, so the requests of several host threads
overlap with one another and with the device. torch's inference mode belongs to a thread, and the
caches of features are not made for several, so one thread has both to itself. Each request comes to
it with one bounded step at a time (an encoder pass, a few concepts or points, a batch of tiles) and
queues again for the next one: a long request costs the others its share of the device, and no more.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sam3_image import model as models
from sam3_image.masks import Detections
from sam3_image.report import Report
from sam3_image.serving.memory import within_memory

if TYPE_CHECKING:  # transformers takes seconds, in which a service reads its weights
    from sam3_image.model import Features, ModelInput, Segmenter, Task

T = TypeVar("T")

# While one request is on the device, others must be ready for it and others again be compressed:
# with four threads a device that takes 40 ms idles now and then, with six it does not. The number
# bounds how many decoded images there are, and with it the memory.
THREADS = 6


# How long a thread of Python code may keep Python's lock while others want it. The device's thread
# leaves the lock at every operation, a thousand times a pass, and waits that long to get it back:
# at Python's own 5 ms, 500 such calls took 3.3 s beside one busy thread; at 0.2 ms 0.07 s, and the
# other thread did as much as before.
SWITCH_SECONDS = 2e-4


class CanceledError(Exception):
    """Raised inside work whose caller has left. Never shown to a person.

    Not a kind of asyncio's CancelledError, which would end the event loop's task instead.
    """


class Job(Generic[T]):
    """One request that waits or runs: await it, or block for its `result()`.

    report: its log and metrics. The time spent waiting is the metric `timing.queue`.
    """

    def __init__(self, report: Report) -> None:
        """For `HostPool.submit`."""
        self.report = report
        self._canceled = threading.Event()
        self._submitted = time.perf_counter()
        self._future: Future[T]

    def result(self, timeout: float | None = None) -> T:
        """Block until the work is done and return what it returned, or raise what it raised.

        timeout: in seconds; then TimeoutError, and the work goes on. Ctrl-C here cancels the
        work. Raises CanceledError after `cancel()`.
        """
        try:
            return self._future.result(timeout)
        except CancelledError:
            raise CanceledError from None
        except KeyboardInterrupt:
            self.cancel()
            raise

    def __await__(self) -> Generator[Any, None, T]:
        """For an event loop; canceling the awaiting task cancels the work."""
        try:
            return (yield from asyncio.wrap_future(self._future).__await__())
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Drop the work if it waits; if it runs, it ends at its next `check()`."""
        self._canceled.set()
        self._future.cancel()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call `call` once the work has ended in any way, at once if it has already."""
        self._future.add_done_callback(lambda _: call())

    @property
    def seconds(self) -> float:
        """Seconds since the job was submitted."""
        return time.perf_counter() - self._submitted

    @property
    def canceled(self) -> bool:
        """Whether `cancel()` was called."""
        return self._canceled.is_set()

    def check_canceled(self) -> None:
        """Raise CanceledError once the job is canceled; to be called between stages."""
        if self.canceled:
            raise CanceledError

    def _run(self, work: Callable[[Job[T]], T]) -> T:
        self.report.waited(self.seconds)
        self.check_canceled()
        try:
            return work(self)
        except StopIteration as error:  # an event loop cannot pass it on
            raise RuntimeError(f"StopIteration: {error}") from error
        except Exception:  # passes as it is; only what is not an Exception is changed below
            raise
        except BaseException as error:  # SystemExit in an event loop would end the server
            raise RuntimeError(f"{type(error).__name__}: {error}") from error


class HostPool:
    """A bounded number of threads, first come, first served."""

    def __init__(self, threads: int = THREADS) -> None:
        """The threads start as they are needed."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="host")
        self._lock = threading.Lock()
        self._unfinished = 0

    def submit(self, work: Callable[[Job[T]], T], report: Report | None = None) -> Job[T]:
        """Queue `work(job)`.

        It runs in a copy of the caller's context, so that what it prints reaches the log of the
        prediction that it belongs to.
        """
        job: Job[T] = Job(report or Report())
        context = contextvars.copy_context()
        with self._lock:
            self._unfinished += 1
        try:
            job._future = self._executor.submit(context.run, job._run, work)
        except BaseException:
            self._finished()
            raise
        job._future.add_done_callback(self._finished)
        return job

    @property
    def unfinished(self) -> int:
        """How many jobs wait or run."""
        return self._unfinished

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._unfinished == 0

    def close(self) -> None:
        """Drop what waits and wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _finished(self, *_: object) -> None:
        with self._lock:
            self._unfinished -= 1


class DeviceExecutor:
    """One thread for the device.

    A step that runs out of memory is tried once more when cached memory was given back; if that is
    not enough, MemoryLimitError ends only this step's request.
    """

    def __init__(self, forget: Callable[[], None], limit: float | None = None) -> None:
        """Start nothing yet, but set Python's switch interval for the whole process.

        forget: gives cached memory back after an out-of-memory; runs on the device thread.
        limit: seconds after which a step that has not ended counts as hung; None for a device
            that may be slow but cannot be lost.
        """
        self._forget = forget
        self._limit = limit
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="device")
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        self._thread: int | None = None
        self._began: float | None = None

    def run(self, step: Callable[[], T]) -> T:
        """Block until the step has had its turn; returns what it returned, raises what it raised.

        A step may call this itself: it then runs at once.
        """
        if threading.get_ident() == self._thread:
            return step()
        return self._executor.submit(self._guarded, step).result()

    def probe(self, step: Callable[[], bool]) -> bool:
        """What `step` returns when its turn comes; False once the step before it hangs."""
        future: Future[bool] = self._executor.submit(self._guarded, step)
        while True:
            try:
                return future.result(timeout=1)
            except FutureTimeout:
                if self.hangs:
                    future.cancel()
                    return False

    @property
    def hangs(self) -> bool:
        """Whether the step that runs now has run past the limit: the device is lost."""
        began = self._began
        return (
            self._limit is not None and began is not None and time.monotonic() - began > self._limit
        )

    def close(self) -> None:
        """Let the running step end; nothing may be run afterwards."""
        self._executor.shutdown(wait=not self.hangs, cancel_futures=True)

    def _guarded(self, step: Callable[[], T]) -> T:
        self._thread = threading.get_ident()
        self._began = time.monotonic()
        try:
            return within_memory(step, self._forget, tries=2)
        finally:
            self._began = None


@dataclass(frozen=True)
class ScheduledModel:
    """A segmenter as one request of many sees it: each step waits for its turn on the device.

    Time spent waiting is the request's `timing.queue`. Every call raises CanceledError once the
    request is canceled, on the device thread too: a canceled step costs nothing.
    """

    segmenter: Segmenter
    device: DeviceExecutor
    job: Job[Any]

    def __getattr__(self, name: str) -> Any:
        """What does not touch the device is the segmenter's own."""
        return getattr(self.segmenter, name)

    def encode(self, image: ModelInput) -> Features:
        """As `Segmenter.encode`."""
        return self._turn(lambda: self.segmenter.encode(image))

    def encode_all(self, crops: Sequence[ModelInput]) -> list[Features]:
        """As `Segmenter.encode_all`."""
        return self._turn(lambda: self.segmenter.encode_all(crops))

    def segment(
        self,
        features: Features,
        task: Task,
        mask_threshold: float = 0.5,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detections:
        """As `Segmenter.segment`; other requests get their turns between its steps."""
        steps = self.segmenter.steps(features, task, mask_threshold)
        found: list[Detections] = []
        for step in steps:
            found.append(self._turn(step))
            if progress is not None:
                progress(len(found), len(steps))
        self.job.check_canceled()
        return models.merged(found, task)

    def _turn(self, step: Callable[[], T]) -> T:
        self.job.check_canceled()
        asked = time.perf_counter()

        def run() -> T:
            nonlocal asked
            asked, since = time.perf_counter(), asked  # it may run twice, see `DeviceExecutor`
            self.job.report.waited(asked - since)
            self.job.check_canceled()
            return step()

        return self.device.run(run)
