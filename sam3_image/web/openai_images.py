"""POST /v1/images/segmentations, as vLLM-Omni has it beside OpenAI's image routes.

What its page says is followed; what it does not say (names of the box and of thresholds, the form
of run lengths, the envelope) was chosen here and is listed in docs/clients.md.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from starlette.datastructures import UploadFile

from sam3_image.errors import InputError, shown
from sam3_image.masks import rle
from sam3_image.output import encode_mask
from sam3_image.request import Request
from sam3_image.web.endpoint import Body, Call, Endpoint, group
from sam3_image.web.sources import to_base64

if TYPE_CHECKING:
    from sam3_image.instances import Instances

Form = Literal["png", "rle"]


class SegmentForm(Body):
    """An image and what to find in it. boxes, box_labels: JSON texts, see `predict()`."""

    image: Any = Field(json_schema_extra={"type": "string", "format": "binary"})
    prompt: str | None = None
    boxes: str | None = None
    box_labels: str | None = None
    threshold: float = Field(default=0.5, ge=0, le=1)
    mask_format: Form = "png"


class Segment(Body):
    """One instance. mask: PNG in base64, mode L, 255 inside; or COCO's run lengths. box: xyxy."""

    mask: Any
    box: list[float]
    score: float


class SegmentAnswer(Body):
    """Every instance, best score first. created: seconds since the epoch."""

    created: int
    data: list[Segment]


async def segment(call: Call[SegmentForm]) -> SegmentAnswer:
    """Find every instance of a text, of exemplar boxes, or of both."""
    body = call.body
    if not isinstance(body.image, UploadFile):
        raise InputError(f"image is {shown(body.image)}; send the file as a part of the form.")
    if not body.prompt and not body.boxes:
        raise InputError("prompt and boxes are missing; give one of them, or both.")
    request = Request.from_inputs(
        prompts=[body.prompt] if body.prompt else None,
        boxes=body.boxes or None,
        box_labels=body.box_labels or None,
        threshold=body.threshold,
    )
    segmentation = call.context.segmentation
    picture = await segmentation.open(await body.image.read())
    found = await segmentation.segment(picture.image, request)
    data = await segmentation.call(_segments, found, body.mask_format)
    return SegmentAnswer(created=int(time.time()), data=data)


def _segments(found: Instances, form: Form) -> list[Segment]:
    masks: list[Any]
    if form == "rle":
        masks = [rle.encode(mask) for mask in found.iter_masks()]
    else:
        masks = [to_base64(encode_mask(mask)) for mask in found.iter_masks()]
    return [
        Segment(mask=mask, box=box.tolist(), score=float(score))
        for mask, box, score in zip(masks, found.boxes, found.scores, strict=True)
    ]


GROUP = group(
    "openai",
    Endpoint("POST", "/v1/images/segmentations", segment, SegmentForm, SegmentAnswer, form=True),
)
