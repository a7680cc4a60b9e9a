"""Files in a local folder, in a bucket or on the web, by address.

Buckets (`s3://`, `gs://`) are pyarrow file systems. Credentials, region and endpoint are found
where the vendors' own tools look for them; none is ever part of an address or sent to a worker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import secrets
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs as arrow_fs

from sam3_image.errors import InputError, OutputError, UserError, shown

BUCKETS = ("s3", "gs", "gcs")
WEB = ("http", "https")
WORK = ".work"  # locks, logs and unfinished files; readers of Parquet skip such names
ADVICE = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EROFS: "mount it writable",
    errno.EACCES: "give this process the right to write there",
    errno.ENOENT: "the folder vanished: mount it",
    errno.ENOLCK: "this file system has no locks: choose a folder on one that has",
    errno.ENOTSUP: "this file system has no locks: choose a folder on one that has",
}


class SourceError(UserError):
    """The source cannot be read at all: a missing bucket, a mount that vanished, no network."""


def scheme(address: str) -> str:
    """Return the scheme of an address in lower case, "" for a local path."""
    head, mark, _ = address.partition("://")
    return head.lower() if mark and head.isalnum() else ""


def uri_of(path: bytes) -> str:
    """Return the name of a local file in the results: its path, or a file URI if not UTF-8."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return "file://" + quote(path)


def local_path(address: str) -> Path | None:
    """Return the local file that an address names, None if it lies elsewhere."""
    kind = scheme(address)
    if kind == "file":
        path = "/" + address.partition("://")[2].removeprefix("localhost").lstrip("/")
        return Path(os.fsdecode(unquote_to_bytes(path)))
    return None if kind else Path(address)


