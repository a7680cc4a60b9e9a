"""Which images are being worked on: what a dead process leaves behind.

Each shard has a mark, a small file: one JSON line that names its images, then `+3` when image 3 is
taken up and `-3` when its row is made. A shard's part is published and its mark removed together,
so a mark without a worker says which images its process had in hand when it died. A mark whose
worker has died is renamed to `NAME.dead` and stays until its images have rows.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DEAD = ".dead"


@dataclass(frozen=True)
class Leftover:
    """What the mark of a dead process says.

    uris: all of its shard. suspects: those in hand at its death; all where that is not known.
    alone: whether that was one image, in a shard of its own.
    """

    path: Path
    uris: tuple[str, ...]
    suspects: tuple[str, ...]
    alone: bool


class Mark:
    """The mark of one shard, held by the worker that has the shard; safe from several threads."""

    def __init__(self, path: Path, uris: Sequence[str], alone: bool) -> None:
        """Write the mark to disk before anything is done; raises OSError."""
        self.path = path
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = open(path, "wb", buffering=0)  # noqa: SIM115 - until remove()
        self._file.write(json.dumps({"alone": alone, "uris": list(uris)}).encode() + b"\n")
        os.fsync(self._file.fileno())

    def started(self, index: int) -> None:
        """Note that image `index` of the shard is taken up."""
        self._note(b"+%d\n" % index)

    def finished(self, index: int) -> None:
        """Note that the row of image `index` is made."""
        self._note(b"-%d\n" % index)

    def remove(self) -> None:
        """End it: whatever happens from now on is not the fault of these images."""
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None
        self.path.unlink(missing_ok=True)

    def _note(self, line: bytes) -> None:
        with self._lock:
            if self._file:  # else the shard was given up, and a thread is not done with it yet
                self._file.write(line)


def read(path: Path) -> Leftover | None:
    """Return what a mark says, None where it is not there."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return None
    try:
        head = json.loads(lines[0])
        uris = tuple(head["uris"])
        alone = bool(head["alone"])
        hands: Counter[int] = Counter()
        for line in lines[1:]:
            hands[int(line[1:])] += 1 if line[0] == "+" else -1
        suspects = tuple(uris[index] for index, count in sorted(hands.items()) if count > 0)
    except (IndexError, KeyError, TypeError, ValueError):
        # The machine itself went down while it was written: the image is not known.
        return Leftover(path, (), (), alone=False)
    return Leftover(path, uris, suspects or uris, alone)


def leftovers(folder: Path) -> list[Leftover]:
    """Return the marks of dead processes in `folder`."""
    found = (read(path) for path in sorted(folder.glob(f"*{DEAD}")))
    return [leftover for leftover in found if leftover]
