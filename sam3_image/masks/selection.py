"""Which of the instances found are returned: the selection inputs of `predict()`."""

from __future__ import annotations

from pydantic import Field

from sam3_image.errors import Options
from sam3_image.masks import nms
from sam3_image.masks.detections import Detections


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
    max_instances: int | None = Field(
        default=None, ge=1, description="Keep only the best N instances"
    )

    def apply(self, detections: Detections) -> Detections:
        """Select from `detections`, which are sorted by score, and keep their order.

        First instances that overlap better ones go, then those beyond `max_instances`.
        """
        if self.nms_iou_threshold is not None:
            detections = nms.suppress(detections, self.nms_iou_threshold)
        return self._best(detections)

    def apply_before_masks(self, detections: Detections) -> Detections:
        """Drop what `apply` is going to drop whatever the masks are; scores must be final.

        Without NMS that is everything beyond `max_instances`. With NMS it is nothing: which of
        the better instances go, and so which make room, is only known from the masks.
        """
        return detections if self.nms_iou_threshold is not None else self._best(detections)

    def _best(self, detections: Detections) -> Detections:
        if self.max_instances is None:
            return detections
        return detections.take(range(min(len(detections), self.max_instances)))
