"""Workers as processes of this machine; a new one is started for each that dies."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

from sam3_image.batch.job import BatchJob, Manifest, Shard
from sam3_image.errors import UserError

# None: the model is loaded.
WorkerAnswer = Manifest | UserError | None


class WorkerPool(Protocol):
    """Workers that take one shard at a time. After a future that raises, its worker is a new one.

    size: how many there are.
    """

    size: int

    def start_worker(self, worker: int) -> Future[WorkerAnswer]:
        """Have a worker load the model, which comes before its first shard."""

    def submit(self, worker: int, shard: Shard) -> Future[WorkerAnswer]:
        """Have a worker segment a shard."""

    def close(self) -> None:
        """End all workers, whatever they are doing."""


class LocalPool:
    """Worker processes, each an executor of its own, so that a death breaks no other."""

    def __init__(self, job: BatchJob, devices: Sequence[str]) -> None:
        """Plan one worker per device, named as SAM3_DEVICE takes it."""
        self.size = len(devices)
        self._jobs = [
            replace(job, environment={**job.environment, "SAM3_DEVICE": device})
            for device in devices
        ]
        self._executors: dict[int, ProcessPoolExecutor] = {}

    def start_worker(self, worker: int) -> Future[WorkerAnswer]:
        """Start a process and have it load the model."""
        context = multiprocessing.get_context("spawn")
        self._executors[worker] = ProcessPoolExecutor(1, context)
        # Ctrl-C reaches all processes of a terminal; one that is started now does not hear it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return self._executors[worker].submit(_load, self._jobs[worker])
        finally:
            signal.signal(signal.SIGINT, before)

    def submit(self, worker: int, shard: Shard) -> Future[WorkerAnswer]:
        """Have a worker segment a shard."""
        return self._executors[worker].submit(_run, shard)

    def close(self) -> None:
        """Kill all workers."""
        for process in multiprocessing.active_children():
            process.kill()
        for executor in self._executors.values():
            executor.shutdown(cancel_futures=True)


_worker: Any = None


def _load(job: BatchJob) -> WorkerAnswer:
    """Begin a worker process: its output goes to a file, and it ends when the driver does."""
    global _worker
    log = open(job.scratch / f"worker-{os.getpid()}.log", "w")  # noqa: SIM115 - until the end
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(sys.stderr)
    threading.Thread(target=_end_with_driver, name="driver", daemon=True).start()
    from sam3_image.batch.worker import ShardWorker

    try:
        _worker = ShardWorker(job)
    except UserError as error:
        return error
    return None


def _run(shard: Shard) -> WorkerAnswer:
    try:
        found: Manifest = _worker.run(shard)
    except UserError as error:
        return error
    return found


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver
    driver.join()
    os._exit(0)