def canonical(address: str, folder: str = "") -> str:
    """Return the one spelling of an address or path under which it stands in the results.

    folder: where relative paths start: a local folder, or an address that ends with a slash.
    Raises SourceError for an address with credentials, without repeating them.
    """
    if not scheme(address) and scheme(folder) not in ("", "file"):
        address = folder + address
    path = local_path(address)
    if path is not None:
        return uri_of(os.fsencode(os.path.abspath((local_path(folder) or Path()) / path)))
    kind = scheme(address)
    host, slash, key = address.strip().partition("://")[2].partition("/")
    user, at, name = host.rpartition("@")
    if at and (kind not in BUCKETS or user != "anonymous"):
        raise SourceError(
            f"an address at {shown(name)} holds credentials, which would end up in the results: "
            "leave them out, and for s3:// set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    key, question, query = key.partition("?")
    if {".", ".."} & set(key.split("/")):
        key = posixpath.normpath("/" + key).lstrip("/")
    # Bytes of a list that are no UTF-8 are sent as they are.
    key = "".join(quote(os.fsencode(c)) if "\udc80" <= c <= "\udcff" else c for c in key)
    return f"{kind}://{host}{slash}{key}{question}{query}"


def bucket(address: str) -> tuple[arrow_fs.FileSystem, str]:
    """Return the file system of an `s3://` or `gs://` address and the path in it.

    `s3://anonymous@BUCKET/…` uses no credentials. Raises SourceError.
    """
    head, _, path = address.partition("://")
    host, slash, key = path.partition("/")
    return _connected(f"{head}://{host}"), host.rpartition("@")[2] + slash + key


@lru_cache
def _connected(root: str) -> arrow_fs.FileSystem:
    try:
        return arrow_fs.FileSystem.from_uri(root)[0]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(
            f"the bucket {shown(root)} cannot be opened ({reason(error)}): check its name, the "
            "region and the credentials"
        ) from None


def open_file(address: str) -> IO[bytes] | pa.NativeFile:
    """Open a local file or a bucket's object; raises OSError, pa.ArrowException, SourceError."""
    path = local_path(address)
    if path is not None:
        return open(path, "rb")
    system, name = bucket(address)
    return system.open_input_file(name)


class ResultFolder:
    """A local folder or a bucket's prefix into which whole files are put.

    It can be pickled: only its address travels, and credentials are looked up where it arrives.
    """

    def __init__(self, address: str) -> None:
        """Connect to nothing yet; raises InputError for an address that is neither."""
        kind, _, rest = address.partition("://")
        if scheme(address) not in ("", "file", *BUCKETS) or (
            kind in BUCKETS and not rest.strip("/")
        ):
            raise InputError(
                f"--out is {shown(address)}; results are written to a local folder, or to an "
                "s3:// or gs:// address with a bucket in it."
            )
        self.address = canonical(address).rstrip("/") or "/"
        self.local = local_path(self.address)

    def put(self, name: str, data: bytes | pa.Buffer | IO[bytes], durable: bool = True) -> None:
        """Write a file that appears whole or not at all; raises OSError.

        data: its content, or an open file that is read from its start.
        durable: it outlives a power failure once this returns.
        """
        system, path = self._system()
        target, half = f"{path}/{name}", f"{path}/{WORK}/{secrets.token_hex(8)}.tmp"
        try:
            if self.local is None:
                with system.open_output_stream(half) as stream:
                    _copy(data, stream)
            else:
                for parent in (Path(half).parent, Path(target).parent):
                    parent.mkdir(parents=True, exist_ok=True)
                with open(half, "wb") as file:
                    _copy(data, file)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
            # In a bucket this is a copy by the store. Written directly, half a file would be
            # published if this process were interrupted.
            system.move(half, target)
        except BaseException:
            with contextlib.suppress(OSError):
                system.delete_file(half)
            raise
        if self.local and durable:
            _synchronize(Path(target).parent)

    def link(self, name: str, target: Path) -> None:
        """Put a symbolic link to a local file into a local folder; raises OSError."""
        path = Path(f"{self.address}/{name}")
        half = Path(f"{self.address}/{WORK}/{secrets.token_hex(8)}.tmp")
        for parent in (half.parent, path.parent):
            parent.mkdir(parents=True, exist_ok=True)
        half.symlink_to(target)
        half.replace(path)

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, None if it is not there; raises OSError."""
        try:
            with self.open_input(name) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def open_input(self, name: str) -> pa.NativeFile:
        """Open a file for reading; raises OSError."""
        system, path = self._system()
        return system.open_input_file(f"{path}/{name}")

    def files(self, folder: str = "", below: bool = False) -> dict[str, arrow_fs.FileInfo]:
        """Return the files in a subfolder by name; below: also those in folders below it."""
        system, path = self._system()
        start = f"{path}/{folder}".rstrip("/")
        selector = arrow_fs.FileSelector(start, recursive=below, allow_not_found=True)
        found = system.get_file_info(selector)
        return {info.path[len(start) + 1 :]: info for info in found if info.is_file}

    def delete(self, name: str) -> None:
        """Delete a file if it is there; raises OSError."""
        system, path = self._system()
        with contextlib.suppress(FileNotFoundError):
            system.delete_file(f"{path}/{name}")

    def unwritable(self, error: OSError) -> OutputError:
        """Return the one-line error for a folder that cannot be written."""
        advice = ADVICE.get(error.errno or 0, "check the folder, and your rights to it")
        return OutputError(
            f"cannot write to {shown(self.address, 200)}: {reason(error)}; {advice} and run the "
            "same command again: what was written stays"
        )

    def _system(self) -> tuple[arrow_fs.FileSystem, str]:
        if self.local:
            return arrow_fs.LocalFileSystem(), str(self.local)
        return bucket(self.address)


def reason(error: BaseException) -> str:
    """Return what a library or the system says about an error, on one line."""
    text: Any = getattr(error, "strerror", None) or error
    return " ".join(str(text).split())[:160] or type(error).__name__


def _copy(data: bytes | pa.Buffer | IO[bytes], target: Any) -> None:
    if isinstance(data, bytes | pa.Buffer):
        target.write(data)
        return
    data.seek(0)
    while chunk := data.read(1 << 22):
        target.write(chunk)


def _synchronize(folder: Path) -> None:
    """Make the names in a folder outlive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
