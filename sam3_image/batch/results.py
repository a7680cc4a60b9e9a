"""The results of a job: whole Parquet parts in a folder or bucket, and who may write them.

A part is named after the images in it and appears whole, so a shard that is done twice leaves one
part, and the parts alone say what a later run still has to do. Two things remain: a lock keeps two
runs apart, and `take_stock` removes a part that a lost worker published late.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sam3_image.batch import schema
from sam3_image.batch.job import Manifest
from sam3_image.batch.storage import WORK, ResultFolder, reason
from sam3_image.errors import InputError, OutputError, shown

ATTEMPTS = f"{WORK}/attempts.json"
LEASE = f"{WORK}/driver"
BEAT = 5.0  # seconds between two signs of life of a run that writes into a bucket
SILENT_BEATS = 3  # after so many without a sign, a run is taken for dead
STALE_SECONDS = 600  # an unfinished file that is older belongs to a process that was killed
READERS = 16  # parts read at the same time
STOCK = ["uri", "id", "prompts", "status", "error"]


@dataclass
class Stock:
    """What the parts of a folder hold.

    prompts: of every image by address, None where the run's were used. ids: their numbers.
    errors: address and error of the images that have one. parts: their names.
    """

    prompts: dict[str, list[str] | None] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)


@dataclass
class Attempts:
    """What a run that is killed leaves behind, in one small file.

    in_hand: the images of each shard that was at work. deaths: how often an image's process died
    while it was alone in its shard.
    """

    in_hand: list[list[str]] = field(default_factory=list)
    deaths: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: ResultFolder) -> Attempts:
        """Return those of the last run; none if it ended well."""
        try:
            return cls(**json.loads(folder.get(ATTEMPTS) or b"{}"))
        except (TypeError, ValueError):
            return cls()

    def save(self, folder: ResultFolder) -> None:
        """Write them, or remove the file if there is nothing to remember; raises OSError."""
        if self.in_hand or self.deaths:
            folder.put(ATTEMPTS, json.dumps(vars(self)).encode(), durable=False)
        else:
            folder.delete(ATTEMPTS)


def part_name(uris: Sequence[str]) -> str:
    """Return the name of the part with these images."""
    return f"part-{hashlib.sha256(chr(10).join(uris).encode()).hexdigest()[:20]}.parquet"


def parts(folder: ResultFolder) -> list[str]:
    """Return the names of all parts, sorted."""
    return sorted(name for name in folder.files() if name[:5] + name[-8:] == "part-.parquet")


def publish(folder: ResultFolder, rows: Sequence[schema.Row], metadata: dict[str, Any]) -> str:
    """Write rows as one part and return its name; raises OSError."""
    return _publish(folder, schema.table(rows, metadata))


def manifest(part: str, rows: Sequence[schema.Row], **more: Any) -> Manifest:
    """Return what there is to say about a part with these rows."""
    failed = sum(row["status"] == schema.ERROR for row in rows)
    return Manifest(part, len(rows), failed, sum(len(row["instances"]) for row in rows), **more)


def read_part(folder: ResultFolder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a part, or some of its columns; raises InputError if it is none."""
    try:
        with folder.open_input(name) as file:
            found = pq.ParquetFile(file)
            if not set(schema.SCHEMA.names) <= set(found.schema_arrow.names):
                raise pa.ArrowInvalid("it has other columns")
            return found.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{folder.address}/{name} is not a part of a run of this version ({reason(error)}); "
            "remove it, or choose another folder with --out"
        ) from None


def take_stock(folder: ResultFolder, metadata: dict[str, Any], stock: Stock) -> Stock:
    """Add the parts that `stock` does not know to it, and drop rows that are there twice.

    Only the run that holds the lock may call it. Raises InputError if a part was made with other
    settings, and OSError.
    """
    names = [name for name in parts(folder) if name not in stock.parts]
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda name: read_part(folder, name, STOCK), names))
    for name, found in sorted(zip(names, tables, strict=True), key=lambda one: -one[1].num_rows):
        _check_same(folder, schema.metadata_of(found.schema), metadata)
        fresh = pa.array([uri not in stock.prompts for uri in found.column("uri").to_pylist()])
        if pc.all(fresh).as_py():
            stock.parts.add(name)
        else:
            if pc.any(fresh).as_py():
                stock.parts.add(_publish(folder, read_part(folder, name).filter(fresh)))
            folder.delete(name)
        for row in found.filter(fresh).to_pylist():
            stock.prompts[row["uri"]] = row["prompts"]
            stock.ids.add(row["id"])
            if row["status"] == schema.ERROR:
                stock.errors.append((row["uri"], row["error"]))
    return stock


