"""Parts → one COCO file, or a ZIP of masks per image; read row by row, never all at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from pycocotools import mask as coco_masks

from sam3_image.batch import schema
from sam3_image.batch.folder import Folder, opened, synchronize, unwritable
from sam3_image.batch.schema import Row
from sam3_image.decode import Image
from sam3_image.errors import InputError, shown
from sam3_image.masks import Detections, Mask
from sam3_image.output import Output, save

FORMATS = ("parquet", "coco", "zip")
BATCH = 64  # rows in memory at once
# Readers of a folder of Parquet leave out names that begin so.
COCO_FILE, ZIP_FOLDER = "_coco.json", "_zip"
LONGEST_NAME = 250  # bytes of a file's name that every file system takes


def export(folder: Folder, wanted: str) -> Path:
    """Write the results of a folder in another format beside them; returns the path.

    wanted: "coco" makes `_coco.json`, "zip" a folder `_zip` with one ZIP per image, as `predict()`
    makes it, named after the image; ZIPs that are there already stay. Files appear whole or not
    at all. Images with an error are left out. Raises InputError and OutputError.
    """
    if not folder.parts():
        raise InputError(
            f"{shown(str(folder.path), 200)} holds no results of script/batch: name its --out "
            "folder"
        )
    exporters: dict[str, Callable[[Folder], Path]] = {"coco": _coco, "zip": _zips}
    if wanted not in exporters:
        return folder.path
    try:
        return exporters[wanted](folder)
    except OSError as error:
        raise unwritable(folder.path, error) from None


def rows(folder: Folder, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Return the rows of segmented images, in the order of the parts."""
    wanted = None if columns is None else [*columns, "status"]
    for path in folder.parts():
        with opened(path) as file:
            for batch in file.iter_batches(BATCH, columns=wanted):
                yield from (row for row in batch.to_pylist() if row["status"] == schema.OK)


def _coco(folder: Folder) -> Path:
    target = folder.path / COCO_FILE
    handle, name = tempfile.mkstemp(dir=folder.path, prefix=".coco-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            _Coco(folder, file).write()
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
        synchronize(folder.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


class _Coco:
    """Writes a COCO document as it goes: the images first, then their instances."""

    def __init__(self, folder: Folder, file: IO[str]) -> None:
        self.folder = folder
        self.file = file
        self.base = base(folder)
        self.categories = {name: number for number, name in enumerate(_prompts(folder), 1)}

    def write(self) -> None:
        self.file.write('{"info":')
        self._value({"description": "SAM 3 instances", "version": schema.VERSION})
        self.file.write(',"licenses":[],"images":[')
        self._values(self._images())
        self.file.write('],"annotations":[')
        self._values(self._annotations())
        self.file.write('],"categories":[')
        self._values(
            {"id": number, "name": name, "supercategory": ""}
            for name, number in self.categories.items()
        )
        self.file.write("]}\n")

    def _images(self) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows(self.folder, ["uri", "width", "height"]), 1):
            yield {
                "id": number,
                "file_name": relative(row["uri"], self.base),
                "width": row["width"],
                "height": row["height"],
            }

    def _annotations(self) -> Iterator[dict[str, Any]]:
        number = 0
        for image, row in enumerate(rows(self.folder, ["instances"]), 1):
            for item in row["instances"]:
                number += 1  # from 1 on: evaluation takes 0 for "no match"
                name = item["prompt"]
                yield {
                    "id": number,
                    "image_id": image,
                    "category_id": self.categories.setdefault(name, len(self.categories) + 1),
                    "segmentation": item["rle"],
                    "area": item["area"],
                    "bbox": coco_masks.toBbox(_bytes(item["rle"])).tolist(),
                    "iscrowd": 0,
                    "concept": name,
                    "score": round(item["score"], 6),
                    "box": [round(value, 3) for value in item["box"]],
                }

    def _values(self, values: Iterator[dict[str, Any]]) -> None:
        for index, value in enumerate(values):
            self.file.write(",\n" if index else "\n")
            self._value(value)

    def _value(self, value: dict[str, Any]) -> None:
        json.dump(value, self.file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _zips(folder: Folder) -> Path:
    target = folder.path / ZIP_FOLDER
    common = base(folder)
    for row in rows(folder):
        path = target / zip_name(row["uri"], common)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".") as half:
            found = detections(row)
            # Masks need the size of the picture and not its pixels, which are not at hand.
            pixels = np.broadcast_to(np.uint8(0), (*found.size, 3))
            os.replace(save(Image(pixels, "none"), found, Output(), Path(half)), path)
    return target


@dataclass(frozen=True)
class Coded:
    """Masks in COCO's run lengths; a `masks.Source`."""

    codes: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.codes)

    def mask(self, index: int) -> Mask:
        """One of them, decoded."""
        code = self.codes[index]
        inside = coco_masks.decode(_bytes(code)).view(bool)
        return Mask(np.ascontiguousarray(inside), 0, 0, tuple(code["size"]))

    def take(self, chosen: Any) -> Coded:
        """Those masks, in that order."""
        return Coded(tuple(self.codes[index] for index in chosen))


def detections(row: Row) -> Detections:
    """Return the instances of a row, as a request finds them."""
    items = row["instances"]
    count = len(items)
    scores = np.array([item["score"] for item in items], dtype=np.float32)
    return Detections(
        size=(row["height"], row["width"]),
        source=Coded(tuple(item["rle"] for item in items)),
        boxes=np.array([item["box"] for item in items], dtype=np.float32).reshape(count, 4),
        scores=scores,
        presence=scores,
        concepts=tuple(item["prompt"] for item in items),
        candidates=np.zeros(count, dtype=np.int64),
        prompts=np.zeros(count, dtype=np.int64),
    )


def base(folder: Folder) -> str:
    """Return what the addresses of all images begin with, up to a slash."""
    common: list[str] | None = None
    for row in rows(folder, ["uri"]):
        parents = row["uri"].split("/")[:-1]
        same = zip(parents if common is None else common, parents, strict=False)
        common = [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], same)]
    return "/".join([*(common or []), ""])


def relative(uri: str, common: str) -> str:
    """Return an address without what it has in common with all others."""
    return uri.removeprefix(common) or uri


def zip_name(uri: str, common: str) -> Path:
    """Where the ZIP of an image goes: named after the image, or by a digest where that cannot be.

    An address may come from anywhere, and no name in it leads out of the folder.
    """
    parts = PurePosixPath(relative(uri, common) + ".zip").parts
    plain = all(
        part not in ("..", "/") and len(part.encode()) <= LONGEST_NAME and "\0" not in part
        for part in parts
    )
    return Path(*parts) if plain else Path(hashlib.sha256(uri.encode()).hexdigest() + ".zip")


def _prompts(folder: Folder) -> list[str]:
    """Return the texts that were asked for, in their order, each once."""
    with opened(folder.parts()[0]) as file:
        found = schema.metadata_of(file.schema_arrow) or {}
    inputs = found.get("inputs", {})
    return list(dict.fromkeys(inputs.get("prompts") or [inputs.get("prompt")]))


def _bytes(rle: dict[str, Any]) -> dict[str, Any]:
    """Run lengths as pycocotools takes them."""
    return {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}
