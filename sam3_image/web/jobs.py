"""Work that a client starts now and asks about later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from sam3_image.errors import UserError, shown
from sam3_image.output import RenderedFile
from sam3_image.report import LOG
from sam3_image.web.store import MAX_BYTES, MAX_SECONDS, BoundedStore, BusyError, GoneError, new_id

STARTING, RUNNING = "starting", "processing"
SUCCEEDED, FAILED, CANCELED = "succeeded", "failed", "canceled"
FINISHED = (SUCCEEDED, FAILED, CANCELED)

MAX_JOBS = 512
MAX_UNFINISHED = 64

MAX_FOLLOWED = 64  # jobs with a webhook, until it is delivered or given up

Outcome = Sequence[RenderedFile]
Work = Callable[[], Awaitable[Outcome]]


class WebJob:
    """One piece of work that runs by itself. Times are seconds since the epoch, or None.

    kind: which client's it is. about: what the client wants to see again (its own input).
    outcome: the files that it made, once it has succeeded. error: why it failed.
    """

    def __init__(
        self,
        kind: str,
        work: Work,
        about: dict[str, Any],
        held: int,
        changed: Callable[[WebJob], None],
    ) -> None:
        """Start `work`.

        held: bytes that `work` holds until it is finished.
        changed: called at each change of status.
        """
        self.id = new_id()
        self.kind = kind
        self.about = about
        self.status = STARTING
        self.outcome: Outcome | None = None
        self.error: UserError | None = None
        self.created = time.time()
        self.started: float | None = None
        self.completed: float | None = None
        self._held = held
        self._about_size = len(repr(about)) if about else 0
        self._changed = changed
        self._task = asyncio.ensure_future(self._run(work))

    @property
    def finished(self) -> bool:
        """Whether its status can no longer change."""
        return self.status in FINISHED

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps in memory: its input while it runs, then its result."""
        made = sum(len(file.data) for file in self.outcome or ())
        return self._about_size + (made if self.finished else self._held)

    def cancel(self) -> None:
        """Stop it; a finished job stays as it is."""
        if not self.finished:
            self._finish(CANCELED)
            self._task.cancel()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when it is finished, or after so many seconds."""
        await asyncio.wait([self._task], timeout=seconds)

    async def _run(self, work: Work) -> None:
        self.status, self.started = RUNNING, time.time()
        self._changed(self)
        try:
            outcome = await work()
        except asyncio.CancelledError:
            self._finish(CANCELED)
        except UserError as error:
            self.error = error.with_traceback(None)  # its frames would keep the image alive
            self._finish(FAILED)
        except Exception:  # a fault of the server: logged whole, and the client gets a sentence
            LOG.exception("job %s failed", self.id)
            self.error = UserError("The server failed on this request; its log says why.")
            self._finish(FAILED)
        else:
            if not self.finished:  # canceled at the very last moment
                self.outcome = outcome
                self._finish(SUCCEEDED)

    def _finish(self, status: str) -> None:
        if not self.finished:
            self.status, self.completed = status, time.time()
            self._changed(self)


Follow = Callable[[WebJob], Coroutine[Any, Any, None]]


class Jobs:
    """The jobs of all clients together."""

    def __init__(
        self,
        max_jobs: int = MAX_JOBS,
        max_unfinished: int = MAX_UNFINISHED,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a job yet; a job that is dropped from the store is canceled."""
        self._max_unfinished, self._max_bytes = max_unfinished, max_bytes
        self._store: BoundedStore[WebJob] = BoundedStore(
            "job", max_jobs, max_bytes, max_seconds, clock, dropped=WebJob.cancel
        )
        self._followers: set[asyncio.Task[None]] = set()

    def start(
        self,
        kind: str,
        work: Work,
        about: dict[str, Any] | None = None,
        held: int = 0,
        count: int = 1,
        follow: Follow | None = None,
    ) -> list[WebJob]:
        """Begin `work` so many times, all or none, see `WebJob`; raises BusyError.

        follow: runs beside each job and may go on after it.
        """
        if follow is not None and len(self._followers) >= MAX_FOLLOWED:
            raise BusyError(
                f"The webhooks of {len(self._followers)} jobs wait for an answer, which is the "
                "limit: try again later, or leave the webhook out."
            )
        waiting = self.unfinished()
        size = sum(job.nbytes for job in waiting) + held * count
        too_many = len(waiting) + count > self._max_unfinished
        if too_many or (waiting and size > self._max_bytes):
            raise BusyError(
                f"{len(waiting)} jobs are waiting, and at most {self._max_unfinished} may "
                "(SAM3_WEB_MAX_WAITING where the server runs): try again later."
            )
        jobs = [WebJob(kind, work, about or {}, held, self._changed) for _ in range(count)]
        for job in jobs:
            self._store.put(job.id, job, job.nbytes)
            if follow is not None:
                task = asyncio.ensure_future(follow(job))
                self._followers.add(task)
                task.add_done_callback(self._followers.discard)
        return jobs

    def get(self, kind: str, job_id: str) -> WebJob:
        """The job; raises GoneError."""
        job = self._store.get(job_id)
        if job.kind != kind:
            raise GoneError(f"No job {shown(job_id)} is kept here.")
        return job

    def of(self, kind: str) -> list[WebJob]:
        """All jobs of this kind, the one that changed last first."""
        return [job for job in self._store.values() if job.kind == kind]

    def unfinished(self) -> list[WebJob]:
        """All jobs that wait or run."""
        return [job for job in self._store.values() if not job.finished]

    async def finish(self, seconds: float) -> None:
        """Give unfinished jobs and their followers so many seconds, then cancel them."""
        waits = [asyncio.ensure_future(job.wait()) for job in self.unfinished()]
        if waits or self._followers:
            await asyncio.wait([*waits, *self._followers], timeout=seconds)
        for job in self.unfinished():
            job.cancel()
        for task in self._followers:
            task.cancel()

    def _changed(self, job: WebJob) -> None:
        if job.id in self._store:  # its place in the order is that of its last change
            self._store.put(job.id, job, job.nbytes)