@contextlib.contextmanager
def locked(folder: ResultFolder, say: Callable[[str], None]) -> Iterator[Lock]:
    """Hold a folder for one run; raises OutputError if another run writes there."""
    lock = Lock(folder) if folder.local else _BucketLock(folder)
    try:
        lock.take(say)
        for name, info in folder.files(WORK).items():
            if name.endswith(".tmp") and info.mtime.timestamp() < time.time() - STALE_SECONDS:
                folder.delete(f"{WORK}/{name}")
        yield lock
    except OSError as error:
        raise folder.unwritable(error) from None
    finally:
        lock.release()


class Lock:
    """The lock of a local folder: the system's own, which ends with the process."""

    def __init__(self, folder: ResultFolder) -> None:
        """Take nothing yet."""
        self._folder = folder
        self._held = contextlib.ExitStack()

    def take(self, say: Callable[[str], None]) -> None:
        """Raise OutputError if another run has it, OSError if the folder cannot be written."""
        assert self._folder.local
        (self._folder.local / WORK).mkdir(parents=True, exist_ok=True)
        file = self._held.enter_context((self._folder.local / LEASE).open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self.taken() from None

    def require_held(self) -> None:
        """Raise OutputError if the lock was lost."""

    def release(self) -> None:
        """Give it back."""
        self._held.close()

    def taken(self) -> OutputError:
        """Return the error of a run that comes second."""
        return OutputError(
            f"another run is writing to {shown(self._folder.address, 200)}: wait for its end, or "
            "choose another folder with --out"
        )


class _BucketLock(Lock):
    """A file that its run rewrites every few seconds: buckets have no locks.

    A run that finds one watches it: if it changes, the other run lives. Should two runs meet all
    the same, because one was suspended, the one whose file was overwritten stops, and what both
    have done is there twice until the next `take_stock`.
    """

    def take(self, say: Callable[[str], None]) -> None:
        found = self._folder.get(LEASE)
        if found:
            say(f"another run was here; looking for {BEAT * SILENT_BEATS:.0f} s whether it lives")
        for _ in range(SILENT_BEATS if found else 0):
            time.sleep(BEAT)
            if self._folder.get(LEASE) != found:
                raise self.taken()
        self._name = secrets.token_hex(8)
        self._lost = False
        done = threading.Event()
        self._folder.put(LEASE, self._name.encode())
        thread = threading.Thread(target=self._keep, args=(done,), name="lock", daemon=True)
        thread.start()
        self._held.callback(self._remove)
        self._held.callback(thread.join)
        self._held.callback(done.set)

    def require_held(self) -> None:
        if self._lost:
            raise self.taken()

    def _keep(self, done: threading.Event) -> None:
        beats = 0
        while not done.wait(BEAT):
            with contextlib.suppress(OSError):  # the next beat may work
                if not (self._folder.get(LEASE) or b"").startswith(self._name.encode()):
                    self._lost = True
                    return
                beats += 1
                self._folder.put(LEASE, f"{self._name} {beats}".encode())

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            if not self._lost:
                self._folder.delete(LEASE)


def _publish(folder: ResultFolder, table: pa.Table) -> str:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    name = part_name(table.column("uri").to_pylist())
    folder.put(name, buffer.getvalue())
    return name


def _check_same(folder: ResultFolder, found: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Raise InputError unless a part was made with the settings of this run."""
    for name in sorted({*(found or {}), *now}):
        before, wanted = (found or {}).get(name), now.get(name)
        if isinstance(before, dict) and isinstance(wanted, dict):
            _check_same(folder, before, wanted)
        elif before != wanted:
            raise InputError(
                f"{shown(folder.address, 200)} holds results with {name}={shown(before)}, and now "
                f"{name} is {shown(wanted)}; give the same settings to go on, or another folder "
                "with --out"
            )
