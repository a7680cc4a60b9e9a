"""Instances: the answer to one request about one image, and everything to be made of it."""

from __future__ import annotations

import base64
import html
import importlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode import Image
from sam3_image.errors import InputError, OutputError, UserError, check_choice, shown
from sam3_image.masks import Detections, Mask, Selection
from sam3_image.output import (
    FORMATS,
    ImageInfo,
    Output,
    annotate,
    draw,
    label_map,
    save,
    unwritable,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections as SupervisionDetections

# What `save` writes by the ending of the file's name: the output inputs that give it.
ENDINGS: dict[str, dict[str, Any]] = {
    ".zip": {"return_zip": True},
    ".png": {"return_zip": False, "output_format": "png"},
    ".jpg": {"return_zip": False, "output_format": "jpg"},
    ".jpeg": {"return_zip": False, "output_format": "jpg"},
    ".webp": {"return_zip": False, "output_format": "webp"},
    ".json": {"return_zip": False, "annotation_format": "coco"},
    ".geojson": {"return_zip": False, "annotation_format": "geojson"},
    ".xml": {"return_zip": False, "annotation_format": "voc"},
}
NOTEBOOK_SIDE = 1024  # pixels; the longer side of what a notebook shows
NOTEBOOK_ROWS = 20  # instances in the table beside it


@dataclass(frozen=True, eq=False)
class Instance:
    """One instance of an image.

    score: 0 to 1. *find*: of the concept; *pick* and *everything*: the estimated IoU of the mask.
    box: x0, y0, x1, y1 in pixels of the upright image. Of the model for *find*, around the mask
        for *pick* and *everything*.
    concept: the text that found it, "example" for exemplars alone, "object" for *pick* and
        *everything*.
    prompt: the index of the concept, or of the object to pick, in the request.
    presence: 0 to 1, how surely the concept is in the image at all.
    candidate: *pick* with multimask_output: which of the model's candidates it is; else 0.
    region: its mask as the smallest region that can hold it.
    logits: *pick*: (h, w) float32, the model's own logits of the mask, which spans the image; else
        None.
    """

    score: float
    box: tuple[float, float, float, float]
    concept: str
    prompt: int
    presence: float
    candidate: int
    region: Mask = field(repr=False)
    logits: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(height, width) bool at the size of the image, made anew each time."""
        return self.region.full()

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return self.region.area


@dataclass(frozen=True, eq=False)
class Instances:
    """N instances of one image, best score first.

    `len(found)`; iterating and `found[i]` give an `Instance`; a slice, a boolean array (N,) or an
    array of indices gives `Instances`. A notebook shows the overlay and a table.

    Coordinates are pixels of the upright image (EXIF orientation applied), origin at the top left
    corner, x to the right. Nothing found is a result with N = 0, not an error.

    metrics: the seconds of each stage (`timing.…`) and other figures of this request.
    """

    image: Image = field(repr=False)
    detections: Detections = field(repr=False)
    metrics: Mapping[str, float | int | str] = field(default_factory=dict, repr=False)

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[Instances, Sequence[int]]], selection: Selection
    ) -> Instances:
        """Several results of one image as one, best score first, after one selection.

        parts: at least one result, each with the indices that its prompts get in the new one.
        """
        found = [
            replace(part.detections, prompts=np.asarray(places, dtype=np.int64)[part.prompts])
            for part, places in parts
        ]
        return cls(parts[0][0].image, selection.apply(Detections.joined(found).sorted()))

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[Instance]:
        return (self._one(index) for index in range(len(self)))

    @overload
    def __getitem__(self, key: int) -> Instance: ...

    @overload
    def __getitem__(self, key: slice | Sequence[int] | NDArray[Any]) -> Instances: ...

    def __getitem__(self, key: Any) -> Instance | Instances:
        """An `Instance` for a whole number, `Instances` for a slice or an array.

        Raises IndexError beyond the last one, InputError for any other key.
        """
        if isinstance(key, slice):
            return self._taken(np.arange(len(self))[key])
        try:
            chosen = np.asarray(key)
        except (ValueError, TypeError, RuntimeError):  # rows of different lengths, a GPU's tensor
            chosen = np.asarray(None)
        if isinstance(key, list | tuple) and not key:
            chosen = chosen.astype(np.int64)  # an empty list has no dtype of its own
        if chosen.dtype == bool and chosen.shape == (len(self),):
            return self._taken(np.flatnonzero(chosen))
        if chosen.dtype.kind not in "iu" or chosen.ndim > 1:
            raise InputError(
                f"{shown(key)} selects no instances; give a whole number, a slice, whole numbers "
                f"in a list or an array, or {len(self)} booleans."
            )
        wrong = chosen[(chosen < -len(self)) | (chosen >= len(self))]
        if wrong.size:
            raise IndexError(f"there is no instance {wrong.flat[0]}; there are {len(self)}.")
        if chosen.ndim == 0:
            return self._one(int(chosen) % len(self))
        return self._taken(chosen)

    def __repr__(self) -> str:
        width, height = self.size[1], self.size[0]
        return f"<{len(self)} instances in {width}×{height} pixels>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: without what the model made of the image."""
        image = Image(self.image.pixels, self.image.format, geo=self.image.geo)
        return Instances, (image, self.detections, dict(self.metrics))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image in pixels."""
        return self.detections.size

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) float32 in 0–1. *find*: of the concept; *pick*: the estimated IoU of the mask."""
        return self.detections.scores

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32, xyxy in pixels: the model's for *find*, around the mask for *pick*.

        With `refine`, around the mask for both.
        """
        return self.detections.boxes

    @property
    def concepts(self) -> tuple[str, ...]:
        """N names: the text that found each, "example" for exemplars alone, "object" for *pick*."""
        return self.detections.concepts

    @property
    def prompts(self) -> NDArray[np.int64]:
        """(N,) int64, the index of the concept, or of the object to pick, in the request."""
        return self.detections.prompts

    def masks(self) -> NDArray[np.bool_]:
        """All masks at the size of the image: (N, height, width) bool.

        N · height · width bytes; `iter_masks` takes one at a time.
        """
        masks = np.zeros((len(self), *self.size), dtype=bool)
        for full, mask in zip(masks, self.iter_masks(), strict=True):
            full[mask.window] = mask.inside
        return masks

    def iter_masks(self) -> Iterator[Mask]:
        """The masks one after the other, each as the smallest region that can hold it."""
        return self.detections.masks()

    def overlay(
        self, mask_color: str = "distinct", mask_opacity: float = 0.5, show_labels: bool = False
    ) -> NDArray[np.uint8]:
        """The image with its instances tinted: (height, width, 3) uint8 RGB.

        Raises InputError for a color or an opacity that is not accepted.
        """
        output = Output(
            return_zip=False,
            mask_color=mask_color,
            mask_opacity=mask_opacity,
            show_labels=show_labels,
        )
        return draw(self.image, self.detections, output)

    def label_map(self, kind: str = "instance") -> NDArray[np.uint16]:
        """One image of all masks: (height, width) uint16, 0 for the background.

        kind: "instance", whose values are 1 + the index here, or "concept", 1 + that of its prompt.
        Where instances overlap, the better score wins. Raises InputError for another kind, and for
        more values than 65,535.
        """
        check_choice("kind", kind, ("instance", "concept"))
        return label_map(self.detections, kind)

    def annotations(self, annotation_format: str = "rle") -> Any:
        """The annotations in any `annotation_format`; raises InputError for "none" and others.

        JSON values as a dict, or the text of "voc" and of "yolo" (the lines of the label file).
        """
        check_choice("annotation_format", annotation_format, tuple(FORMATS))
        image = ImageInfo(self.size, geo=self.image.geo)
        return annotate(self.detections, annotation_format, image)

    def to_coco(self, file_name: str = "image", image_id: int = 1) -> dict[str, Any]:
        """A COCO document of this one image, which pycocotools loads.

        file_name, image_id: of the image in the document. Annotations are numbered from 1.
        """
        if isinstance(image_id, bool) or not isinstance(image_id, int | np.integer):
            raise InputError(f"image_id is {shown(image_id)}; give a whole number.")
        image = ImageInfo(self.size, os.fspath(file_name), int(image_id))
        return annotate(self.detections, "coco", image)

    def to_pandas(self) -> DataFrame:
        """A `pandas.DataFrame` with one row per instance, best score first.

        Columns: concept, prompt, score, presence, x0, y0, x1, y1, area, candidate. Raises
        UserError where pandas is not installed.
        """
        pandas = _package("pandas")
        columns = {
            "concept": np.array(self.concepts, dtype=object),
            "prompt": self.prompts,
            "score": self.scores,
            "presence": self.detections.presence,
            **dict(zip(("x0", "y0", "x1", "y1"), self.boxes.T, strict=True)),
            "area": np.array([mask.area for mask in self.iter_masks()], dtype=np.int64),
            "candidate": self.detections.candidates,
        }
        return pandas.DataFrame(columns)

    def to_supervision(self) -> SupervisionDetections:
        """`supervision.Detections` with masks, scores, class ids and names.

        Boxes lie tightly around the masks. class_id is the index of the prompt. Raises UserError
        where supervision is not installed.
        """
        supervision = _package("supervision")
        return supervision.Detections(
            xyxy=self.detections.with_mask_boxes().boxes,
            mask=self.masks(),
            confidence=self.scores,
            class_id=self.prompts,
            data={"class_name": np.array(self.concepts, dtype=object)},
        )

    def save(self, path: str | os.PathLike[str], **output: Any) -> Path:
        """Write one file to `path` and return the path.

        The ending says what is written: `.zip` the masks, `.png`, `.jpg` or `.webp` the overlay,
        `.json` a COCO document, `.geojson` GeoJSON, `.xml` Pascal VOC; without an ending, the
        masks.
        output: the output inputs of `predict()`, such as mask_color="red", mask_only=True for a
            black-and-white PNG, annotation_format="labelme" for another JSON, or return_zip=False
            with annotation_format="yolo" for a ZIP of its files.

        An older file is replaced once the new one is complete. Raises InputError for inputs that
        do not go together or contradict the ending, and OutputError where nothing can be written.
        """
        try:
            target = Path(os.fsdecode(path))
        except TypeError:
            raise InputError(f"path is {shown(path)}; give the path of a file.") from None
        wanted = output_for(target, output)
        if target.is_dir():
            raise OutputError(
                f"The result cannot be written to {target}, which is a folder: name a file in it."
            )
        try:
            with tempfile.TemporaryDirectory(prefix=".sam3-image-", dir=target.parent) as folder:
                made = save(self.image, self.detections, wanted, Path(folder))
                shutil.move(made, target)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = error if isinstance(error, OSError) else OSError(str(error))
            raise unwritable(target, reason) from None
        return target

    def _repr_png_(self) -> bytes:
        picture = Pillow.fromarray(self.overlay(show_labels=True))
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        image = base64.b64encode(self._repr_png_()).decode()
        rows = "".join(
            f"<tr><td>{index}</td><td>{html.escape(one.concept)}</td><td>{one.score:.3f}</td>"
            f"<td>{one.area}</td></tr>"
            for index, one in enumerate(self[:NOTEBOOK_ROWS])
        )
        more = len(self) - NOTEBOOK_ROWS
        return (
            f'<img src="data:image/png;base64,{image}" alt="overlay">'
            f"<p>{html.escape(repr(self))}</p>"
            "<table><tr><th></th><th>concept</th><th>score</th><th>area</th></tr>"
            f"{rows}</table>" + (f"<p>and {more} more</p>" if more > 0 else "")
        )

    def _one(self, index: int) -> Instance:
        found = self.detections
        x0, y0, x1, y1 = (float(value) for value in found.boxes[index])
        return Instance(
            score=float(found.scores[index]),
            box=(x0, y0, x1, y1),
            concept=found.concepts[index],
            prompt=int(found.prompts[index]),
            presence=float(found.presence[index]),
            candidate=int(found.candidates[index]),
            region=found.mask(index),
            logits=None if found.logits is None else found.logits[index],
        )

    def _taken(self, indices: NDArray[np.integer]) -> Instances:
        taken = self.detections.take(indices.astype(np.int64))
        return Instances(self.image, taken, self.metrics)


def output_for(target: Path, given: dict[str, Any]) -> Output:
    """What to write to a file of that name; raises InputError where the two contradict."""
    ending = target.suffix.lower()
    if not ending:
        return Output(**given)
    if ending not in ENDINGS:
        raise InputError(
            f"{target.name!r} ends in {ending}; choose one of {', '.join(ENDINGS)}, or a name "
            "without an ending for the ZIP."
        )
    wanted = {**ENDINGS[ending], **given}
    others = (wanted.get(name, "none") for name in ("annotation_format", "label_map"))
    picture = not (wanted.get("return_zip") or wanted.get("mask_only"))
    picture = picture and all(other == "none" for other in others)
    if not picture and "output_format" not in given:
        wanted.pop("output_format", None)  # masks are always PNG, and annotations no picture
    output = Output(**wanted)
    written = _suffix(output)
    if written != ENDINGS[ending].get("output_format", ending[1:]):
        options = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise InputError(
            f"{target.name!r} ends in {ending}, but {options} gives a file that ends in "
            f".{written}; change one of them."
        )
    return output


def _suffix(output: Output) -> str:
    """The ending of the file that `output` asks for."""
    if output.return_zip:
        return "zip"
    if output.wants_annotations:
        known = FORMATS[output.annotation_format]
        return "zip" if known.extra else Path(known.file_name).suffix[1:]
    return "png" if output.mask_only or output.wants_label_map else output.output_format


def _package(name: str) -> Any:
    """A package that only some need; raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"to_{name} needs {name}, which is not installed: pip install {name}"
        ) from None
