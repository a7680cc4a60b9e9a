"""Routes of a Label Studio machine learning backend, under /label-studio.

Batch predictions look for every label of the project. Interactive ones take the points and boxes
that a person just drew. Masks come back as brush labels where the project has them, else as
polygons, rectangles or keypoints. Coordinates are percent of the upright image.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import Field

from sam3_image.errors import InputError, UserError, shown
from sam3_image.masks import Mask, polygons
from sam3_image.request import Request
from sam3_image.web.clients import brush
from sam3_image.web.clients.label_config import Control, LabelConfig
from sam3_image.web.clients.label_files import read_task_image
from sam3_image.web.routes import Body, client_router, skipped
from sam3_image.web.state import Server, ServerState

if TYPE_CHECKING:
    from sam3_image.instances import Instances

PREFIX = "/label-studio"
KEYPOINT_WIDTH = 0.5  # percent of the image's width, as Label Studio draws it
VERSION = "sam3-image"

Region = dict[str, Any]


router = client_router("label-studio")


class SetupAnswer(Body):
    """Tasks that have a prediction of this version are not sent again."""

    model_version: str


class LabelTask(Body):
    """An image to label. data: by the names in the project's configuration."""

    id: int | str | None = None
    data: dict[str, Any]


class DrawnRegions(Body):
    """What a person drew: keypoints and rectangles."""

    result: list[Region] = Field(default_factory=list)


class PredictParams(Body):
    """context: None asks for batch predictions."""

    context: DrawnRegions | None = None


class TasksBody(Body):
    """Tasks of one project."""

    tasks: list[LabelTask] = Field(min_length=1)
    label_config: str = Field(max_length=200_000)
    params: PredictParams | None = None


class TaskPrediction(Body):
    """The regions found in one task. score: the mean of theirs."""

    model_version: str
    result: list[Region]
    score: float | None = None


class TaskPredictions(Body):
    """One prediction for each task, in their order."""

    results: list[TaskPrediction]


@router.get(f"{PREFIX}/health")
async def health() -> dict[str, str]:
    """Say that the server is there."""
    return {"status": "UP", "model_class": VERSION}


@router.post(f"{PREFIX}/setup")
async def setup() -> SetupAnswer:
    """The version of the model; called before every list, batch and opened task."""
    return SetupAnswer(model_version=VERSION)


@router.get(f"{PREFIX}/versions")
async def versions() -> dict[str, list[str]]:
    """All versions."""
    return {"versions": [VERSION]}


@router.post(f"{PREFIX}/webhook")
async def webhook() -> dict[str, str]:
    """Events of the project, of which none matters here."""
    return {"status": "ok"}


@router.post(f"{PREFIX}/predict", response_model_exclude_none=True)
async def predict(body: TasksBody, response: Response, server: Server) -> TaskPredictions:
    """Predictions for tasks: by the project's labels, or by what a person drew."""
    config = LabelConfig.parse(body.label_config)
    drawn = None if body.params is None else body.params.context
    if drawn is None:
        labels = config.output.labels
        skipped(response, labels, server.segmentation.readable(labels))
    answers: list[TaskPrediction] = []
    failed: UserError | None = None
    for task in body.tasks:
        try:
            answers.append(await _predict(server, config, task, drawn))
        except UserError as error:
            failed = error
    if failed is not None and (not answers or len(body.tasks) == 1):
        raise failed
    # One broken image must not cost the others: to a single answer for several tasks Label Studio
    # replies by asking for them one by one.
    return TaskPredictions(results=answers[:1] if failed else answers)


async def _predict(
    server: ServerState, config: LabelConfig, task: LabelTask, drawn: DrawnRegions | None
) -> TaskPrediction:
    address = task.data.get(config.image_key)
    if not isinstance(address, str):
        raise InputError(
            f"the task has {shown(address)} for {shown(config.image_key)}; it must be the URL of "
            "an image."
        )
    segmentation = server.segmentation
    image = (await segmentation.known_image(await read_task_image(address, task.id, server))).image
    if drawn is None:
        readable = segmentation.readable(config.output.labels)
        found = await segmentation.find_labels(image, readable)
        labels = list(found.concepts)
    else:
        request, label = _drawn_request(drawn.result, image.size)
        found = await segmentation.segment(image, request)
        labels = [label] * len(found)
    return await segmentation.call(_prediction, found, labels, config.output)


def _drawn_request(regions: list[Region], size: tuple[int, int]) -> tuple[Request, str]:
    """The request of keypoints and rectangles, and the label that the person had chosen."""
    height, width = size
    points, point_labels, boxes = [], [], []
    label = ""
    for region in regions:
        value = region.get("value", {})
        try:
            x, y = float(value["x"]) / 100 * width, float(value["y"]) / 100 * height
            if "width" in value and "height" in value:
                right, bottom = float(value["width"]) / 100, float(value["height"]) / 100
                boxes.append([x, y, x + right * width, y + bottom * height])
            else:
                points.append([x, y])
                point_labels.append(int(bool(region.get("is_positive", True))))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            raise InputError(
                f"a region of the context is {shown(region)}; only keypoints and rectangles are "
                "understood."
            ) from None
        label = label or _label(region)
    request = Request.from_inputs(
        task="visual",
        points=points or None,
        point_labels=point_labels or None,
        boxes=boxes or None,
    )
    return request, label


def _label(region: Region) -> str:
    value = region.get("value", {})
    for key in (region.get("type"), "keypointlabels", "rectanglelabels", "labels"):
        labels = value.get(key) if isinstance(key, str) else None
        if isinstance(labels, list) and labels and isinstance(labels[0], str):
            return labels[0]
    return ""


def _prediction(found: Instances, labels: list[str], output: Control) -> TaskPrediction:
    regions = []
    for mask, label, score in zip(found.iter_masks(), labels, found.scores, strict=True):
        regions += _regions(mask, label, float(score), output)
    score = float(found.scores.mean()) if len(found) else None
    return TaskPrediction(model_version=VERSION, result=regions, score=score)


def _regions(mask: Mask, label: str, score: float, output: Control) -> list[Region]:
    """One brush, rectangle or keypoint region, or a polygon for each part of the mask."""
    height, width = mask.size
    scale = np.array([100 / width, 100 / height])
    if not mask.area:
        return []
    values: list[Region]
    if output.tag == "BrushLabels":
        values = [{"format": "rle", "rle": brush.encode(mask)}]
    elif output.tag == "RectangleLabels":
        x0, y0, x1, y1 = mask.box
        (x, y), (w, h) = [x0, y0] * scale, [x1 - x0, y1 - y0] * scale
        values = [{"x": x, "y": y, "width": w, "height": h, "rotation": 0}]
    elif output.tag == "KeyPointLabels":
        x, y = inner_point(mask) * scale
        values = [{"x": x, "y": y, "width": KEYPOINT_WIDTH}]
    else:
        values = [
            {"points": (part.outer * scale).tolist(), "closed": True}
            for part in polygons.trace(mask)
        ]
    return [
        {
            "id": secrets.token_hex(5),
            "from_name": output.name,
            "to_name": output.to_name,
            "type": output.type,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {**value, output.type: [label] if label else []},
            "score": score,
        }
        for value in values
    ]


def inner_point(mask: Mask) -> NDArray[np.float64]:
    """(x, y) of the centre of the pixel that lies deepest inside a mask."""
    padded = np.pad(mask.inside, 1).view(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([mask.x + column - 0.5, mask.y + row - 0.5])
