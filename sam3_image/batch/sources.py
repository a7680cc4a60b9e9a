"""What a SOURCE names → the images in it, each once, in a fixed order.

A folder (recursive), a glob, a text file or a Parquet file that lists images, a tar (WebDataset),
or an address: `s3://`, `gs://`, `https://`. Nothing is decoded here. Which files of a folder are
images is told by their endings, since opening each would take as long as the work itself; files
that are named one by one are taken whatever they are called.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as arrow_fs
import pyarrow.parquet as pq

from sam3_image.batch.items import (
    BUCKETS,
    MEMBER,
    WEB,
    Item,
    Root,
    SourceError,
    bucket,
    local_path,
    scheme,
    uri_of,
)
from sam3_image.errors import shown

# fmt: off
ENDINGS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".heic", ".heif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm",
))
# fmt: on
COLUMNS = ("uri", "path", "url", "file", "image")  # of a Parquet file, the first that is there
TAR = ".tar"
WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """The images of one SOURCE.

    name: as it was given. items: in a fixed order, no address twice.
    repeated: how many addresses were named again. others: files that do not look like images.
    """

    name: str
    items: tuple[Item, ...]
    repeated: int = 0
    others: int = 0

    @classmethod
    def open(cls, name: str, column: str | None = None) -> Source:
        """List the images that `name` stands for; raises SourceError.

        column: of a Parquet file, the one that holds paths or addresses.
        """
        try:
            found = list(_images(name, column))
        except (OSError, pa.ArrowException, tarfile.TarError) as error:
            raise SourceError(
                f"the source {shown(name, 200)} cannot be read "
                f"({' '.join(str(getattr(error, 'strerror', None) or error).split())[:160]}): "
                "check its name, and that it can be reached"
            ) from None
        items: dict[str, Item] = {}
        for item in found:
            if item is not None:
                items.setdefault(item.uri, item)
        others = found.count(None)
        if not items:
            more = f" ({others} other files are)" if others else ""
            raise SourceError(
                f"the source {shown(name, 200)} has no images in it{more}: give a folder, a glob, "
                "a list, a tar, or an s3://, gs:// or https:// address of images"
            )
        return cls(name, tuple(items.values()), len(found) - others - len(items), others)

    def root(self) -> Root | None:
        """Return the folder of its local files, to tell a vanished mount from missing files."""
        names = (
            item.uri if item.offset is None else item.uri.rpartition(MEMBER)[0]
            for item in self.items
        )
        paths = [local_path(name) for name in names]
        return Root.of([str(path) for path in paths if path is not None])


def _images(name: str, column: str | None) -> Iterator[Item | None]:
    """Return the images of a source; None for each file that does not look like one."""
    kind = scheme(name)
    if kind in BUCKETS:
        return _of_bucket(name, column)
    if kind in WEB:
        return iter([Item(name)])
    path = local_path(name)
    if path is None:
        raise SourceError(
            f"the source {shown(name, 200)} has a scheme that is not read; accepted are paths, "
            "s3://, gs://, https:// and http://"
        )
    if path.is_dir():
        return _sifted(_files_below(path))
    if not path.exists() and WILD.search(str(path)):
        return _of_files(sorted(glob.glob(os.fsencode(path), recursive=True)))
    return _of_file(path, column)


def _of_file(path: Path, column: str | None) -> Iterator[Item]:
    if path.suffix == ".parquet":
        return _listed(_column(str(path), pq.ParquetFile(path), column), path.parent)
    if path.suffix in (".txt", ".lst", ".csv"):
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        return _listed((line for line in lines if line.strip()), path.parent)
    path.stat()  # a name that does not exist is an error of the source, not of an image
    return _of_path(os.fsencode(os.path.abspath(path)))


def _files_below(folder: Path) -> Iterator[bytes]:
    """Every file below a folder, sorted; hidden ones are left out."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(os.fsencode(os.path.abspath(folder)), onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith(b"."))
        for name in sorted(files):
            if not name.startswith(b"."):
                yield os.path.join(parent, name)


