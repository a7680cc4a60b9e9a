"""What every worker of a job is told, and what it answers; all of it can be pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3_image.batch.reader import Item, SourceRoot
from sam3_image.batch.storage import ResultFolder, reason
from sam3_image.errors import CheckpointError, shown

# What of a checkpoint's folder decides about its answers.
DIGESTED = ("*.safetensors", "*.json", "*.txt")


@dataclass(frozen=True)
class BatchJob:
    """The same for all workers.

    folder: of the results. inputs: of the request, named as those of `predict()`.
    environment: SAM3_WEIGHTS (a folder), SAM3_DTYPE and the like, for each worker's model.
    metadata: of every part; it holds the digest of the checkpoint.
    scratch: a local folder for the logs and temporary files of workers on the driver's machine.
    root: where local files lie. probes: images that tell whether the source can be reached.
    overlays: whether to store a JPEG of each image with its masks.
    threads: of torch in each worker, 0 for its own choice. decoders: images that a worker decodes
    at the same time. engine: makes what stands in for `BatchModel` in tests.
    """

    folder: ResultFolder
    inputs: Mapping[str, Any]
    environment: Mapping[str, str]
    metadata: dict[str, Any]
    scratch: Path
    root: SourceRoot | None = None
    probes: tuple[Item, ...] = ()
    overlays: bool = False
    threads: int = 0
    decoders: int = 1
    engine: Callable[[BatchJob], Any] | None = None

    @property
    def weights(self) -> Path:
        """The checkpoint's folder."""
        return Path(self.environment["SAM3_WEIGHTS"])


@dataclass(frozen=True)
class Shard:
    """Images for one part. alone: no other worker is busy, so that errors are final."""

    items: tuple[Item, ...]
    alone: bool = False

    @property
    def uris(self) -> list[str]:
        """The addresses of its images."""
        return [item.uri for item in self.items]


@dataclass(frozen=True)
class Manifest:
    """What became of a shard.

    part: the name of its part, "" if it has no rows. failed: rows with an error.
    seconds: by stage, of all its images. elapsed: from begin to end.
    memory: bytes that the worker's process holds now.
    deferred: images without a row, because memory did not suffice while others were at work.
    """

    part: str
    rows: int
    failed: int
    instances: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    memory: int = 0
    deferred: tuple[Item, ...] = ()


def digest(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's files, names included; raises CheckpointError."""
    total = hashlib.sha256()
    try:
        for path in sorted({path for glob in DIGESTED for path in folder.glob(glob)}):
            total.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    total.update(chunk)
    except OSError as error:
        raise CheckpointError(
            f"the weights in {shown(str(folder), 200)} cannot be read ({reason(error)}): check the "
            "folder"
        ) from None
    return total.hexdigest()
