"""What a SOURCE names → the images in it, each once, in a fixed order.

A folder (recursive), a glob, a list, a tar (WebDataset), a table that lists or holds images, local
or in a bucket, or one web address. Nothing is decoded here. Files in a folder are chosen by their
endings, since opening each would take as long as the work itself; files that are named one by one
are taken whatever they are called.
"""

from __future__ import annotations

import codecs
import csv
import fnmatch
import io
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as arrow_fs
import pyarrow.parquet as pq

from sam3_image.batch.reader import Item, Member, SourceRoot, arrow_table
from sam3_image.batch.storage import (
    BUCKETS,
    WEB,
    WORK,
    SourceError,
    bucket,
    canonical,
    local_path,
    open_file,
    reason,
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
COLUMNS = ("uri", "path", "url", "file", "image")  # of a table, the first that is there
PROMPTS = "prompts"  # the column with prompts for each row
BINARY_TABLES = (".parquet", ".arrow")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
WILD = re.compile(r"[*?\[]")
PROBES = 16  # images that tell whether a source can be reached at all
LIST_LINES = 100  # of a text file, read to tell whether it is a list
TAR_BLOCK = 512


class ImageSource:
    """The images of one SOURCE.

    items: by address, in a fixed order. repeated: how many addresses came again.
    others: how many files are no images, and how many rows of lists are empty.
    problems: what could not be listed, as address and error.
    """

    def __init__(self, name: str, column: str | None = None) -> None:
        """List the images that `name` stands for; raises SourceError.

        column: of a table, the one that holds paths, addresses or images.
        """
        self.name = name
        self.items: dict[str, Item] = {}
        self.repeated = self.others = 0
        self.problems: list[tuple[str, str]] = []
        self._column = column
        try:
            self._list()
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"the source {shown(name, 200)} cannot be read ({reason(error)}): check its name, "
                "and that it can be reached"
            ) from None
        if not self.items and self.problems:
            raise SourceError(self.problems[0][1])
        if not self.items:
            more = f" ({self.others} other files are)" if self.others else ""
            raise SourceError(
                f"the source {shown(name, 200)} has no images in it{more}: give a folder, a glob, "
                "a list, a tar, or an s3://, gs:// or https:// address of images"
            )

    def root(self) -> SourceRoot | None:
        """Return the folder of its local files, to tell a vanished mount from missing files."""
        paths = [local_path(item.file) for item in self.items.values()]
        return SourceRoot.of([str(path) for path in paths if path is not None])

    def probes(self) -> list[Item]:
        """Return a few images, first one of each host and then from all over the source."""
        items = list(self.items.values())
        hosts = {item.file.split("/", 3)[2] if scheme(item.file) else "": item for item in items}
        spread = items[:: -(-len(items) // PROBES)]
        return list(dict.fromkeys([*hosts.values(), *spread]))[:PROBES]

    def _add(self, item: Item) -> None:
        known = self.items.setdefault(item.uri, item)
        self.repeated += known is not item
        if known.prompts != item.prompts:
            raise SourceError(
                f"{shown(item.uri, 200)} is listed twice with different prompts: name all its "
                "prompts in one row"
            )

    def _problem(self, address: str, what: str) -> None:
        self.problems.append((address, f"{shown(address, 200)} {what}: write it again"))

    def _list(self) -> None:
        kind, path = scheme(self.name), local_path(self.name)
        if kind in WEB:
            self._add(Item(canonical(self.name)))
        elif kind in BUCKETS:
            self._list_bucket(canonical(self.name))
        elif path is None:
            raise SourceError(
                f"the source {shown(self.name, 200)} has a scheme that is not read; accepted are "
                "paths, s3://, gs://, https:// and http://"
            )
        elif path.is_dir():
            for file in _files_below(path):
                self._take_found(file)
        elif not path.exists() and WILD.search(str(path)):
            for file in _matching(path):
                self._take_named(file, matched=True)
        else:
            path.stat()  # a missing file is an error of the source, not of an image
            self._take_named(canonical(self.name))

    def _list_bucket(self, address: str) -> None:
        """List the images below a prefix of a bucket, or those that a wildcard matches."""
        system, pattern = bucket(address)
        head = address[: len(address) - len(pattern)]
        wild = WILD.search(pattern)
        path = (pattern[: pattern.rfind("/", 0, wild.start())] if wild else pattern).rstrip("/")
        info = system.get_file_info(path)
        if info.type == arrow_fs.FileType.NotFound:
            raise SourceError(
                f"{shown(head + path, 200)} is not there: check the names of bucket and folder"
            )
        if info.is_file:
            self._take_named(address)
            return
        infos = system.get_file_info(arrow_fs.FileSelector(path, recursive=True))
        for found in sorted(one.path for one in infos if one.is_file):
            if not wild:
                self._take_found(head + found)
            elif fnmatch.fnmatchcase(found, pattern):
                self._take_named(head + found, matched=True)

    def _take_found(self, address: str) -> None:
        """Take a file of a folder if it is or holds images, going by its ending."""
        ending = _ending(address)
        if ending in ENDINGS:
            self._add(Item(address))
        elif ending == ".tar":
            self._take_tar(address)
        elif ending in BINARY_TABLES:
            try:
                if any(_holds_images(column.type) for column in _schema(address)):
                    self._take_table(address)
                else:
                    self.others += 1
            except (OSError, pa.ArrowException) as error:
                self._problem(address, f"cannot be read ({reason(error)})")
        else:
            self.others += 1

    def _take_named(self, address: str, matched: bool = False) -> None:
        """Take a file that was named, as what its ending says.

        matched: by a wildcard; then texts are not read as lists.
        """
        ending = _ending(address)
        if ending == ".tar":
            self._take_tar(address)
        elif ending in BINARY_TABLES:
            self._take_table(address)
        elif matched:
            self._add(Item(address))
        elif ending in SEPARATORS:
            self._take_rows(_text(address), address, SEPARATORS[ending])
        elif ending in (".txt", ".lst"):
            self._take_lines(_text(address), address)
        else:
            self._add(Item(address))

    def _take_lines(self, text: str, address: str) -> None:
        folder = address.rpartition("/")[0] + "/"
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        lines = [line for line in lines if line.strip() and not line.startswith("#")]
        if lines and not any(_looks_like_image(line, folder) for line in lines[:LIST_LINES]):
            raise SourceError(
                f"{shown(address, 200)} is not a list of images: its first line is "
                f"{shown(lines[0])}; give one path or address per line"
            )
        for line in lines:
            self._add(Item(canonical(line, folder)))

    def _take_rows(self, text: str, address: str, separator: str) -> None:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            names, *rows = [row for row in reader if row and not row[0].startswith("#")] or [[]]
        except csv.Error as error:
            raise SourceError(f"{shown(address, 200)} is not a table ({error}): check it") from None
        chosen = names.index(self._choose(names, address))
        prompts = names.index(PROMPTS) if PROMPTS in names else len(names)
        for row in rows:
            row += [""] * (len(names) + 1 - len(row))
            self._take_row(row[chosen], row[prompts], address)

    def _take_row(self, value: str | None, prompts: object, address: str) -> None:
        if value and value.strip():
            uri = canonical(value, address.rpartition("/")[0] + "/")
            self._add(Item(uri, _prompts(prompts, uri)))
        else:
            self.others += 1

    def _choose(self, names: Sequence[str], address: str) -> str:
        chosen = self._column or next((name for name in COLUMNS if name in names), None)
        if chosen is None or chosen not in names:
            raise SourceError(
                f"{shown(address, 200)} has no column {shown(chosen or ' or '.join(COLUMNS))}; it "
                f"has {', '.join(names)[:200]}: name one with --column"
            )
        return chosen

    def _take_table(self, address: str) -> None:
        """Take the rows of a Parquet or Arrow file: paths, addresses, or images in them."""
        schema = _schema(address)
        images = [column.name for column in schema if _holds_images(column.type)]
        named = self._column or set(COLUMNS) & set(schema.names)
        chosen = images[0] if images and not named else self._choose(schema.names, address)
        kind = schema.field(chosen).type
        if not (_holds_images(kind) or _is_text(kind)):
            raise SourceError(
                f"the column {chosen} of {shown(address, 200)} is of type {kind}; it must hold "
                "paths, addresses or images: name another with --column"
            )
        # Of images only the names are read here, and of bytes nothing but their number.
        struct = pa.types.is_struct(kind)
        value = f"{chosen}.path" if struct else chosen
        columns = [name for name in schema.names if name == PROMPTS]
        columns += [value] if struct or _is_text(kind) else []
        for group, count, table in _groups(address, columns):
            empty = [None] * count
            values = table.column(value).to_pylist() if value in columns else empty
            prompts = table.column(PROMPTS).to_pylist() if PROMPTS in columns else empty
            for row, (text, own) in enumerate(zip(values, prompts, strict=True)):
                if _is_text(kind):
                    self._take_row(text, own, address)
                    continue
                uri = f"{address}#{group}.{row}" + (f"/{PurePosixPath(text).name}" if text else "")
                self._add(Item(uri, _prompts(own, uri), Member(address, chosen, group, row)))

    def _take_tar(self, address: str) -> None:
        """Take the images of a tar by where they lie in it; note what cannot be listed."""
        with open_file(address) as file:
            size, end, why = file.seek(0, os.SEEK_END), 0, ""
            file.seek(0)
            try:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    for member in archive:
                        end = member.offset_data + member.size
                        if end <= size:  # else the archive says that it is cut off
                            self._take_member(address, member)
                    end = archive.offset
                # Python takes a damaged header for the end of the archive, which is zeros.
                file.seek(end)
                mark, rest = file.read(TAR_BLOCK), file.read(1 << 16)
                if len(mark) < TAR_BLOCK or mark.strip(b"\0") or rest.strip(b"\0"):
                    why = "no end mark, or a damaged header"
            except (tarfile.TarError, ValueError) as error:
                why = reason(error)
        if why:
            where = f"byte {min(end, size):,} of {size:,}"
            self._problem(address, f"cannot be listed from {where} on ({why})")

    def _take_member(self, address: str, member: tarfile.TarInfo) -> None:
        name = uri_of(os.fsencode(posixpath.normpath(member.name))).removeprefix("file://")
        if member.isfile() and _ending(name) in ENDINGS:
            where = Member(address, "", member.offset_data, member.size)
            self._add(Item(f"{address}#{name}", None, where))
        else:
            self.others += not member.isdir()


def _ending(address: str) -> str:
    return PurePosixPath(address).suffix.lower()


def _files_below(folder: Path) -> Iterator[str]:
    """Every file below a folder, sorted; hidden files and links to folders are left out.

    So are the overlays and exports of a folder of results, which hold images as well.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(os.fsencode(os.path.abspath(folder)), onerror=fail):
        skipped = (b".", b"_") if os.fsencode(WORK) in folders else b"."
        folders[:] = sorted(name for name in folders if not name.startswith(skipped))
        for name in sorted(files):
            if not name.startswith(b"."):
                yield uri_of(os.path.join(parent, name))


def _matching(pattern: Path) -> list[str]:
    """Return the files that a glob matches, sorted; `**` does not follow links to folders."""
    parts = pattern.absolute().parts
    fixed = next(index for index, part in enumerate(parts) if WILD.search(part))
    top = Path(*parts[:fixed])
    hidden = any(part.startswith(".") for part in parts[fixed:])
    found = [path for path in set(top.glob("/".join(parts[fixed:]))) if path.is_file()]
    return sorted(
        canonical(str(path))
        for path in found
        if hidden or not any(part.startswith(".") for part in path.relative_to(top).parts)
    )


def _text(address: str) -> str:
    """Return the text of a list: UTF-8, or UTF-16 with a byte order mark; raises SourceError.

    Bytes that are no UTF-8 stay as they are (surrogateescape): file names may be any bytes.
    """
    with open_file(address) as file:
        data = bytes(file.read())
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
    except UnicodeDecodeError:
        data = data[:40] + b"\0"
    if b"\0" in data:
        raise SourceError(
            f"{shown(address, 200)} is not a text: it begins with {shown(data[:20])}; save the "
            "list as UTF-8, or as UTF-16 with a byte order mark"
        )
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _looks_like_image(line: str, folder: str) -> bool:
    if scheme(line) or _ending(line.strip()) in ENDINGS:
        return True
    path = local_path(canonical(line, folder))
    return path is not None and path.is_file()


def _prompts(value: Any, uri: str) -> tuple[str, ...] | None:
    """Return a row's own prompts: a list, a text, or in a text a JSON list; None if it is empty."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            texts = json.loads(value)
        except ValueError:
            texts = [None]
    if not isinstance(texts or [], list) or not all(isinstance(text, str) for text in texts or []):
        raise SourceError(
            f"the prompts of {shown(uri, 200)} are {shown(value)}; give a text or a list of texts"
        )
    return tuple(text for text in texts or [] if text.strip()) or None


def _schema(address: str) -> pa.Schema:
    if _ending(address) == ".arrow":
        return arrow_table(address).schema
    with open_file(address) as file:
        return pq.read_schema(file)


def _groups(address: str, columns: list[str]) -> Iterator[tuple[int, int, pa.Table]]:
    """Yield each row group's number, rows and columns; fields of structs are STRUCT.FIELD."""
    if _ending(address) == ".arrow":
        found = arrow_table(address)
        yield 0, found.num_rows, found.flatten().select(columns)
        return
    with open_file(address) as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            yield group, rows, parquet.read_row_group(group, columns=columns).flatten()


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_images(kind: pa.DataType) -> bool:
    """Whether a column holds files: bytes, or the struct of bytes and path of Hugging Face."""
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(index).name for index in range(kind.num_fields)}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
