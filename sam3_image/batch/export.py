"""Parts → the formats that other tools load; read part by part, never all at once.

The formats are those of `sam3_image.output.FORMATS`, and ZIPs of masks: see `_pieces`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from sam3_image.batch import results, schema
from sam3_image.batch.schema import Row
from sam3_image.batch.storage import WORK, ResultFolder, local_path
from sam3_image.decode import Image
from sam3_image.errors import InputError, shown
from sam3_image.masks import Detections, Mask, PackedMasks
from sam3_image.output import FORMATS, ImageInfo, Output, render
from sam3_image.shipped import command

PARQUET, ZIP = "parquet", "zip"
NAMES = (PARQUET, ZIP, *FORMATS)  # what `--format` accepts
# A file's name, and a piece of its content; a local file to link to; None if it is there and stays.
Piece = tuple[str, bytes | Path | None]
LONGEST_NAME = 240  # bytes of a file's name that every file system takes, with an ending


def export(folder: ResultFolder, wanted: str) -> str:
    """Write the results of a folder in another format beside them; returns the address.

    One document becomes `_NAME.json`, files of single images lie below `_NAME`, with links to the
    images where the format's tool wants them there and they are local. Files appear whole or not
    at all. Images with an error are left out. Raises InputError and OutputError.
    """
    try:
        parts = results.parts(folder)
        if not parts:
            raise InputError(
                f"{shown(folder.address, 200)} holds no results of {command('batch')}: name its "
                "--out folder"
            )
        if wanted == PARQUET:
            return folder.address
        target = f"_{wanted}"
        if wanted.startswith("coco"):
            pieces = _pieces(folder, parts, wanted)
            _write(folder, ((f"{target}.json", data) for _, data in pieces))
            return f"{folder.address}/{target}.json"
        there = {f"{target}/{name}" for name in folder.files(target, below=True)}
        pieces = _pieces(folder, parts, wanted, there)
        written = _write(folder, ((f"{target}/{name}", data) for name, data in pieces))
        for stale in there - written:  # of an export when all addresses had more in common
            folder.delete(stale)
        return f"{folder.address}/{target}"
    except OSError as error:
        raise folder.unwritable(error) from None


def _pieces(
    folder: ResultFolder, parts: Sequence[str], wanted: str, there: Iterable[str] = ()
) -> Iterator[Piece]:
    """Yield the names and contents of files, in pieces."""
    survey = _Survey(folder, parts)

    def names(uri: str) -> str:
        return uri.removeprefix(survey.base) or uri

    if wanted == ZIP:
        for row in _rows(folder, parts):
            name = f"{file_name(names(row['uri']), row['uri'])}.zip"
            yield name, None if f"_{ZIP}/{name}" in there else _zip(row)
        return
    form, is_document = FORMATS[wanted], wanted.startswith("coco")
    links: dict[str, Path] = {}
    stems = Counter(_stem(names(row["uri"])) for row in _rows(folder, parts, ["uri", "status"]))

    def images() -> Iterator[tuple[ImageInfo, list[Any]]]:
        for row in _rows(folder, parts):
            name = names(row["uri"])
            if not is_document:  # their files are named after the image without its ending
                name = file_name(name, row["uri"])
                name += PurePosixPath(name).suffix if stems[_stem(name)] > 1 else ""
            image = local_path(row["uri"])
            if form.images is not None and image and image.is_absolute() and image.is_file():
                links[form.images + name] = image
            records = [form.record(_facts(item), _mask(item["rle"])) for item in row["instances"]]
            yield ImageInfo((row["height"], row["width"]), name, row["id"]), records

    if form.dataset:
        yield from form.dataset(images(), survey.concepts)
        yield from links.items() if folder.local else ()
        return
    for image, records in images():
        suffix = PurePosixPath(form.file_name).suffix
        yield _stem(image.file_name) + suffix, form.dump(form.document(image, records, {}))


def _write(folder: ResultFolder, pieces: Iterable[Piece]) -> set[str]:
    """Write files that come in pieces, those of each file together; returns their names."""
    written: set[str] = set()
    current = ""
    scratch = folder.local / WORK if folder.local else None
    if scratch:
        scratch.mkdir(exist_ok=True)
    # Without a name in the file system: nothing is left of it when the process is killed.
    with tempfile.TemporaryFile(dir=scratch) as file:
        for name, data in pieces:
            if name != current and current not in ("", *written):
                folder.put(current, file, durable=False)
                written.add(current)
            if name != current:
                file.seek(0)
                file.truncate()
            current = name
            if isinstance(data, bytes):
                file.write(data)
                continue
            written.add(name)
            if data is not None:
                folder.link(name, data)
        if current not in ("", *written):
            folder.put(current, file)
            written.add(current)
    return written


def _rows(
    folder: ResultFolder, parts: Sequence[str], columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield the rows of segmented images of the parts there were when the export began."""
    for part in parts:
        rows = results.read_part(folder, part, columns).to_pylist()
        yield from (row for row in rows if row["status"] == schema.OK)


