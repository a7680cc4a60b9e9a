"""Routes for CVAT's serverless functions: a detector and an interactor.

CVAT speaks to Nuclio, and a Nuclio function of a few lines (examples/clients/cvat) passes each
call on to here with the token. A detector has no text field: the names of its labels are the
concepts, and that function sends them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
from fastapi import Response
from pydantic import Field

from sam3_image.errors import InputError
from sam3_image.masks import Mask, polygons, rle
from sam3_image.request import Request
from sam3_image.web.image_input import from_base64
from sam3_image.web.routes import Body, client_router, skipped
from sam3_image.web.state import Server, ServerState

if TYPE_CHECKING:
    from sam3_image.instances import Instances


router = client_router("cvat")


class DetectBody(Body):
    """An image in base64 and the labels to look for."""

    image: str
    threshold: float | None = Field(default=None, ge=0, le=1)
    labels: list[str] = Field(min_length=1)


class DetectedShape(Body):
    """One instance. mask: 0 and 1 row by row inside the box, then left, top, right, bottom.

    points: the outline of its largest part [x, y, x, y, …], for those who convert to polygons.
    """

    label: str
    type: str = "mask"
    confidence: str
    points: list[float]
    mask: list[int]
    attributes: list[dict[str, str]] = Field(default_factory=list)


class InteractBody(Body):
    """An image in base64, points on and off the object, and a box around it."""

    image: str
    pos_points: list[list[float]] = Field(default_factory=list)
    neg_points: list[list[float]] = Field(default_factory=list)
    obj_bbox: list[list[float]] | None = None


class InteractAnswer(Body):
    """The mask as rows of 0 and 1, and as CVAT's run lengths."""

    mask: list[list[int]]
    shapes: list[dict[str, Any]]


@router.post("/cvat/detector")
async def detect(body: DetectBody, response: Response, server: Server) -> list[DetectedShape]:
    """Find every instance of each label."""
    labels = server.segmentation.readable(body.labels)
    skipped(response, body.labels, labels)
    image = (await server.segmentation.known_image(from_base64(body.image))).image
    found = await server.segmentation.find_labels(image, labels, threshold=body.threshold)
    return await server.segmentation.call(_shapes, found)


@router.post("/cvat/interactor")
async def interact(body: InteractBody, server: Server) -> InteractAnswer:
    """Pick the one object under the points and in the box."""
    points = [*body.pos_points, *body.neg_points]
    request = Request.from_inputs(
        task="visual",
        points=points or None,
        point_labels=[1] * len(body.pos_points) + [0] * len(body.neg_points) or None,
        boxes=[_box(body.obj_bbox)] if body.obj_bbox else None,
    )
    found = await _found(server, body.image, request)
    return await server.segmentation.call(_picked, found)


async def _found(server: ServerState, image: str, request: Request) -> Instances:
    known = await server.segmentation.known_image(from_base64(image))
    return await server.segmentation.segment(known.image, request)


def _box(corners: list[list[float]]) -> list[float]:
    if len(corners) != 2 or any(len(corner) != 2 for corner in corners):
        raise InputError("obj_bbox has another form than [[x0, y0], [x1, y1]]; give two corners.")
    return [*corners[0], *corners[1]]


def outline(mask: Mask) -> list[float]:
    """[x, y, x, y, …] of the piece of a mask that has the largest area."""
    pieces = [part.outer for part in polygons.trace(mask)]
    points: list[float] = max(pieces, key=cv2.contourArea).ravel().tolist()
    return points


def _shapes(found: Instances) -> list[DetectedShape]:
    made = []
    for mask, label, score in zip(found.iter_masks(), found.concepts, found.scores, strict=True):
        if not mask.area:
            continue  # CVAT has no form for an object without a pixel
        made.append(
            DetectedShape(
                label=label,
                confidence=f"{float(score):.6f}",
                points=outline(mask),
                mask=[*_crop(mask).inside.ravel().astype(int).tolist(), *_box_inclusive(mask)],
            )
        )
    return made


def _picked(found: Instances) -> InteractAnswer:
    mask = next(found.iter_masks())
    shapes = []
    if mask.area:
        points = [*rle.row_lengths(_crop(mask)).tolist(), *_box_inclusive(mask)]
        shapes.append({"type": "mask", "points": points})
    return InteractAnswer(mask=mask.full().astype(int).tolist(), shapes=shapes)


def _crop(mask: Mask) -> Mask:
    """The mask as an image of its own: that of its tight box."""
    x0, y0, x1, y1 = mask.box
    inside = mask.inside[y0 - mask.y : y1 - mask.y, x0 - mask.x : x1 - mask.x]
    return Mask(inside=inside, y=0, x=0, size=(y1 - y0, x1 - x0))


def _box_inclusive(mask: Mask) -> list[int]:
    """[left, top, right, bottom] of the outermost pixels."""
    x0, y0, x1, y1 = mask.box
    return [x0, y0, x1 - 1, y1 - 1]
