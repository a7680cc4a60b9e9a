"""One image of a source, and its bytes: from a file, a bucket, an address, or inside a tar."""

from __future__ import annotations

import errno
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs as arrow_fs

from sam3_image.decode import Limits
from sam3_image.errors import ImageError, UserError, shown

BUCKETS = ("s3", "gs", "gcs")
WEB = ("http", "https")
MEMBER = "#"  # between a tar and the name of a member

TRIES = 3
PAUSE = 1.0  # seconds before the second try, doubled before the third
TIMEOUT = 30  # seconds without data from a web server
# Errors of a file system that is out of order, not of one file.
LOST = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ETIMEDOUT, errno.EHOSTDOWN)


class SourceError(UserError):
    """The source cannot be read at all: a missing bucket, a mount that vanished, no network."""


class UnreachableError(ImageError):
    """This image could not be fetched for now: a connection failed, a server was out of order."""


class Item(NamedTuple):
    """One image. uri: its name in the results. offset, length: where a member lies in its tar."""

    uri: str
    offset: int | None = None
    length: int | None = None


def scheme(uri: str) -> str:
    """Return the scheme of an address, "" for a path of this machine."""
    head, mark, _ = uri.partition("://")
    return head.lower() if mark and head.isalnum() else ""


def uri_of(path: bytes) -> str:
    """How a local file is named in the results: its path, or a file URI where that is no text."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return "file://" + quote(path)


def local_path(uri: str) -> Path | None:
    """Return the local file behind a URI, None where it lies elsewhere."""
    kind = scheme(uri)
    if kind == "file":
        return Path(os.fsdecode(unquote_to_bytes(uri.partition("://")[2])))
    return None if kind else Path(uri)


def bucket(uri: str) -> tuple[arrow_fs.FileSystem, str]:
    """Return the pyarrow file system of an `s3://` or `gs://` address, and the path in it.

    Credentials, region and endpoint are found where the vendors' own tools look for them;
    `s3://anonymous@BUCKET/…` uses none. Raises SourceError.
    """
    head, _, path = uri.partition("://")
    name, slash, key = path.partition("/")
    user, at, name = name.rpartition("@")
    if ":" in user:
        raise SourceError(
            f"an address of the bucket {shown(name)} holds a secret key, which would end up in the "
            "results: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    try:
        system, _ = arrow_fs.FileSystem.from_uri(f"{head}://{user}{at}{name}")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(
            f"the bucket {shown(name)} cannot be opened ({_line(error)}): check its name, the "
            "region and the credentials"
        ) from None
    return system, name + slash + key


@dataclass(frozen=True)
class Root:
    """The folder below which all local files of a source lie, and the device it was on.

    A mount that vanishes leaves an empty folder: its images are not missing, they are out of reach.
    """

    path: str
    device: int

    @classmethod
    def of(cls, paths: Sequence[str]) -> Root | None:
        """Of absolute paths; None where they have nothing in common, or are not there."""
        try:
            path = os.path.commonpath([os.path.dirname(path) for path in paths])
            return None if path == os.sep else cls(path, os.stat(path).st_dev)
        except (OSError, ValueError):
            return None

    def check(self) -> None:
        """Raise SourceError where the folder is out of reach."""
        try:
            reason = "another file system" if os.stat(self.path).st_dev != self.device else ""
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise SourceError(
                f"the source {shown(self.path, 200)} is out of reach ({reason}): mount it and run "
                "the same command again; what was written stays"
            )


class Reader:
    """Reads the bytes of images; keeps its connections to buckets. Safe from several threads."""

    def __init__(self, limits: Limits, root: Root | None = None) -> None:
        """limits: a longer file is refused before it is in memory."""
        self._limits = limits
        self._root = root
        self._systems: dict[str, arrow_fs.FileSystem] = {}

    def read(self, item: Item) -> bytes | Path:
        """Return image's content, or the path of a local file, which the decoder opens with care.

        Raises ImageError where the image is not there, UnreachableError where it cannot be
        fetched for now, SourceError where the whole source is out of reach.
        """
        if item.offset is not None:
            return self._member(item)
        path = local_path(item.uri)
        if path is None:
            return self._patiently(item.uri)
        try:
            os.stat(path)
        except OSError as error:
            if self._root:
                self._root.check()
            if error.errno in LOST:
                raise UnreachableError(_unreachable(item.uri, error)) from None
        return path  # what else is wrong with it, the decoder says

    def _patiently(self, uri: str) -> bytes:
        read = self._from_web if scheme(uri) in WEB else self._from_bucket
        for attempt in range(TRIES):
            try:
                return read(uri)
            except UnreachableError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError("not reached")

    def _from_web(self, uri: str) -> bytes:
        try:
            with urllib.request.urlopen(uri, timeout=TIMEOUT) as answer:
                self._limits.check_bytes(int(answer.headers.get("Content-Length") or 0))
                data: bytes = answer.read(self._limits.bytes + 1)
        except urllib.error.HTTPError as error:
            kind = UnreachableError if error.code >= 500 or error.code == 429 else ImageError
            raise kind(
                f"{shown(uri, 200)} was answered with {error.code} {error.reason}: check the "
                "address"
            ) from None
        except (OSError, ValueError) as error:
            raise UnreachableError(_unreachable(uri, error)) from None
        self._limits.check_bytes(len(data))
        return data

    def _from_bucket(self, uri: str) -> bytes:
        if scheme(uri) not in BUCKETS:
            raise ImageError(
                f"{shown(uri, 200)} has a scheme that is not read; accepted are paths, file://, "
                "s3://, gs://, https:// and http://"
            )
        try:
            with self._open(uri) as file:
                self._limits.check_bytes(file.size())
                return bytes(file.read())
        except FileNotFoundError:
            raise ImageError(f"{shown(uri, 200)} is not there: check the name") from None
        except (pa.ArrowException, OSError) as error:
            raise UnreachableError(_unreachable(uri, error)) from None

    def _open(self, uri: str) -> pa.NativeFile:
        root = "/".join(uri.split("/", 3)[:3])
        if root not in self._systems:
            self._systems[root] = bucket(root)[0]
        return self._systems[root].open_input_file(uri.partition("://")[2].rpartition("@")[2])

    def _member(self, item: Item) -> bytes:
        assert item.offset is not None
        assert item.length is not None
        self._limits.check_bytes(item.length)
        uri = item.uri.rpartition(MEMBER)[0]
        path = local_path(uri)
        try:
            with open(path, "rb") if path else self._open(uri) as file:
                file.seek(item.offset)
                return bytes(file.read(item.length))
        except (pa.ArrowException, OSError) as error:
            raise UnreachableError(_unreachable(uri, error)) from None


def _unreachable(uri: str, error: BaseException) -> str:
    return f"{shown(uri, 200)} cannot be read ({_line(error)}): check that it can be reached"


def _line(error: BaseException) -> str:
    reason: Any = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:160]
