"""Workers as processes of this machine: as many as fit, and a new one for each that dies."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from sam3_image.batch.folder import SupersededError
from sam3_image.batch.job import Job, Shard
from sam3_image.batch.pool import Died, Event, Failed, Finished, Ready
from sam3_image.errors import UserError

PATIENCE = 5.0  # seconds that a worker may take to give up its shard at the end


class LocalPool:
    """Worker processes; `devices` says how many there are and where each computes."""

    def __init__(self, job: Job, devices: Sequence[str]) -> None:
        """Start them; each loads the model by itself.

        devices: one name for each worker, as SAM3_DEVICE takes it.
        """
        self.size = len(devices)
        self._job = job
        self._context = multiprocessing.get_context("spawn")
        self._devices = devices
        self._workers = [self._start(number) for number in range(self.size)]

    def give(self, worker: int, shard: Shard) -> None:
        """Hand a shard to a worker."""
        self._workers[worker].shard = shard
        with contextlib.suppress(OSError):  # it has just died: wait() will say so
            self._workers[worker].pipe.send(shard)

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, as soon as something has."""
        numbers: dict[Any, int] = {}
        for number, worker in enumerate(self._workers):
            numbers[worker.pipe] = numbers[worker.process.sentinel] = number
        ready = wait(list(numbers), seconds)
        return [self._event(number) for number in sorted({numbers[one] for one in ready})]

    def close(self) -> None:
        """End all workers; those that do not give up their shard in time are killed."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def processes(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [worker.process.pid or 0 for worker in self._workers]

    def _start(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        environment = {**self._job.environment, "SAM3_DEVICE": self._devices[number]}
        job = replace(self._job, environment=environment)
        process = self._context.Process(target=_work, args=(job, theirs), daemon=True)
        with _deaf():
            process.start()
        theirs.close()  # or the end of the process would not be seen here
        return _Worker(process, ours)

    def _event(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(number)
        worker.shard = None
        if isinstance(answer, UserError):
            return Failed(number, answer)
        return Ready(number) if answer is None else Finished(number, answer)

    def _died(self, number: int) -> Died:
        worker = self._workers[number]
        worker.process.join()
        code = worker.process.exitcode or 0
        reason = f"signal {-code}" if code < 0 else f"exit status {code}"
        worker.pipe.close()
        self._workers[number] = self._start(number)
        return Died(number, reason, worker.shard)


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    shard: Shard | None = None


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; one that is started here does not hear it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(job: Job, pipe: Connection) -> None:
    """Return the whole life of a worker process: load the model, answer each shard with its
    manifest.
    """
    _silence(job)
    from sam3_image.batch.worker import ShardWorker

    shards = _Shards(pipe)
    try:
        worker = shards.worker = ShardWorker(job)
        pipe.send(None)
        while True:
            pipe.send(worker.run(shards.next()))
    except (SupersededError, BrokenPipeError):
        return
    except UserError as error:
        with contextlib.suppress(OSError):
            pipe.send(error)
            shards.next()  # until the driver has read it and ends us


class _Shards:
    """The shards that the driver sends; when the driver is gone, so is this process.

    Read in a thread of its own, so that the end of the driver is seen in the midst of a shard.
    """

    def __init__(self, pipe: Connection) -> None:
        self.worker: Any = None
        self._pipe = pipe
        self._here = threading.Semaphore(0)
        self._shards: list[Shard] = []
        threading.Thread(target=self._listen, name="driver", daemon=True).start()

    def next(self) -> Shard:
        self._here.acquire()
        return self._shards.pop(0)

    def _listen(self) -> None:
        try:
            while True:
                self._shards.append(self._pipe.recv())
                self._here.release()
        except (EOFError, OSError):
            if self.worker:
                self.worker.drop()
            os._exit(0)


def _silence(job: Job) -> None:
    """Send what libraries print to a file, which also gets the stack of a crash."""
    log = open(job.folder.work / f"worker-{os.getpid()}.log", "w")  # noqa: SIM115 - until the end
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(sys.stderr)
