"""What an annotation format is, and what every format says about an instance.

Coordinates are pixels of the upright image, origin at its top left corner, x to the right.

A new format is one module of this package that defines `FORMAT`, and its name in the choices of
`annotation_format` in `predict.py`, which Cog reads without running anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic_core import to_json

from sam3_image.decode import GeoReference
from sam3_image.errors import InputError, shown
from sam3_image.masks import Detections, Mask

# Of the files that `annotations.schema.json` describes. The second number changes when something is
# added, the first when something that a reader may rely on goes.
VERSION = "1.0"

Record = dict[str, Any]


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about its image.

    size: (height, width) in pixels. file_name, id: as the reader of the file knows the image.
    geo: where on the earth it lies; None where its file does not say so.
    """

    size: tuple[int, int]
    file_name: str = "image"
    id: int = 1
    geo: GeoReference | None = None


def dump_json(document: Any) -> bytes:
    """JSON in UTF-8 without spaces; a number that is not finite becomes null."""
    # The same bytes as Python's own `json` writes, five times as fast.
    return to_json(document, inf_nan_mode="null")


Categories = Mapping[str, int]  # category id, from 1, by concept
Images = Iterable[tuple[ImageInfo, Sequence[Any]]]  # each with the records of its instances
Pieces = Iterator[tuple[str, bytes]]  # file name, content


@dataclass(frozen=True)
class AnnotationFormat:
    """One way to write instances for other tools. Each module of this package defines one.

    name: as `annotation_format` has it. title: for people, in the page.
    file_name, media_type: of the file.
    record: facts (see `facts`) and mask of one instance → what the file says about it.
    document: image, records in order, and category ids by concept → the file's content.
    dump: that content → bytes.
    extra: categories → the files that the format has besides, by name. None where it is one file.
    dataset: many images, and the concepts in the order in which they are numbered → the files of
        one dataset, in pieces: pieces of one name follow each other and are one file. Concepts
        that were not named are numbered as they come. None where images have nothing in common.
    images: the folder of a dataset in which the tool expects the images under their file names,
        with a slash behind it, "" for the dataset's own. None where the tool is told.
    """

    name: str
    title: str
    record: Callable[[Record, Mask], Any]
    document: Callable[[ImageInfo, Sequence[Any], Categories], Any]
    file_name: str = "annotations.json"
    media_type: str = "application/json"
    dump: Callable[[Any], bytes] = dump_json
    extra: Callable[[Categories], dict[str, bytes]] | None = None
    dataset: Callable[[Images, Sequence[str]], Pieces] | None = None
    images: str | None = None


def facts(instances: Detections, index: int) -> Record:
    """What is known about an instance besides its mask, as JSON values without false precision."""
    return {
        "concept": instances.concepts[index],
        "prompt": int(instances.prompts[index]),
        "score": round(float(instances.scores[index]), 6),
        "presence": round(float(instances.presence[index]), 6),
        "box": [round(float(value), 3) for value in instances.boxes[index]],
        "candidate": int(instances.candidates[index]),
    }


def categories(instances: Detections) -> dict[str, int]:
    """Concept → category id: 1 + the index of its prompt, whatever other prompts found."""
    numbers: dict[str, int] = {}
    for concept, prompt in zip(instances.concepts, instances.prompts.tolist(), strict=True):
        numbers[concept] = min(numbers.get(concept, prompt + 1), prompt + 1)
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def numbered(concepts: Iterable[str]) -> dict[str, int]:
    """Concept → category id from 1, in the order given; a concept given twice has one."""
    return {concept: number for number, concept in enumerate(dict.fromkeys(concepts), start=1)}


def number(known: dict[str, int], records: Sequence[Record]) -> None:
    """Give each concept of `records` that is not in `known` the next number."""
    for record in records:
        known.setdefault(record["concept"], len(known) + 1)


def with_stems(images: Images) -> Iterator[tuple[str, ImageInfo, Sequence[Any]]]:
    """The same, each with the name of the image without its ending: "a/b" for "a/b.jpg".

    Raises InputError for two images of the same, whose files could not be told apart.
    """
    seen: set[str] = set()
    for image, records in images:
        path = PurePosixPath(image.file_name)
        # What names a folder above would leave the dataset's.
        parts = [part for part in path.with_suffix("").parts if part not in ("/", "..")]
        stem = "/".join(parts)
        if not stem or stem in seen:
            raise InputError(
                f"{shown(image.file_name)} is not the only image of that name in the dataset, "
                "whatever its ending; rename one."
            )
        seen.add(stem)
        yield stem, image, records


def one_file_each(
    document: Callable[[ImageInfo, Sequence[Any], Categories], Any],
    dump: Callable[[Any], bytes],
    name: str,
) -> Callable[[Images, Sequence[str]], Pieces]:
    """The `dataset` of a format that has one file an image. name: of each, with {stem} in it."""

    def dataset(images: Images, _: Sequence[str]) -> Pieces:
        for stem, image, records in with_stems(images):
            yield name.format(stem=stem), dump(document(image, records, {}))

    return dataset