class _Survey:
    """What all rows have in common. base: the beginning of all addresses, up to a slash.

    concepts: the prompts of the run, then those of single images, in the order of the images' ids.
    """

    def __init__(self, folder: ResultFolder, parts: Sequence[str]) -> None:
        folders: set[str] = set()
        first: dict[str, int] = {}  # concept → smallest id of an image with it
        columns = ["uri", "id", "status", "prompts", "instances.list.element.prompt"]
        for row in _rows(folder, parts, columns):
            folders.add(row["uri"].rpartition("/")[0] + "/")
            for text in [*(row["prompts"] or []), *(one["prompt"] for one in row["instances"])]:
                first[text] = min(first.get(text, row["id"]), row["id"])
        low, high = min(folders, default=""), max(folders, default="")
        same = next(
            (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low)
        )
        self.base = low[: low.rfind("/", 0, same) + 1]
        metadata = schema.metadata_of(results.read_part(folder, parts[0], ["id"]).schema)
        run = metadata.get("inputs", {})
        order = [
            *(run.get("prompts") or [run.get("prompt")]),
            *sorted(first, key=lambda c: (first[c], c)),
        ]
        self.concepts = list(dict.fromkeys(text for text in order if text))


def file_name(name: str, uri: str) -> str:
    """Return what an image's file is named after: `name`, or a digest where that cannot be.

    An address may come from anywhere, and no name in it leads out of the folder.
    """
    plain = all(
        part not in ("", ".", "..") and len(part.encode()) <= LONGEST_NAME and "\0" not in part
        for part in name.split("/")
    )
    return name if plain else hashlib.sha256(uri.encode()).hexdigest() + PurePosixPath(name).suffix


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)


def _facts(item: Row) -> Row:
    """Return what a format is told about an instance: as `output.formats.base.facts` has it."""
    return {
        "concept": item["prompt"],
        "prompt": 0,
        "score": round(item["score"], 6),
        "presence": round(item["presence"], 6),
        "box": [round(value, 3) for value in item["box"]],
        "candidate": 0,
    }


def _mask(rle: Row) -> Mask:
    code = {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}
    inside = coco_masks.decode(code).view(bool)
    return Mask(np.ascontiguousarray(inside), 0, 0, tuple(rle["size"]))


def _zip(row: Row) -> bytes:
    """Return the ZIP of masks that `predict()` makes."""
    items = row["instances"]
    none = np.zeros(len(items), dtype=np.int64)
    found = Detections(
        size=(row["height"], row["width"]),
        source=PackedMasks.of(_mask(item["rle"]) for item in items),
        boxes=np.array([item["box"] for item in items], dtype=np.float32).reshape(-1, 4),
        scores=np.array([item["score"] for item in items], dtype=np.float32),
        presence=np.array([item["presence"] for item in items], dtype=np.float32),
        concepts=tuple(item["prompt"] for item in items),
        candidates=none,
        prompts=none,
    )
    # Masks need the size of the image and not its pixels, which are not at hand.
    pixels = np.broadcast_to(np.uint8(0), (*found.size, 3))
    return render(Image(pixels, "none"), found, Output()).data
