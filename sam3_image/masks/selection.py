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
        """The instances that are selected, in their order (best score first, as given)."""
        if self.nms_iou_threshold is not None:
            detections = nms.suppress(detections, self.nms_iou_threshold)
        if self.max_instances is not None:
            detections = detections.take(range(min(len(detections), self.max_instances)))
        return detections
