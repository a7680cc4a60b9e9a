"""Workers as actors of a Ray cluster, one GPU each where there are GPUs.

Ray places the actors and says when one is gone; nothing else of it is used. Shards go out and
manifests come back; rows go from each worker into the folder of results, which all nodes see under
the same path, and so do the weights. No other file knows Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam3_image.batch.folder import SupersededError
from sam3_image.batch.job import Job, Manifest, Shard, digest
from sam3_image.batch.machine import worker_bytes
from sam3_image.batch.pool import Died, Event, Failed, Finished, Ready
from sam3_image.batch.worker import ShardWorker
from sam3_image.errors import CheckpointError, UserError, shown

OBJECT_STORE_BYTES = 100_000_000  # shards and manifests are small; Ray would take 30 % of the RAM
# Read by Ray when it is imported or started. Even where its telemetry is off it posts a notice once
# unless the address leads nowhere.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOCAL = "local"
GPU_DECODERS = 4  # images that an actor with a GPU decodes at the same time


class RayError(UserError):
    """The cluster cannot be reached, or gives no workers."""


class RayPool:
    """Actors of a cluster; as many as its GPUs, or its cores and memory, take."""

    def __init__(self, job: Job, address: str, workers: int) -> None:
        """Connect, and have the actors made; each loads the model by itself.

        address: "local" starts Ray on this machine for the time of the job, "auto" joins the one
        that runs here, HOST:PORT another. workers: how many, 0 for as many as fit. Raises RayError.
        """
        self._ray: Any = None
        self._workers: dict[int, Any] = {}
        self._shards: dict[int, Shard] = {}
        self._refs: dict[Any, int] = {}
        self._quiet = contextlib.ExitStack()
        # Ray prints a paragraph for each worker that dies; the driver says so by itself.
        nowhere = self._quiet.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - until close()
        self._quiet.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            self._ray = _connect(address, workers)
            gpus = self._ray.cluster_resources().get("GPU", 0) >= 1
            device = "cuda" if gpus else "cpu"
            self._job = replace(
                job,
                environment={**job.environment, "SAM3_DEVICE": device},
                decoders=GPU_DECODERS if gpus else 1,
            )
            needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1 if gpus else 0}
            if not gpus:
                needs["memory"] = worker_bytes(job.weights)
            self.size = workers or self._fitting(needs)
            self._actor = self._ray.remote(**needs, max_restarts=0, max_task_retries=0)(_Actor)
            for number in range(self.size):
                self._start(number)
        except BaseException:
            self.close()
            raise

    def give(self, worker: int, shard: Shard) -> None:
        """Hand a shard to a worker."""
        self._shards[worker] = shard
        self._refs[self._workers[worker].run.remote(shard)] = worker

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, as soon as something has."""
        if not self._refs:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=seconds)
        if ready:  # and whatever else is there by now
            ready, _ = self._ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)
        return [self._event(ref) for ref in ready]

    def close(self) -> None:
        """End the actors, and Ray itself where this job has started it."""
        if self._ray:
            for actor in self._workers.values():
                self._ray.kill(actor)
            self._ray.shutdown()
        self._quiet.close()

    def _start(self, number: int) -> None:
        self._workers[number] = actor = self._actor.remote(self._job)
        self._refs[actor.load.remote()] = number

    def _event(self, ref: Any) -> Event:
        number = self._refs.pop(ref)
        shard = self._shards.pop(number, None)
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._start(number)
            return Died(number, _reason(error), shard)
        if isinstance(answer, UserError):
            return Failed(number, answer)
        return Ready(number) if answer is None else Finished(number, answer)

    def _fitting(self, needs: Mapping[str, Any]) -> int:
        """How many actors the nodes that are there now can take."""
        amounts = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"]}
        amounts["memory"] = needs.get("memory", 0)
        count = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                count += min(
                    int(has.get(name, 0) // need) for name, need in amounts.items() if need
                )
        if not count:
            raise RayError(
                "no node of the Ray cluster has a free core and the memory for one worker "
                f"({amounts['memory'] / 1e9:.1f} GB): add a node, or say --workers 1"
            )
        return count


def _connect(address: str, workers: int) -> Any:
    """Ray, connected; its own messages are kept off the screen."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise RayError(
            "Ray is not installed: install requirements-batch.txt, or leave out --ray"
        ) from None
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {
            "num_cpus": workers or None,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            runtime_env={"py_modules": [str(Path(__file__).resolve().parents[1])]},
            **local,
        )
    except Exception as error:  # Ray raises whatever has kept it from starting
        what = "could not be started" if local else f"cannot be reached at {shown(address)}"
        raise RayError(
            f"Ray {what} ({_reason(error)}): check the address, and that RAY_AUTH_TOKEN is the "
            "cluster's; docs/batch.md shows how to start one"
        ) from None
    return ray


def _reason(error: Exception) -> str:
    """Return what is worth repeating of an error of Ray, whose texts run over many lines."""
    cause = getattr(error, "cause", None) or error
    lines = re.sub(r"\x1b\[\d*m", "", str(cause)).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"[:200]


class _Actor:
    """A shard worker on some node; errors for a person come back as values."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: ShardWorker | None = None
        _on_termination(self._drop)

    def load(self) -> UserError | None:
        """Load the model, once it is known to be the same as everywhere."""
        try:
            self._check_weights()
            self._worker = ShardWorker(self._job)
        except UserError as error:
            return error
        return None

    def run(self, shard: Shard) -> Manifest | UserError:
        assert self._worker
        try:
            return self._worker.run(shard)
        except UserError as error:
            return error
        except SupersededError:
            os._exit(0)

    def _check_weights(self) -> None:
        node = socket.gethostname()
        if not self._job.weights.is_dir():
            raise CheckpointError(
                f"the weights {shown(str(self._job.weights), 200)} are not on the node {node}: put "
                "them under the same path on every node"
            )
        if digest(self._job.weights) != self._job.metadata["checkpoint"]["digest"]:
            raise CheckpointError(
                f"the weights {shown(str(self._job.weights), 200)} on the node {node} are not "
                "those of the driver: copy the same files to every node"
            )

    def _drop(self) -> None:
        if self._worker:
            self._worker.drop()


def _on_termination(drop: Callable[[], None]) -> None:
    """Give up the shard at hand when Ray asks this process to end, as it does after the driver.

    A Python signal handler would wait for the model; the wakeup descriptor does not.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen(_open: socket.socket) -> None:
        while signal.SIGTERM not in reader.recv(1):
            pass
        drop()
        os._exit(0)

    try:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    except ValueError:  # not the main thread: then marks are left, and images are tried alone
        return
    threading.Thread(target=listen, args=(writer,), name="end", daemon=True).start()
