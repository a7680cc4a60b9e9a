"""Routes of X-AnyLabeling's remote server: GET /v1/models and POST /v1/predict.

Words in the text box find every instance; rectangles beside them, or alone, are exemplars. Points
pick one object. What the person sees of an error is its status line, so errors are never 200.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sam3_image.errors import InputError
from sam3_image.masks import polygons
from sam3_image.request import Request
from sam3_image.web.image_input import from_base64
from sam3_image.web.routes import Body, client_router
from sam3_image.web.state import Server

if TYPE_CHECKING:
    from sam3_image.instances import Instances

MODEL = "segment_anything_3"
UNNAMED = "AUTOLABEL_OBJECT"  # the program's own word for an object without a label
WIDGETS = (
    *("edit_text", "button_send", "button_add_point", "button_remove_point", "button_add_rect"),
    *("add_pos_rect", "add_neg_rect", "button_run_rect", "button_clear", "button_finish_object"),
)
CONFIDENCE = 0.5  # what its slider shows at first; the program's own 0.0 would return everything
SEPARATORS = re.compile(r"[,.]")


router = client_router("x-anylabeling")


class LabelingMark(Body):
    """A point [x, y] or a rectangle [x0, y0, x1, y1] in pixels; label 1 positive, 0 negative."""

    type: Literal["point", "rectangle"]
    data: list[float] = Field(min_length=2, max_length=4)
    label: Literal[0, 1] = 1


class LabelingParams(Body):
    """What to look for."""

    text_prompt: str | None = None
    marks: list[LabelingMark] = Field(default_factory=list)
    conf_threshold: float = Field(default=0.0, ge=0, le=1)
    iou_threshold: float | None = Field(default=None, ge=0, le=1)
    filter_classes: list[str] | None = None


class LabelingBody(Body):
    """An image (a data URL) and what to look for."""

    model: str = MODEL
    image: str
    params: LabelingParams = LabelingParams()


class LabeledShape(Body):
    """A polygon whose last point repeats its first."""

    label: str
    shape_type: str
    points: list[list[float]]
    score: float


class LabeledShapes(Body):
    """All shapes of an answer; `replace` null leaves it to the program."""

    shapes: list[LabeledShape]
    description: str
    replace: bool | None


class LabelingAnswer(Body):
    """The answer."""

    success: bool
    data: LabeledShapes


@router.get("/v1/models")
async def models() -> dict[str, Any]:
    """The one model, and the widgets that the program shows for it."""
    return {
        "success": True,
        "data": {
            MODEL: {
                "model_id": MODEL,
                "display_name": "SAM 3 (own server)",
                "widgets": [
                    *({"name": name, "value": None} for name in WIDGETS),
                    {"name": "edit_conf", "value": CONFIDENCE},
                ],
                "params": {},
                "batch_processing_mode": "text_prompt",
            }
        },
    }


@router.post("/v1/predict")
async def predict(body: LabelingBody, server: Server) -> LabelingAnswer:
    """Find every instance of the words or exemplars, or pick the object under the points."""
    params = body.params
    request = _request(params)
    known = await server.segmentation.decode(from_base64(body.image))
    found = await server.segmentation.segment(known.image, request)
    shapes = await server.segmentation.call(_shapes, found, bool(_words(params)))
    if params.filter_classes:
        shapes = [shape for shape in shapes if shape.label in params.filter_classes]
    data = LabeledShapes(shapes=shapes, description="", replace=None)
    return LabelingAnswer(success=True, data=data)


def _request(params: LabelingParams) -> Request:
    """The request of words and marks; raises InputError where they do not go together."""
    points = [mark for mark in params.marks if mark.type == "point"]
    boxes = [mark for mark in params.marks if mark.type == "rectangle"]
    words = _words(params)
    if points and words:
        raise InputError("text and points were both given; clear one: text finds, points pick.")
    if not (points or boxes or words):
        raise InputError("nothing to look for; give a text, rectangles, or points.")
    if points:
        return Request.from_inputs(
            task="visual",
            points=[mark.data for mark in points],
            point_labels=[mark.label for mark in points],
            boxes=[mark.data for mark in boxes] or None,
        )
    return Request.from_inputs(
        prompts=words or None,
        boxes=[mark.data for mark in boxes] or None,
        box_labels=[mark.label for mark in boxes] or None,
        threshold=params.conf_threshold,
        nms_iou_threshold=params.iou_threshold,
    )


def _words(params: LabelingParams) -> list[str]:
    """The concepts in a text: separated by commas or full stops."""
    return [word.strip() for word in SEPARATORS.split(params.text_prompt or "") if word.strip()]


def _shapes(found: Instances, named: bool) -> list[LabeledShape]:
    """The outer contour of each part of each instance."""
    return [
        LabeledShape(
            label=concept if named else UNNAMED,
            shape_type="polygon",
            points=[*part.outer.tolist(), part.outer[0].tolist()],
            score=float(score),
        )
        for mask, concept, score in zip(
            found.iter_masks(), found.concepts, found.scores, strict=True
        )
        for part in polygons.trace(mask)
    ]
