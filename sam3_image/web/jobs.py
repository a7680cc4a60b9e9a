"""Work that a client starts now and asks about later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sam3_image.errors import UserError, shown
from sam3_image.web.shelf import MAX_BYTES, MAX_SECONDS, Busy, File, Gone, Shelf, new_id

STARTING, RUNNING = "starting", "processing"
SUCCEEDED, FAILED, CANCELED = "succeeded", "failed", "canceled"
FINISHED = (SUCCEEDED, FAILED, CANCELED)

MAX_JOBS = 512
MAX_UNFINISHED = 64


@dataclass(frozen=True)
class Outcome:
    """What a job made."""

    files: tuple[File, ...]


Work = Callable[[], Awaitable[Outcome]]
Told = Callable[["Job"], None]


class Job:
    """One piece of work that runs by itself. Times are seconds since the epoch, or None.

    kind: whose it is, so that one client's jobs are not in another's list.
    about: what the client wants to see again (its own input).
    held: bytes that `work` holds until it is finished (the picture).
    """

    def __init__(
        self, kind: str, about: dict[str, Any], work: Work, held: int, told: Told | None
    ) -> None:
        self.id = new_id()
        self.kind = kind
        self.about = about
        self._held = held
        self.status = STARTING
        self.outcome: Outcome | None = None
        self.error: UserError | None = None
        self.created = time.time()
        self.started: float | None = None
        self.completed: float | None = None
        self._told = told
        self._task = asyncio.ensure_future(self._run(work))

    @property
    def finished(self) -> bool:
        """Whether nothing more will change."""
        return self.status in FINISHED

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory: the picture it works on, or its result."""
        if not self.finished:
            return self._held
        return sum(len(file.content) for file in self.outcome.files) if self.outcome else 0

    def cancel(self) -> None:
        """Stop it; one that is finished stays as it is."""
        if not self.finished:
            self._finish(CANCELED)
            self._task.cancel()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when it is finished, or after so many seconds."""
        await asyncio.wait([self._task], timeout=seconds)

    async def _run(self, work: Work) -> None:
        self.status, self.started = RUNNING, time.time()
        self._tell()
        try:
            outcome = await work()
        except asyncio.CancelledError:
            self._finish(CANCELED)
        except UserError as error:
            self.error = error
            self._finish(FAILED)
        except Exception as error:
            # The person hears that it was not their fault; the log has what it was.
            print(f"job {self.id}: {type(error).__name__}: {error}", flush=True)
            self.error = UserError("The server failed on this request; its log says why.")
            self._finish(FAILED)
        else:
            if not self.finished:  # canceled at the very last moment
                self.outcome = outcome
                self._finish(SUCCEEDED)

    def _finish(self, status: str) -> None:
        if not self.finished:
            self.status, self.completed = status, time.time()
            self._tell()
            self._told = None  # it may hold the request, with its body

    def _tell(self) -> None:
        if self._told is not None:
            self._told(self)


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
        self._max_unfinished, self._max_bytes = max_unfinished, max_bytes
        self._shelf: Shelf[Job] = Shelf(
            "job", max_jobs, max_bytes, max_seconds, clock, gone=Job.cancel
        )

    def start(
        self,
        kind: str,
        work: Work,
        about: dict[str, Any] | None = None,
        held: int = 0,
        told: Told | None = None,
    ) -> Job:
        """Begin `work`, see `Job`; raises Busy. told: is called at each change of its status."""
        waiting = [job for job in self._shelf.values() if not job.finished]
        size = sum(job.size for job in waiting) + held
        if len(waiting) >= self._max_unfinished or (waiting and size > self._max_bytes):
            raise Busy(
                f"{len(waiting)} jobs are waiting, which is all that may "
                "(SAM3_WEB_MAX_WAITING where the server runs): try again later."
            )

        def changed(job: Job) -> None:
            if job.id in self._shelf:  # its place in the order is that of its last change
                self._shelf.put(job.id, job, job.size)
            if told is not None:
                told(job)

        job = Job(kind, about or {}, work, held, changed)
        self._shelf.put(job.id, job, job.size)
        return job

    def get(self, kind: str, job_id: str) -> Job:
        """Return the job; raises Gone."""
        job = self._shelf.get(job_id)
        if job.kind != kind:
            raise Gone(f"No job {shown(job_id)} is kept here.")
        return job

    def of(self, kind: str) -> list[Job]:
        """All jobs of this kind, the one that changed last first."""
        return [job for job in self._shelf.values() if job.kind == kind]
