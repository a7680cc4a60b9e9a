"""Work that a client starts now and asks about later, and the files that it uploads before.

Everything here is bounded: in how many, in bytes, and in age. What is over a bound goes, the
oldest first; whoever asks for it later is told that it is gone. Used from the event loop only, so
nothing takes a lock.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sam3_image.errors import UserError, shown

STARTING, RUNNING = "starting", "processing"
SUCCEEDED, FAILED, CANCELED = "succeeded", "failed", "canceled"
FINISHED = (SUCCEEDED, FAILED, CANCELED)

MAX_JOBS = 512
MAX_UNFINISHED = 64
MAX_FILES = 256
MAX_BYTES = 512_000_000
MAX_SECONDS = 3600.0

T = TypeVar("T")


class Gone(UserError):
    """What a client asks for was never here, or is no longer kept (HTTP 404)."""


class Busy(UserError):
    """More is waiting than is accepted (HTTP 429)."""


@dataclass
class _Kept(Generic[T]):
    item: T
    size: int
    since: float


class Shelf(Generic[T]):
    """Things by id. clock: seconds that only grow."""

    def __init__(
        self,
        name: str,
        max_count: int,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._max_count, self._max_bytes, self._max_seconds = max_count, max_bytes, max_seconds
        self._clock = clock
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    @property
    def bytes(self) -> int:
        """Bytes of everything that is kept."""
        return sum(kept.size for kept in self._kept.values())

    def put(self, key: str, item: T, size: int = 0) -> None:
        """Keep `item`, anew if it was kept before, at the cost of the oldest."""
        self._kept.pop(key, None)
        self._kept[key] = _Kept(item, size, self._clock())
        self._sweep()

    def get(self, key: str) -> T:
        """What is kept by this id; raises Gone."""
        self._sweep()
        if key not in self._kept:
            raise Gone(
                f"No {self._name} {shown(key)} is kept here: it never was, or it is older than "
                f"{self._max_seconds:g} s, or newer ones took its place. Send it again."
            )
        return self._kept[key].item

    def values(self) -> Iterator[T]:
        """Everything that is kept, the newest first."""
        self._sweep()
        return (kept.item for kept in reversed(list(self._kept.values())))

    def _sweep(self) -> None:
        oldest = self._clock() - self._max_seconds
        while self._kept:
            first = next(iter(self._kept.values()))
            over = len(self._kept) > self._max_count or self.bytes > self._max_bytes
            if first.since >= oldest and not (over and len(self._kept) > 1):
                return
            _, gone = self._kept.popitem(last=False)
            if isinstance(gone.item, Job):
                gone.item.cancel()


@dataclass(frozen=True)
class File:
    """A file of a result, or one that was uploaded."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Outcome:
    """What a job made. metrics: numbers by name, as /predictions gives them."""

    files: tuple[File, ...]
    metrics: dict[str, float | int] = field(default_factory=dict)


Work = Callable[[], Awaitable[Outcome]]
Told = Callable[["Job"], None]


class Job:
    """One piece of work that runs by itself. Times are seconds since the epoch, or None.

    kind: whose it is, so that one client's jobs are not in another's list.
    about: what the client wants to see again (its own input).
    held: bytes that `work` holds until it is finished (the picture).
    """

    def __init__(
        self, kind: str, about: dict[str, object], work: Work, held: int, told: Told | None
    ) -> None:
        self.id = secrets.token_urlsafe(18).replace("_", "0").replace("-", "1")
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
        self._shelf: Shelf[Job] = Shelf("job", max_jobs, max_bytes, max_seconds, clock)

    def start(
        self,
        kind: str,
        work: Work,
        about: dict[str, object] | None = None,
        held: int = 0,
        told: Told | None = None,
    ) -> Job:
        """Begin `work`, see `Job`; raises Busy. told: is called at each change of its status."""
        waiting = [job for job in self._shelf.values() if not job.finished]
        size = sum(job.size for job in waiting) + held
        if len(waiting) >= self._max_unfinished or (waiting and size > self._max_bytes):
            raise Busy(f"{len(waiting)} jobs are waiting, which is all that may: try again later.")

        def changed(job: Job) -> None:
            if job.id in self._shelf:  # its place in the order is that of its last change
                self._shelf.put(job.id, job, job.size)
            if told is not None:
                told(job)

        job = Job(kind, about or {}, work, held, changed)
        self._shelf.put(job.id, job, job.size)
        return job

    def get(self, kind: str, job_id: str) -> Job:
        """The job; raises Gone."""
        job = self._shelf.get(job_id)
        if job.kind != kind:
            raise Gone(f"No job {shown(job_id)} is kept here.")
        return job

    def of(self, kind: str) -> list[Job]:
        """All jobs of this kind, the one that changed last first."""
        return [job for job in self._shelf.values() if job.kind == kind]
