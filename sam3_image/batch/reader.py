"""The bytes of one image: from a file, a bucket, the web, or inside a tar or a table."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from sam3_image.batch.storage import (
    BUCKETS,
    WEB,
    SourceError,
    canonical,
    local_path,
    open_file,
    reason,
    scheme,
)
from sam3_image.decode import Limits
from sam3_image.errors import ImageError, shown

TRIES = 3
PAUSE = 1.0  # seconds before the second try, doubled before the third
TIMEOUT = 30  # seconds without data from a web server
DEAD_AFTER = 3  # images in a row that a host did not deliver; then one try each is enough
# Errors of a file system that is out of order, not of one file.
LOST = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ETIMEDOUT, errno.EHOSTDOWN)


class UnreachableError(ImageError):
    """This image could not be fetched: a connection failed, or a server was out of order."""


class Member(NamedTuple):
    """Where an image lies inside another file.

    column: of a Parquet or Arrow file, "" in a tar. start, length: offset and bytes in a tar; row
    group (0 in Arrow) and row in it in a table.
    """

    file: str
    column: str
    start: int
    length: int


class Item(NamedTuple):
    """One image of a source.

    uri: its name in the results. prompts: its own, None for those of the run.
    member: where it lies inside another file. id: its number in the results, from 1.
    """

    uri: str
    prompts: tuple[str, ...] | None = None
    member: Member | None = None
    id: int = 0

    @property
    def file(self) -> str:
        """The address of the file that holds it."""
        return self.member.file if self.member else self.uri


class SourceRoot(NamedTuple):
    """The folder below which all local files of a source lie, and the device it was on.

    A mount that vanishes leaves an empty folder: then images are out of reach, not missing.
    """

    path: str
    device: int

    @classmethod
    def of(cls, paths: Sequence[str]) -> SourceRoot | None:
        """Return the root of absolute paths, None if they have nothing in common."""
        try:
            path = os.path.commonpath([os.path.dirname(path) for path in paths])
            return None if path == os.sep else cls(path, os.stat(path).st_dev)
        except (OSError, ValueError):
            return None

    def require_mounted(self) -> None:
        """Raise SourceError if the folder is out of reach."""
        try:
            why = "another file system" if os.stat(self.path).st_dev != self.device else ""
        except OSError as error:
            why = reason(error)
        if why:
            raise SourceError(
                f"the source {shown(self.path, 200)} is out of reach ({why}): mount it and run "
                "the same command again; what was written stays"
            )


class ImageReader:
    """Reads images; keeps its connections. Safe from several threads."""

    def __init__(self, limits: Limits, root: SourceRoot | None = None) -> None:
        """limits: a longer file is refused before it is in memory."""
        self._limits = limits
        self._root = root
        self._web = httpx.Client(timeout=TIMEOUT, follow_redirects=True)
        self._failures: Counter[str] = Counter()  # in a row, by host
        self._column: tuple[Any, Any] = (None, None)
        self._lock = threading.Lock()

    def read(self, item: Item) -> bytes | Path:
        """Return an image's content, or the path of a local file, which the decoder opens itself.

        Raises ImageError if the image is not there, UnreachableError if it cannot be fetched, and
        SourceError if the whole source is out of reach.
        """
        path = local_path(item.file)
        try:
            if path is None and not item.member:
                return self._patiently(item.uri)
            if item.member:
                return self._inside(item.member)
            assert path
            os.stat(path)
            return path
        except (pa.ArrowException, OSError) as error:
            if path and self._root:
                self._root.require_mounted()
            if path and not item.member and getattr(error, "errno", None) not in LOST:
                return path  # the decoder says what is wrong with it
            raise _unreachable(item.file, error) from None

    def reachable(self, item: Item) -> bool:
        """Whether the source answers for this image, be it with "not found"."""
        self._failures[_host(item.file)] += DEAD_AFTER  # so that it is tried only once
        try:
            self.read(item)
        except ImageError as error:
            return not isinstance(error, UnreachableError)
        return True

    def _patiently(self, uri: str) -> bytes:
        host = _host(uri)
        read = self._from_web if scheme(uri) in WEB else self._from_bucket
        tries = 1 if self._failures[host] >= DEAD_AFTER else TRIES
        for attempt in range(tries):
            try:
                data = read(uri)
                self._failures[host] = 0
                return data
            except UnreachableError:
                if attempt == tries - 1:
                    self._failures[host] += 1
                    raise
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError("not reached")

    def _from_web(self, uri: str) -> bytes:
        try:
            with self._web.stream("GET", uri) as answer:
                if answer.is_error:
                    later = answer.status_code >= 500 or answer.status_code == 429
                    raise (UnreachableError if later else ImageError)(
                        f"{shown(uri, 200)} was answered with {answer.status_code} "
                        f"{answer.reason_phrase}: check the address"
                    )
                self._limits.check_bytes(int(answer.headers.get("content-length") or 0))
                data = bytearray()
                for piece in answer.iter_bytes():
                    data += piece
                    self._limits.check_bytes(len(data))
                return bytes(data)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise ImageError(
                f"{shown(uri, 200)} is not an address ({reason(error)}): correct it"
            ) from None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise _unreachable(uri, error) from None

    def _from_bucket(self, uri: str) -> bytes:
        if scheme(uri) not in BUCKETS:
            raise ImageError(
                f"{shown(uri, 200)} has a scheme that is not read; accepted are paths, file://, "
                "s3://, gs://, https:// and http://"
            )
        try:
            with open_file(uri) as file:
                self._limits.check_bytes(file.seek(0, os.SEEK_END))
                file.seek(0)
                return bytes(file.read())
        except FileNotFoundError:
            raise ImageError(f"{shown(uri, 200)} is not there: check the name") from None
        except (pa.ArrowException, OSError, SourceError) as error:
            raise _unreachable(uri, error) from None

    def _inside(self, member: Member) -> bytes | Path:
        """Return an image that lies in another file; raises OSError, pa.ArrowException."""
        if not member.column:
            self._limits.check_bytes(member.length)
            with open_file(member.file) as file:
                file.seek(member.start)
                return bytes(file.read(member.length))
        with self._lock:  # images come in order, so one row group in memory is enough
            if self._column[0] != member[:3]:
                self._column = member[:3], _column(member)
            value = self._column[1][member.length].as_py()
        path, data = (value["path"], value["bytes"]) if isinstance(value, dict) else (None, value)
        if data is None and path:
            return self.read(Item(canonical(path, member.file.rpartition("/")[0] + "/")))
        if data is None:
            raise ImageError("the row holds no image: its bytes and path are empty")
        self._limits.check_bytes(len(data))
        return bytes(data)


def arrow_table(address: str) -> pa.Table:
    """Return the table of an Arrow file, mapped into memory if it is local; raises OSError."""
    path = local_path(address)
    file = pa.memory_map(str(path)) if path else open_file(address)
    try:
        return pa.ipc.open_stream(file).read_all()
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_file(file).read_all()


def _column(member: Member) -> pa.ChunkedArray:
    if member.file.endswith(".arrow"):
        return arrow_table(member.file).column(member.column)
    with open_file(member.file) as file:
        found = pq.ParquetFile(file).read_row_group(member.start, columns=[member.column])
    return found.column(0)


def _host(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def _unreachable(uri: str, error: BaseException) -> UnreachableError:
    return UnreachableError(
        f"{shown(uri, 200)} cannot be read ({reason(error)}): check that it can be reached"
    )
