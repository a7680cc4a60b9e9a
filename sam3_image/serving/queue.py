"""The waiting line: a few host threads, each of which runs one whole request from start to end.

Decoding, masks, rendering and PNG leave Python's lock, so the requests of several threads overlap
with one another and with the device, which has a thread to itself (`device_thread.py`).
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from sam3_image.serving.report import Report

T = TypeVar("T")

# While one request is on the device, others must be ready for it and others again be compressed:
# with four threads a device that takes 40 ms idles now and then, with six it does not. The number
# bounds how many decoded images there are, and with it the memory.
THREADS = 6


class CanceledError(Exception):
    """Raised inside work that nobody waits for any more. Never shown to a person.

    Not a kind of asyncio's CancelledError, which would end the event loop's task instead.
    """


class Job(Generic[T]):
    """One request in the waiting line or in work: await it, or block for its `result()`.

    report: its log and metrics. The time in the line is the metric `timing.queue`.
    """

    def __init__(self, report: Report) -> None:
        """For `HostPool.submit`."""
        self.report = report
        self._canceled = threading.Event()
        self._submitted = time.perf_counter()
        self._future: Future[T]

    def result(self, timeout: float | None = None) -> T:
        """Block until the work is done and return what it returned, or raise what it raised.

        timeout: in seconds; then TimeoutError, and the work goes on. A person's Ctrl-C here
        cancels the work. Raises CanceledError after `cancel()`.
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
        """Have `call` called once the work ended in whichever way, at once if it has."""
        self._future.add_done_callback(lambda _: call())

    @property
    def seconds(self) -> float:
        """Since the job was submitted."""
        return time.perf_counter() - self._submitted

    @property
    def canceled(self) -> bool:
        """Whether `cancel()` was called."""
        return self._canceled.is_set()

    def check(self) -> None:
        """Raise CanceledError once the job is canceled; to be called between stages."""
        if self.canceled:
            raise CanceledError

    def _run(self, work: Callable[[Job[T]], T]) -> T:
        self.report.waited(self.seconds)
        self.check()
        try:
            return work(self)
        except StopIteration as error:  # an event loop cannot pass it on
            raise RuntimeError(f"StopIteration: {error}") from error
        except Exception:  # every other one passes as it is, whoever awaits the job
            raise
        except BaseException as error:  # SystemExit in an event loop would end the server
            raise RuntimeError(f"{type(error).__name__}: {error}") from error


class HostPool:
    """A bounded number of threads; whoever comes first is served first."""

    def __init__(self, threads: int = THREADS) -> None:
        """With so many threads; they start as they are needed."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="host")
        self._lock = threading.Lock()
        self._unfinished = 0

    def submit(self, work: Callable[[Job[T]], T], report: Report | None = None) -> Job[T]:
        """Put `work(job)` at the end of the line.

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
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._unfinished == 0

    def close(self) -> None:
        """Drop what waits and wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _finished(self, *_: object) -> None:
        with self._lock:
            self._unfinished -= 1
