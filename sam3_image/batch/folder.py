"""The folder of results: whole parts under their final names, and who may put them there.

A part is written under a temporary name, synchronised to the disk, and renamed. Whoever is still
at work for a driver that is gone, or on a shard that was given to somebody else, is kept from
publishing by one lock file: see `Folder.publish`. Parts are all that a later run relies on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sam3_image.batch import marks, schema
from sam3_image.errors import InputError, OutputError, shown

PART = "part-*.parquet"
LOGS = "worker-*.log"
ADVICE = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EROFS: "mount it writable",
    errno.EACCES: "give this process the right to write there",
    errno.ENOENT: "the folder vanished: mount it",
    errno.ENOLCK: "this file system has no locks: choose a folder on one that has",
    errno.ENOTSUP: "this file system has no locks: choose a folder on one that has",
}


class SupersededError(Exception):
    """Another process has taken over what this one was working on; its result is not needed."""


class Done(NamedTuple):
    """What the parts of a folder hold. uris: of all rows; errors: rows with an error."""

    uris: set[str]
    errors: int


class Folder:
    """The results of one job. `work` holds marks, locks and unfinished files."""

    def __init__(self, path: Path, session: str = "") -> None:
        """Nothing is made yet. session: of the driver whose workers may publish."""
        self.path = path
        self.work = path / ".work"
        self.marks = self.work / "marks"
        self.temporary = self.work / "tmp"  # of workers, which may be killed before they tidy up
        self.session = session

    # What the driver does

    @contextlib.contextmanager
    def driven(self) -> Iterator[Folder]:
        """Return the folder as one driver's own: nobody else's workers can publish in it any more.

        Raises OutputError: not writable, or another driver is at work in it.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.marks.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(open(self.work / "driver", "a"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = Folder(self.path, session=secrets.token_hex(4))
                mine._take_over()
                stack.callback(shutil.rmtree, self.temporary, ignore_errors=True)
            except BlockingIOError:
                raise OutputError(
                    f"another run is writing to {shown(str(self.path), 200)}: wait for its end, "
                    "or choose another folder with --out"
                ) from None
            except OSError as error:
                raise unwritable(self.path, error) from None
            yield mine

    def _take_over(self) -> None:
        with self._locked(fcntl.LOCK_EX, "a+") as lock:
            for mark in self.marks.iterdir():
                if mark.suffix != marks.DEAD:
                    mark.rename(mark.with_name(mark.name + marks.DEAD))
            lock.truncate(0)
            lock.write(self.session)
            lock.flush()
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(exist_ok=True)
        for pattern in ("*.tmp", LOGS):  # of the run before
            for old in self.work.glob(pattern):
                old.unlink(missing_ok=True)

    def revoke(self, name: str) -> bool:
        """Take the shard `name` back from a worker that is gone; True if its part is there.

        From now on that worker could not publish it either, should it live after all.
        """
        with self._locked(fcntl.LOCK_EX, "a+"):
            mark = self.marks / name
            if self.part(name).exists():
                mark.unlink(missing_ok=True)
                return True
            with contextlib.suppress(FileNotFoundError):
                mark.rename(mark.with_name(name + marks.DEAD))
            return False

    def forgive(self, name: str) -> None:
        """Take the shard `name` back from a worker that this driver has ended itself."""
        with self._locked(fcntl.LOCK_EX, "a+"):
            (self.marks / name).unlink(missing_ok=True)

    def done(self, metadata: dict[str, Any]) -> Done:
        """Return what is there already; raises InputError where it was made with other settings."""
        uris: set[str] = set()
        errors = 0
        for path in self.parts():
            with opened(path) as file:
                check_same(schema.metadata_of(file.schema_arrow), metadata, path)
                rows = file.read(columns=["uri", "status"])
            uris.update(rows.column("uri").to_pylist())
            errors += rows.column("status").to_pylist().count(schema.ERROR)
        return Done(uris, errors)

    def parts(self) -> list[Path]:
        """All parts, in the order of their names."""
        return sorted(self.path.glob(PART))

    # What a worker does

    def part(self, name: str) -> Path:
        """Where the part of a shard goes."""
        return self.path / f"part-{name}.parquet"

    def begin(self, name: str, uris: list[str], alone: bool) -> marks.Mark:
        """Mark a shard before it is begun; raises SupersededError, OSError."""
        with self._locked(fcntl.LOCK_SH, "r") as lock:
            self._check_session(lock.read())
            return marks.Mark(self.marks / name, uris, alone)

    def publish(self, name: str, rows: pa.Table) -> None:
        """Put the part of a marked shard into the folder, whole, and remove the mark.

        Raises SupersededError where the shard is not this worker's any more, OSError where the
        part cannot be written; then there is nothing under its name.
        """
        half = self.work / f"{name}.tmp"
        try:
            with open(half, "wb") as file:
                pq.write_table(rows, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            with self._locked(fcntl.LOCK_SH, "r") as lock:
                self._check_session(lock.read())
                if not (self.marks / name).exists():
                    raise SupersededError(name)
                os.replace(half, self.part(name))
                synchronize(self.path)
                (self.marks / name).unlink()
        finally:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, how: int, mode: str) -> Iterator[Any]:
        with open(self.work / "session", mode) as lock:
            fcntl.flock(lock, how)
            lock.seek(0)
            yield lock

    def _check_session(self, current: str) -> None:
        if current != self.session:
            raise SupersededError(f"session {current}")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Return a part for reading; raises InputError where it is none."""
    try:
        with pq.ParquetFile(path) as file:
            if not set(schema.SCHEMA.names) <= set(file.schema_arrow.names):
                raise pa.ArrowInvalid("it has other columns")
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a part of a run ({' '.join(str(error).split())[:120]}); remove it, or "
            "choose another folder with --out"
        ) from None


def check_same(found: dict[str, Any] | None, wanted: dict[str, Any], path: Path) -> None:
    """Raise InputError unless a part was made with the settings of this run."""
    if found is None:
        raise InputError(
            f"{path} holds no settings of a run of this project; choose another folder with --out"
        )
    for name in sorted({*found, *wanted}):
        before, now = found.get(name), wanted.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            check_same(before, now, path)
        elif before != now:
            raise InputError(
                f"{shown(str(path.parent), 200)} holds results with {name}={shown(before)}, and "
                f"now {name} is {shown(now)}; give the same settings to go on, or another folder "
                "with --out"
            )


def synchronize(folder: Path) -> None:
    """Make the names in a folder outlive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return the one line for a folder that cannot be written."""
    advice = ADVICE.get(error.errno or 0, "check the folder")
    return OutputError(
        f"cannot write to {shown(str(path), 200)}: {error.strerror or error}; {advice} and run "
        "the same command again: what was written stays"
    )