def _sifted(paths: Iterable[bytes]) -> Iterator[Item | None]:
    for path in paths:
        ending = os.path.splitext(path)[1].lower().decode("ascii", "replace")
        if ending in ENDINGS or ending == TAR:
            yield from _of_path(path)
        else:
            yield None


def _of_files(paths: Iterable[bytes]) -> Iterator[Item]:
    for path in paths:
        if os.path.isfile(path):
            yield from _of_path(os.path.abspath(path))


def _of_path(path: bytes) -> Iterator[Item]:
    if path.endswith(TAR.encode()):
        with open(path, "rb") as file:
            yield from _members(uri_of(path), file)
    else:
        yield Item(uri_of(path))


def _listed(names: Iterable[str | None], folder: Path) -> Iterator[Item]:
    """Paths or addresses of a list; relative paths start at the folder of the list."""
    for name in names:
        if name is None:
            continue
        if scheme(name):
            yield Item(name.strip())
        else:
            yield Item(uri_of(os.fsencode(os.path.abspath(folder / name))))


def _column(name: str, file: pq.ParquetFile, column: str | None) -> Iterator[str | None]:
    """Return the texts of a Parquet file's column, read piece by piece."""
    names = file.schema_arrow.names
    chosen = column or next((known for known in COLUMNS if known in names), None)
    if chosen not in names:
        raise SourceError(
            f"{shown(name, 200)} has no column {shown(chosen or ' or '.join(COLUMNS))}; it has "
            f"{', '.join(names)[:200]}: name one with --column"
        )
    kind = file.schema_arrow.field(chosen).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise SourceError(
            f"the column {chosen} of {shown(name, 200)} is of type {kind}; it must hold texts, "
            "paths or addresses: name another with --column"
        )
    for batch in file.iter_batches(columns=[chosen]):
        yield from batch.column(0).to_pylist()


def _of_bucket(uri: str, column: str | None) -> Iterator[Item | None]:
    """Return the images below a prefix of a bucket, or those that a wildcard matches."""
    system, pattern = bucket(uri)
    head = uri[: len(uri) - len(pattern)]
    wild = WILD.search(pattern)
    path = (pattern[: pattern.rfind("/", 0, wild.start())] if wild else pattern).rstrip("/")
    info = system.get_file_info(path)
    if info.type == arrow_fs.FileType.NotFound:
        raise SourceError(
            f"{shown(head + path, 200)} is not there: check the names of bucket and folder"
        )
    if info.type == arrow_fs.FileType.File:
        yield from _of_object(system, path, head, column)
        return
    for entry in sorted(
        system.get_file_info(arrow_fs.FileSelector(path, recursive=True)), key=lambda one: one.path
    ):
        if not entry.is_file or (wild and not fnmatch.fnmatchcase(entry.path, pattern)):
            continue
        if wild or PurePosixPath(entry.path).suffix.lower() in (*ENDINGS, TAR):
            yield from _of_object(system, entry.path, head, None)
        else:
            yield None


def _of_object(
    system: arrow_fs.FileSystem, path: str, head: str, column: str | None
) -> Iterator[Item]:
    if path.endswith(TAR):
        with system.open_input_file(path) as file:
            yield from _members(head + path, file)
    elif path.endswith(".parquet"):
        with system.open_input_file(path) as file:
            texts = _column(head + path, pq.ParquetFile(file), column)
            yield from (Item(text.strip()) for text in texts if text)
    else:
        yield Item(head + path)


def _members(uri: str, file: Any) -> Iterator[Item]:
    """Return the images of a tar, by where they lie in it: it is read through once, here."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if member.isfile() and PurePosixPath(member.name).suffix.lower() in ENDINGS:
                name = uri_of(os.fsencode(member.name)).removeprefix("file://")
                yield Item(f"{uri}{MEMBER}{name}", member.offset_data, member.size)
