"""What every worker of a job is told, and what it answers; all of it can be pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3_image.batch.folder import Folder
from sam3_image.batch.items import Item, Root
from sam3_image.decode import Image
from sam3_image.errors import CheckpointError, shown

SHOWN_ERRORS = 5  # of a run, at its end
CHUNK = 1 << 22  # bytes read at once
# What of a checkpoint's folder decides about its answers.
DIGESTED = ("*.safetensors", "*.json", "*.txt")


class Found(Protocol):
    """The instances of one image; `Instances` is one."""

    def annotations(self, annotation_format: str = "rle") -> dict[str, Any]:
        """Return them as JSON values."""


class Engine(Protocol):
    """What segments in a worker: `engine.Model`, or what a test has put in its place."""

    def open(self, data: bytes | Path) -> Image:
        """Upright pixels of an image; raises UserError. Called from several threads."""

    def segment(self, image: Image) -> Found:
        """Return what the job's request finds in an image; raises UserError."""

    def healthy(self) -> bool:
        """Whether the device still computes."""


@dataclass(frozen=True)
class Job:
    """The same for all workers.

    folder: of the results. inputs: of the request, named as those of `predict()`.
    environment: SAM3_WEIGHTS (a folder), SAM3_DTYPE and the like, for the service of each worker.
    metadata: of every part; it holds the digest of the checkpoint.
    root: where local files lie. threads: of torch in each worker, 0 for as many as it likes.
    decoders: images that a worker decodes at the same time.
    engine: makes what segments; only tests have another.
    """

    folder: Folder
    inputs: Mapping[str, Any]
    environment: Mapping[str, str]
    metadata: dict[str, Any]
    root: Root | None = None
    threads: int = 0
    decoders: int = 1
    engine: Callable[[Job], Engine] | None = None

    @property
    def weights(self) -> Path:
        """The checkpoint's folder."""
        return Path(self.environment["SAM3_WEIGHTS"])


@dataclass(frozen=True)
class Shard:
    """The images of one part. alone: one image that has been in hand when a process died."""

    name: str
    items: tuple[Item, ...]
    alone: bool = False


@dataclass(frozen=True)
class Manifest:
    """What became of a shard.

    errors: address and line of its first error rows; failed: how many there are.
    seconds: by stage, of all its images. elapsed: from begin to end.
    memory: bytes that the worker's process holds now.
    deferred: images without a row, since memory did not suffice beside the others.
    """

    rows: int
    failed: int
    instances: int
    errors: tuple[tuple[str, str], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    memory: int = 0
    deferred: tuple[Item, ...] = ()


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's files; raises CheckpointError."""
    total = hashlib.sha256()
    try:
        for path in sorted({path for glob in DIGESTED for path in folder.glob(glob)}):
            total.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    total.update(chunk)
    except OSError as error:
        raise CheckpointError(
            f"the weights in {shown(str(folder), 200)} cannot be read ({error.strerror}): check "
            "the folder"
        ) from None
    return total.hexdigest()
