"""Routes of X-AnyLabeling's remote server: GET /v1/models and POST /v1/predict.

Words in the text box find every instance; rectangles beside them, or alone, are exemplars. Points
pick one object. What the person sees of an error is its status line, so errors are never 200.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import cv2
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
MIN_POINTS = 3  # of a polygon
MAX_FINENESS = 1.0  # of the outline's length
CONFIDENCE = 0.5  # what its slider shows at first; the program's own 0.0 would return everything


router = client_router("x-anylabeling")


class LabelingMark(Body):
    """A point [x, y] or a rectangle [x0, y0, x1, y1] in pixels; label 1 positive, 0 negative."""

    type: Literal["point", "rectangle"]
    data: list[float] = Field(min_length=2, max_length=4)
    label: Literal[0, 1] = 1

    def inside(self, size: tuple[int, int]) -> list[float]:
        """The coordinates clipped to an image of `size`, the corners of a rectangle in order."""
        height, width = size
        xs = sorted(min(max(x, 0.0), width) for x in self.data[0::2])
        ys = sorted(min(max(y, 0.0), height) for y in self.data[1::2])
        return [value for pair in zip(xs, ys, strict=False) for value in pair]


class LabelingParams(Body):
    """What to look for.

    epsilon_factor: by how much of its length an outline may be simplified. iou_threshold is not
    read: the program always sends 0.0 and means no selection.
    """

    text_prompt: str | None = None
    marks: list[LabelingMark] = Field(default_factory=list)
    conf_threshold: float = Field(default=0.0, ge=0, le=1)
    epsilon_factor: float = Field(default=0.0, ge=0, le=MAX_FINENESS)
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
    _check_together(params)
    image = (await server.segmentation.known_image(from_base64(body.image))).image
    found = await server.segmentation.segment(image, _request(params, image.size))
    named = bool(_words(params))
    shapes = await server.segmentation.call(_shapes, found, named, params.epsilon_factor)
    if params.filter_classes:
        shapes = [shape for shape in shapes if shape.label in params.filter_classes]
    data = LabeledShapes(shapes=shapes, description="", replace=None)
    return LabelingAnswer(success=True, data=data)


def _check_together(params: LabelingParams) -> None:
    words = _words(params)
    if words and any(mark.type == "point" for mark in params.marks):
        raise InputError("text and points were both given; clear one: text finds, points pick.")
    if not (words or params.marks):
        raise InputError("nothing to look for; give a text, rectangles, or points.")


def _request(params: LabelingParams, size: tuple[int, int]) -> Request:
    """The request of words and marks in an image of `size`; raises InputError."""
    marks = [(mark, mark.inside(size)) for mark in params.marks]
    points = [(data, mark.label) for mark, data in marks if mark.type == "point"]
    boxes = [(data, mark.label) for mark, data in marks if mark.type == "rectangle"]
    if points:
        return Request.from_inputs(
            task="visual",
            points=[data for data, _ in points],
            point_labels=[label for _, label in points],
            boxes=[data for data, _ in boxes] or None,
        )
    return Request.from_inputs(
        prompts=_words(params) or None,
        boxes=[data for data, _ in boxes] or None,
        box_labels=[label for _, label in boxes] or None,
        threshold=params.conf_threshold,
    )


def _words(params: LabelingParams) -> list[str]:
    """The concepts in a text: between commas if it has any, else between full stops."""
    text = params.text_prompt or ""
    words = (word.strip(" .") for word in text.split("," if "," in text else "."))
    return list(dict.fromkeys(word for word in words if word))


def _shapes(found: Instances, named: bool, fineness: float) -> list[LabeledShape]:
    """The outer contour of each part of each instance, simplified by `fineness` of its length."""
    return [
        LabeledShape(
            label=concept if named else UNNAMED,
            shape_type="polygon",
            points=_closed(part.outer, fineness),
            score=float(score),
        )
        for mask, concept, score in zip(
            found.iter_masks(), found.concepts, found.scores, strict=True
        )
        for part in polygons.trace(mask)
    ]


def _closed(outline: polygons.Ring, fineness: float) -> list[list[float]]:
    """The points of an outline, the first one again at the end; at least three of them differ."""
    simple = cv2.approxPolyDP(outline[:, None], fineness * cv2.arcLength(outline, True), True)[:, 0]
    points: list[list[float]] = (simple if len(simple) >= MIN_POINTS else outline).tolist()
    return [*points, points[0]]
