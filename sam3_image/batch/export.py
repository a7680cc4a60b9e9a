"""Parts → the formats that other tools load; read part by part, never all at once.

`formats()` is the one place that knows which formats there are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from sam3_image.batch import results, schema
from sam3_image.batch.schema import Row
from sam3_image.batch.storage import WORK, ResultFolder
from sam3_image.decode import Image
from sam3_image.errors import InputError, shown
from sam3_image.masks import Detections, Mask, PackedMasks
from sam3_image.output import FORMATS, AnnotationFormat, ImageInfo, Output, annotate, render

PARQUET = "parquet"
LONGEST_NAME = 250  # bytes of a file's name that every file system takes
WRITERS = 8  # files that are made at the same time
# An annotation's id is its image's times this, plus its place, so it outlives resumes.
ANNOTATIONS_PER_IMAGE = 1_000_000


@dataclass(frozen=True)
class PerImage:
    """A format of one file per image, `_NAME/IMAGE`.

    suffix: of the file. encode: a row and concept → number (from 1) → content of the file.
    replaces: whether the suffix takes the place of the image's, as readers of labels expect.
    """

    suffix: str
    encode: Callable[[Row, dict[str, int]], bytes]
    replaces: bool = True


@dataclass(frozen=True)
class OneDocument:
    """A format of one COCO document for all images, `_NAME.json`.

    annotate: a row and concept → number (from 1) → its annotations; ids are set here.
    """

    annotate: Callable[[Row, dict[str, int]], list[dict[str, Any]]]


def formats() -> dict[str, PerImage | OneDocument]:
    """Return what results can be exported to, by name: all that `predict()` knows, and `zip`."""

    def of(form: AnnotationFormat) -> PerImage | OneDocument:
        def document(row: Row, categories: dict[str, int]) -> Any:
            image = ImageInfo((row["height"], row["width"]), row["uri"].rpartition("/")[2])
            return annotate(detections(row, categories), form.name, image)

        if form.name.startswith("coco"):
            return OneDocument(lambda row, categories: document(row, categories)["annotations"])
        suffix = PurePosixPath(form.file_name).suffix
        return PerImage(suffix, lambda row, categories: form.dump(document(row, categories)))

    return {
        "coco": OneDocument(_coco),  # without decoding the masks
        "zip": PerImage(".zip", _zip, replaces=False),
        **{name: of(form) for name, form in FORMATS.items() if name != "coco"},
    }


def names() -> tuple[str, ...]:
    """Return what `--format` accepts."""
    return (PARQUET, *formats())


def export(folder: ResultFolder, wanted: str) -> str:
    """Write the results of a folder in another format beside them; returns the address.

    What is there of images that were exported before stays. Files appear whole or not at all.
    Images with an error are left out. Raises InputError and OutputError.
    """
    try:
        parts = results.parts(folder)
        if not parts:
            raise InputError(
                f"{shown(folder.address, 200)} holds no results of script/batch: name its --out "
                "folder"
            )
        if wanted == PARQUET:
            return folder.address
        form, found = formats()[wanted], _Results.of(folder, parts)
        if isinstance(form, OneDocument):
            return _write_document(found, form, f"_{wanted}.json")
        return _write_files(found, form, f"_{wanted}")
    except OSError as error:
        raise folder.unwritable(error) from None


@dataclass(frozen=True)
class _Results:
    """The parts that were there when the export began; others may arrive meanwhile.

    base: what all addresses begin with, up to a slash. categories: concept → number from 1: the
    prompts of the run, then those of single images by the images' ids. clashes: names that several
    images share but for their endings.
    """

    folder: ResultFolder
    parts: tuple[str, ...]
    base: str
    categories: dict[str, int]
    clashes: frozenset[str]

    @classmethod
    def of(cls, folder: ResultFolder, parts: Sequence[str]) -> _Results:
        uris: list[str] = []
        first: dict[str, int] = {}  # concept → smallest id of an image with it
        columns = ["uri", "id", "status", "prompts", "instances.list.element.prompt"]
        for part in parts:
            table = results.read(folder, part, columns)
            for row in table.to_pylist():
                for concept in [
                    *(row["prompts"] or []),
                    *(one["prompt"] for one in row["instances"]),
                ]:
                    first[concept] = min(first.get(concept, row["id"]), row["id"])
                if row["status"] == schema.OK:
                    uris.append(row["uri"])
        folders = [uri.rpartition("/")[0] + "/" for uri in uris] or [""]
        low, high = min(folders), max(folders)
        same = next(
            (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low)
        )
        base = low[: low.rfind("/", 0, same) + 1]
        stems = Counter(_stem(uri.removeprefix(base)) for uri in uris)
        inputs = (schema.metadata_of(table.schema) or {}).get("inputs", {})
        run = inputs.get("prompts") or [inputs.get("prompt")]
        order = [*run, *sorted(first, key=lambda concept: (first[concept], concept))]
        concepts = dict.fromkeys(concept for concept in order if concept)
        categories = {concept: number for number, concept in enumerate(concepts, 1)}
        clashes = frozenset(stem for stem, count in stems.items() if count > 1)
        return cls(folder, tuple(parts), base, categories, clashes)

    def rows(self) -> Iterator[list[Row]]:
        """Yield the rows of segmented images, part by part."""
        for part in self.parts:
            rows = results.read(self.folder, part).to_pylist()
            yield [row for row in rows if row["status"] == schema.OK]

    def relative(self, uri: str) -> str:
        """Return an address without what it has in common with all others."""
        return uri.removeprefix(self.base) or uri


def _write_document(found: _Results, form: OneDocument, name: str) -> str:
    # Anonymous files: nothing is left of them when the process is killed.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=_scratch(found.folder)) as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=_scratch(found.folder)) as images,
    ):
        file.write(
            '{"info":' + _json({"description": "SAM 3 instances", "version": schema.VERSION})
        )
        file.write(',"licenses":[],"annotations":[')
        first = ""
        for row in itertools.chain.from_iterable(found.rows()):
            image = {
                "id": row["id"],
                "file_name": found.relative(row["uri"]),
                "width": row["width"],
                "height": row["height"],
            }
            images.write((",\n" if images.tell() else "\n") + _json(image))
            for place, record in enumerate(form.annotate(row, found.categories), 1):
                number = row["id"] * ANNOTATIONS_PER_IMAGE + place
                file.write(f"{first}\n" + _json({"id": number, "image_id": row["id"], **record}))
                first = ","
        file.write('],"images":[')
        images.seek(0)
        while chunk := images.read(1 << 20):
            file.write(chunk)
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for name, number in found.categories.items()
        ]
        file.write('],"categories":' + _json(categories) + "}\n")
        file.flush()
        found.folder.put(name, file.buffer)
    return f"{found.folder.address}/{name}"


def _write_files(found: _Results, form: PerImage, name: str) -> str:
    there = {f"{name}/{one}" for one in found.folder.files(name, below=True)}
    wanted = set()

    def make(row: Row) -> None:
        stem = found.relative(row["uri"])
        if form.replaces and _stem(stem) not in found.clashes:
            stem = _stem(stem)
        path = f"{name}/{file_name(stem + form.suffix, row['uri'])}"
        wanted.add(path)
        if path not in there:
            found.folder.put(path, form.encode(row, found.categories), durable=False)

    with ThreadPoolExecutor(WRITERS) as pool:
        for rows in found.rows():
            list(pool.map(make, rows))
    for stale in there - wanted:  # of an export when all addresses had more in common
        found.folder.delete(stale)
    return f"{found.folder.address}/{name}"


def file_name(name: str, uri: str) -> str:
    """Return the name of an image's file: `name`, or a digest where that cannot be.

    An address may come from anywhere, and no name in it leads out of the folder.
    """
    plain = all(
        part not in ("", ".", "..") and len(part.encode()) <= LONGEST_NAME and "\0" not in part
        for part in name.split("/")
    )
    return name if plain else hashlib.sha256(uri.encode()).hexdigest() + PurePosixPath(name).suffix


def _stem(name: str) -> str:
    """Return a relative name without its ending."""
    return name.removesuffix(PurePosixPath(name).suffix)


def _coco(row: Row, categories: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "category_id": categories[item["prompt"]],
            "segmentation": item["rle"],
            "area": item["area"],
            "bbox": coco_masks.toBbox(_bytes(item["rle"])).tolist(),
            "iscrowd": 0,
            "concept": item["prompt"],
            "score": round(item["score"], 6),
            "box": [round(value, 3) for value in item["box"]],
        }
        for item in row["instances"]
    ]


def _zip(row: Row, categories: dict[str, int]) -> bytes:
    """Return the ZIP of masks that `predict()` makes."""
    found = detections(row, categories)
    # Masks need the size of the image and not its pixels, which are not at hand.
    pixels = np.broadcast_to(np.uint8(0), (*found.size, 3))
    return render(Image(pixels, "none"), found, Output()).data


def detections(row: Row, categories: dict[str, int]) -> Detections:
    """Return the instances of a row, as a request for all `categories` finds them."""
    items = row["instances"]
    count = len(items)
    concepts = tuple(item["prompt"] for item in items)
    return Detections(
        size=(row["height"], row["width"]),
        source=PackedMasks.of(_mask(item["rle"]) for item in items),
        boxes=np.array([item["box"] for item in items], dtype=np.float32).reshape(count, 4),
        scores=np.array([item["score"] for item in items], dtype=np.float32),
        presence=np.array([item["presence"] for item in items], dtype=np.float32),
        concepts=concepts,
        candidates=np.zeros(count, dtype=np.int64),
        prompts=np.array([categories[concept] - 1 for concept in concepts], dtype=np.int64),
    )


def _scratch(folder: ResultFolder) -> str | None:
    """Return where unnamed files go: on the disk of the results, which has room for them."""
    return str(folder.local / WORK) if folder.local and (folder.local / WORK).is_dir() else None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _mask(rle: dict[str, Any]) -> Mask:
    inside = coco_masks.decode(_bytes(rle)).view(bool)
    return Mask(np.ascontiguousarray(inside), 0, 0, tuple(rle["size"]))


def _bytes(rle: dict[str, Any]) -> dict[str, Any]:
    """Return run lengths as pycocotools takes them."""
    return {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}
