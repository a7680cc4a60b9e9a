"""What the driver knows of its workers, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sam3_image.batch.job import Manifest, Shard
from sam3_image.errors import UserError


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the model and takes its first shard."""

    worker: int


@dataclass(frozen=True)
class Finished:
    """A worker has published the part of its shard and takes the next one."""

    worker: int
    manifest: Manifest


@dataclass(frozen=True)
class Died:
    """A worker's process is gone; another one was started in its place.

    reason: what is known of its end, for messages. shard: what it had, None before the first.
    """

    worker: int
    reason: str
    shard: Shard | None


@dataclass(frozen=True)
class Failed:
    """A worker met something that ends the job."""

    worker: int
    error: UserError


Event = Ready | Finished | Died | Failed


class Pool(Protocol):
    """Workers that take shards. A worker has one shard at a time."""

    size: int

    def give(self, worker: int, shard: Shard) -> None:
        """Hand a shard to a worker that is ready or has finished its last one."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, as soon as something has; nothing after that many seconds."""

    def close(self) -> None:
        """End all workers. A shard at hand is given up, through no fault of its images."""
