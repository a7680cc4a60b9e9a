"""Workers as actors of a Ray cluster, one GPU each where there are GPUs.

Ray places the actors, on whatever node has room, and says when one is gone. It repeats no shard: it
would repeat one that kills its worker without end. Rows go from each worker into
the folder of results. No other file knows Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam3_image.batch.job import BatchJob, Shard, digest
from sam3_image.batch.machine import worker_bytes
from sam3_image.batch.pool import WorkerAnswer
from sam3_image.batch.worker import ShardWorker
from sam3_image.errors import CheckpointError, UserError, shown

OBJECT_STORE_BYTES = 100_000_000  # shards and manifests are small; Ray would take 30 % of the RAM
# Read by Ray when it is imported or started. Even with its telemetry off it posts a notice once,
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

    def __init__(self, job: BatchJob, address: str, workers: int) -> None:
        """Connect and plan the actors; raises RayError.

        address: "local" starts Ray on this machine for the time of the job, "auto" joins the one
        that runs here, HOST:PORT another. workers: how many, 0 for as many as fit.
        """
        self._quiet = contextlib.ExitStack()
        # Ray prints a paragraph for each worker that dies; the driver says so itself.
        nowhere = self._quiet.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - until close()
        self._quiet.enter_context(contextlib.redirect_stdout(nowhere))
        self._actors: dict[int, Any] = {}
        self._ray = _connect(address, workers)
        there = self._ray.cluster_resources()
        gpus = there.get("GPU", 0) >= 1
        needs = {"GPU": 1} if gpus else {"CPU": 1, "memory": worker_bytes(job.weights)}
        self.size = workers or min(int(there.get(name, 0) // need) for name, need in needs.items())
        if not self.size:
            self.close()
            raise RayError(
                f"the Ray cluster has no room for a worker, which needs {needs}: add a node, or "
                "say --workers 1"
            )
        job = replace(
            job,
            environment={**job.environment, "SAM3_DEVICE": "cuda" if gpus else "cpu"},
            decoders=GPU_DECODERS if gpus else 1,
        )
        actor = self._ray.remote(
            num_cpus=1, num_gpus=needs.get("GPU", 0), memory=needs.get("memory"), max_restarts=0
        )(_Actor)
        self._start = lambda: actor.remote(job)

    def start_worker(self, worker: int) -> Future[WorkerAnswer]:
        """Have Ray place a new actor, and the actor load the model."""
        if old := self._actors.get(worker):
            self._ray.kill(old)  # it may be alive behind a broken connection
        self._actors[worker] = self._start()
        loaded: Future[WorkerAnswer] = self._actors[worker].start.remote().future()
        return loaded

    def submit(self, worker: int, shard: Shard) -> Future[WorkerAnswer]:
        """Have an actor segment a shard."""
        done: Future[WorkerAnswer] = self._actors[worker].segment_shard.remote(shard).future()
        return done

    def close(self) -> None:
        """End the actors, and Ray itself if this job has started it."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()
        self._quiet.close()


def _connect(address: str, workers: int) -> Any:
    """Return Ray, connected; its own messages are kept off the screen."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {
            "num_cpus": workers or None,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        import ray

        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            runtime_env={"py_modules": [str(Path(__file__).resolve().parents[1])]},
            **local,
        )
    except ImportError:
        raise RayError(
            "Ray is not installed: install requirements-batch.txt, or leave out --ray"
        ) from None
    except Exception as error:  # Ray raises whatever has kept it from starting
        what = "could not be started" if local else f"cannot be reached at {shown(address)}"
        lines = re.sub(r"\x1b\[\d*m", "", str(error)).strip().splitlines()
        raise RayError(
            f"Ray {what} ({type(error).__name__}: {lines[0][:200] if lines else ''}): check the "
            "address, and that RAY_AUTH_TOKEN is the cluster's; docs/batch.md shows how"
        ) from None
    return ray


class _Actor:
    """A shard worker on some node."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job

    def start(self) -> WorkerAnswer:
        try:
            self._check_weights()
            self._worker = ShardWorker(self._job)
        except UserError as error:
            return error
        return None

    def segment_shard(self, shard: Shard) -> WorkerAnswer:
        try:
            return self._worker.run(shard)
        except UserError as error:
            return error

    def _check_weights(self) -> None:
        weights, node = self._job.weights, socket.gethostname()
        if not weights.is_dir():
            wrong = "not there: put them under the same path on every node"
        elif digest(weights) != self._job.metadata["checkpoint"]["digest"]:
            wrong = "not those of the driver: copy the same files to every node"
        else:
            return
        raise CheckpointError(
            f"on the node {node} the weights {shown(str(weights), 200)} are {wrong}"
        )
