"""Instances: the answer to one request about one image, and everything to be made of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam3_image.decode import Image
from sam3_image.masks import Detections, Mask, Selection
from sam3_image.output import Output, annotate, draw, save, unwritable

if TYPE_CHECKING:
    from supervision import Detections as SupervisionDetections


@dataclass(frozen=True)
class Instances:
    """N instances of one image, best score first.

    Coordinates are pixels of the upright image (EXIF orientation applied), origin at the top left
    corner, x to the right. An empty answer has N = 0 and is an answer.

    metrics: the seconds of each stage (`timing.…`) and other figures of this request.
    """

    image: Image = field(repr=False)
    detections: Detections = field(repr=False)
    metrics: Mapping[str, float | int | str] = field(default_factory=dict, repr=False)

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[Instances, Sequence[int]]], selection: Selection
    ) -> Instances:
        """Return several answers about one image as one, best score first, with one selection.

        parts: at least one answer, each with the indices that its prompts get in the new one.
        """
        found = [
            replace(part.detections, prompts=np.asarray(places, dtype=np.int64)[part.prompts])
            for part, places in parts
        ]
        return cls(parts[0][0].image, selection.apply(Detections.joined(found).sorted()))

    def __len__(self) -> int:
        return len(self.detections)

    def __repr__(self) -> str:
        width, height = self.size[1], self.size[0]
        return f"<{len(self)} instances in {width}×{height} pixels>"

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
        """(N, 4) float32, xyxy in pixels. Of the model for *find*, around the mask for *pick*."""
        return self.detections.boxes

    @property
    def concepts(self) -> tuple[str, ...]:
        """N names: the text that found each, "visual" for exemplars alone, "object" for *pick*."""
        return self.detections.concepts

    @property
    def prompts(self) -> NDArray[np.int64]:
        """(N,) int64, the index of the concept, or of the object to pick, in the request."""
        return self.detections.prompts

    def masks(self) -> NDArray[np.bool_]:
        """Return all masks at the size of the image: (N, height, width) bool.

        N · height · width bytes; `iter_masks` takes one at a time.
        """
        masks = np.zeros((len(self), *self.size), dtype=bool)
        for full, mask in zip(masks, self.iter_masks(), strict=True):
            full[mask.window] = mask.inside
        return masks

    def iter_masks(self) -> Iterator[Mask]:
        """Yield the masks one after the other, each as the smallest region that can hold it."""
        return self.detections.masks()

    def overlay(
        self, mask_color: str = "distinct", mask_opacity: float = 0.5, show_labels: bool = False
    ) -> NDArray[np.uint8]:
        """Return the image with its objects tinted: (height, width, 3) uint8 RGB.

        Raises InputError for a color or an opacity that is not accepted.
        """
        output = Output(
            return_zip=False,
            mask_color=mask_color,
            mask_opacity=mask_opacity,
            show_labels=show_labels,
        )
        return draw(self.image, self.detections, output)

    def annotations(self, annotation_format: str = "rle") -> dict[str, Any]:
        """Return the annotations as JSON values: "rle", "polygon" or "coco"; raises InputError."""
        output = Output(return_zip=False, annotation_format=annotation_format)
        return annotate(self.detections, output.annotation_format)

    def to_coco(self) -> dict[str, Any]:
        """Return a COCO document of this one image, which pycocotools loads."""
        return self.annotations("coco")

    def to_supervision(self) -> SupervisionDetections:
        """Return `supervision.Detections` with masks, scores, class ids and names.

        Boxes lie tightly around the masks. class_id is the index of the prompt. Raises
        ModuleNotFoundError where supervision is not installed.
        """
        import supervision

        return supervision.Detections(
            xyxy=self.detections.with_mask_boxes().boxes,
            mask=self.masks(),
            confidence=self.scores,
            class_id=self.prompts,
            data={"class_name": np.array(self.concepts, dtype=object)},
        )

    def save(self, path: str | Path, **output: Any) -> Path:
        """Write one file to `path` and return it: by default the ZIP of masks.

        output: the output inputs of `predict()`, such as save_overlay=True or return_zip=False.
        The file appears whole or not at all. Raises InputError and OutputError.
        """
        target = Path(path)
        wanted = Output(**output)
        try:
            with tempfile.TemporaryDirectory(prefix=".sam3-image-", dir=target.parent) as folder:
                made = save(self.image, self.detections, wanted, Path(folder))
                shutil.move(made, target)
        except OSError as error:
            raise unwritable(target, error) from None
        return target
