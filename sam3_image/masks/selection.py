"""Which of the instances found are returned, and how clean: the selection inputs of `predict()`."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from sam3_image.errors import InputError, Options, check_choice
from sam3_image.masks import nms
from sam3_image.masks.cleaning import Cleaning
from sam3_image.masks.detections import Detections

ALL, LARGEST = "all", "largest"
PARTS = (ALL, LARGEST)
CONCEPT = "concept"
SCOPES = (ALL, CONCEPT)


def _quiet(*_: object) -> None:
    """A log that keeps nothing."""


class Selection(Options):
    """The selection inputs of `predict()`, with their names and defaults; checked when made."""

    nms_iou_threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=(
            "Drop an instance whose mask overlaps a better one by more than this IoU, across "
            "all prompts"
        ),
    )
    nms_scope: str = Field(
        default=ALL,
        json_schema_extra={"enum": list(SCOPES)},
        description="Where nms_iou_threshold looks for better ones: all prompts, or each concept",
    )
    max_instances: int | None = Field(
        default=None, ge=1, description="Keep only the best N instances"
    )

    min_area: int | None = Field(
        default=None, ge=1, description="Drop instances whose mask has fewer pixels"
    )
    fill_holes: int | None = Field(
        default=None,
        ge=0,
        description=(
            "Fill holes of at most so many pixels in each mask; 0 fills none, also where the model "
            "fills small ones itself"
        ),
    )
    keep_parts: str = Field(
        default=ALL,
        json_schema_extra={"enum": list(PARTS)},
        description="largest keeps only the largest connected part of each mask",
    )

    def model_post_init(self, _context: object) -> None:
        """Hold what the types of the fields do not say."""
        check_choice("keep_parts", self.keep_parts, PARTS)
        check_choice("nms_scope", self.nms_scope, SCOPES)
        if self.given("nms_scope") and self.nms_iou_threshold is None:
            raise InputError(
                "nms_scope goes with nms_iou_threshold, which was not given; give both, or none."
            )

    def apply(self, detections: Detections, say: Callable[..., None] = _quiet) -> Detections:
        """Select from `detections`, which are sorted by score, and keep their order.

        Masks are cleaned first: the largest part alone, holes filled, then `min_area`. Instances
        that overlap better ones go next, then those beyond `max_instances`.
        say: takes a line for the log of what was cleaned.
        """
        if self.min_area or self.fill_holes or self.keep_parts == LARGEST:
            largest = self.keep_parts == LARGEST
            cleaning = Cleaning(largest, self.fill_holes or 0, self.min_area or 0)
            detections = cleaning.apply(detections)
            say("Cleaned: %s", cleaning)
        if self.nms_iou_threshold is not None:
            detections = nms.suppress(detections, self.nms_iou_threshold, self.nms_scope == CONCEPT)
        return self._best(detections)

    def apply_before_masks(self, detections: Detections) -> Detections:
        """Drop what `apply` is going to drop whatever the masks are; scores must be final.

        That is everything beyond `max_instances`, but nothing with NMS or `min_area`: which of the
        better instances go, and so which make room, is only known from the masks.
        """
        if self.nms_iou_threshold is not None or self.min_area:
            return detections
        return self._best(detections)

    def _best(self, detections: Detections) -> Detections:
        if self.max_instances is None:
            return detections
        return detections.take(range(min(len(detections), self.max_instances)))
