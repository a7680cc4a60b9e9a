"""POST /v1/images/segmentations, as vLLM-Omni has it beside OpenAI's image routes.

What its page says is followed; what it does not say (names of the box and of thresholds, the form
of run lengths, the envelope) was chosen here and is listed in docs/clients.md.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Form, UploadFile

from sam3_image.errors import InputError
from sam3_image.masks import rle
from sam3_image.output import encode_mask
from sam3_image.request import Request
from sam3_image.web.image_input import to_base64
from sam3_image.web.routes import Body, client_router
from sam3_image.web.state import Server

if TYPE_CHECKING:
    from sam3_image.instances import Instances

MaskFormat = Literal["png", "rle"]

router = client_router("openai")


class ImageSegment(Body):
    """One instance. mask: PNG in base64, mode L, 255 inside; or COCO's run lengths. box: xyxy."""

    mask: Any
    box: list[float]
    score: float


class SegmentAnswer(Body):
    """Every instance, best score first. created: seconds since the epoch."""

    created: int
    data: list[ImageSegment]


@router.post("/v1/images/segmentations")
async def segment(
    server: Server,
    image: UploadFile,
    prompt: Annotated[str | None, Form()] = None,
    boxes: Annotated[str | None, Form(description="JSON, as in `predict()`")] = None,
    box_labels: Annotated[str | None, Form(description="JSON, as in `predict()`")] = None,
    threshold: Annotated[float, Form(ge=0, le=1)] = 0.5,
    mask_format: Annotated[MaskFormat, Form()] = "png",
) -> SegmentAnswer:
    """Find every instance of a text, of exemplar boxes, or of both."""
    if not prompt and not boxes:
        raise InputError("prompt and boxes are missing; give one of them, or both.")
    request = Request.from_inputs(
        prompts=[prompt] if prompt else None,
        boxes=boxes or None,
        box_labels=box_labels or None,
        threshold=threshold,
    )
    known = await server.segmentation.known_image(await image.read())
    found = await server.segmentation.segment(known.image, request)
    data = await server.segmentation.call(_segments, found, mask_format)
    return SegmentAnswer(created=int(time.time()), data=data)


def _segments(found: Instances, mask_format: MaskFormat) -> list[ImageSegment]:
    masks: list[Any]
    if mask_format == "rle":
        masks = [rle.encode(mask) for mask in found.iter_masks()]
    else:
        masks = [to_base64(encode_mask(mask)) for mask in found.iter_masks()]
    return [
        ImageSegment(mask=mask, box=box.tolist(), score=float(score))
        for mask, box, score in zip(masks, found.boxes, found.scores, strict=True)
    ]
