"""The routes that the page calls: send an image once, ask about it, take a file of the answer."""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import FormData, UploadFile

from sam3_image.decode import Image
from sam3_image.errors import ImageError, InputError, choices, shown
from sam3_image.output import PALETTE
from sam3_image.request import Request
from sam3_image.shipped import EXAMPLE, command
from sam3_image.web.guard import too_long
from sam3_image.web.json_text import parse_json
from sam3_image.web.previous import LOGITS, PreviousLogits
from sam3_image.web.problems import STATUSES
from sam3_image.web.routes import BoundedRoute, client_router
from sam3_image.web.segmentation import KnownImage
from sam3_image.web.state import Server, ServerState
from sam3_image.web.store import GoneError


class PageRoute(BoundedRoute):
    """Tells the page by 410 that it must send its image again."""

    statuses: ClassVar = {**STATUSES, GoneError: 410, ImageError: 422}


router = client_router("api", PageRoute)


@router.get("/api/about")
async def about(server: Server) -> dict[str, Any]:
    """What the page must know before anything is asked."""
    source, settings = server.segmentation.source, server.settings
    return {
        "name": source.name,
        "demo": source.is_demo,
        "predict": command("predict"),
        "palette": PALETTE,
        # A browser that still sends a large file may not hear why it was refused.
        "max_upload_bytes": settings.max_upload_bytes,
        "too_long": too_long(settings),
        **_offered(),
    }


@router.get("/api/example")
async def example() -> FileResponse:
    """An image to try it with."""
    return FileResponse(EXAMPLE)


@router.post("/api/pictures", status_code=201)
async def upload(http: HttpRequest, server: Server, value_range: str = "auto") -> dict[str, Any]:
    """Keep the image file that is the body: → {id, width, height}.

    value_range: the input of `predict()`; the image is decoded here, so it is given here.
    """
    known = await server.segmentation.known_image(await http.body(), value_range)
    height, width = known.image.size
    return {"id": known.id, "width": width, "height": height}


@router.get("/api/pictures/{id}/preview")
async def preview(id: str, server: Server) -> Response:
    """A JPEG for browsers that cannot show the file."""
    with server.admission.place():
        content = await server.segmentation.preview(server.images.get(id))
    return Response(content, media_type="image/jpeg")


@router.post("/api/segment")
async def segment(http: HttpRequest, server: Server) -> Response:
    """{picture, inputs, clicks_on} → annotations with run lengths, scores, metrics.

    scores: not rounded, so that filtering them gives exactly what a threshold would give.
    clicks_on: whether a pick starts from the answer to fewer of its points, where one was given.
    """
    image, request, body = await _asked(http, server)
    previous = PreviousLogits(server.store(LOGITS), str(body.get("picture")))
    asked = previous.applied(request) if body.get("clicks_on") else request
    instances = await server.segmentation.segment(image, asked)
    if body.get("clicks_on"):
        previous.keep(request, instances)
    annotations = await server.segmentation.call(instances.annotations, "rle")
    return JSONResponse(
        {
            "annotations": annotations,
            "scores": instances.scores.tolist(),
            "metrics": dict(instances.metrics),
        }
    )


@router.post("/api/file")
async def file(http: HttpRequest, server: Server) -> Response:
    """The file that `predict()` gives.

    The body is {picture, inputs}, or a form of image, inputs and perhaps reference_image and
    mask_image. With
    {picture, instances, concepts, inputs} the file is of the instances given, without asking the
    model; inputs are then those of the output alone.
    """
    image, request, body = await _asked(http, server)
    if "instances" in body:
        kept, concepts = body["instances"], body.get("concepts")
        made = await server.segmentation.written(image, kept, concepts, request.output)
    else:
        made = await server.segmentation.file(image, request)
    return Response(
        made.data,
        media_type=made.media_type,
        headers={"Content-Disposition": f'attachment; filename="{made.name}"'},
    )


def _offered() -> dict[str, Any]:
    """Which of `predict()`'s inputs the page can offer here."""
    inputs = Request.inputs()
    return {
        "tasks": choices(inputs["task"]),
        "formats": [name for name in choices(inputs["annotation_format"]) if name != "none"],
        "label_maps": [name for name in choices(inputs["label_map"]) if name != "none"],
        "mask_prompts": "mask_image" in inputs,
    }


async def _asked(http: HttpRequest, server: ServerState) -> tuple[Image, Request, dict[str, Any]]:
    """The image and the request in a body, and the body itself ({} for a form).

    Raises InputError and GoneError.
    """
    if http.headers.get("content-type", "").startswith("multipart/form-data"):
        async with http.form() as form:
            inputs = _inputs(parse_json("inputs", form.get("inputs", "{}")))
            for name in ("reference_image", "mask_image"):
                if name in form:
                    inputs[name] = (await _sent(server, form, name, "auto")).image.pixels
            request = Request.from_inputs(**inputs)
            value_range = request.decoding.value_range
            return (await _sent(server, form, "image", value_range)).image, request, {}
    body = parse_json("The body", await http.body())
    if not isinstance(body, dict):
        raise InputError(f"The body is {shown(body)}; send an object with picture and inputs.")
    inputs = _inputs(body.get("inputs"))
    if inputs.get("value_range") is not None:
        raise InputError(
            f"value_range is {shown(inputs['value_range'])} for an image that has been decoded; "
            "send the file again, to /api/pictures?value_range=…"
        )
    if inputs.get("reference_image") is not None:  # known by its id, as the image is
        inputs["reference_image"] = server.images.get(inputs["reference_image"]).pixels
    image = server.images.get(body.get("picture"))
    return image, Request.from_inputs(**inputs), body


async def _sent(server: ServerState, form: FormData, name: str, value_range: str) -> KnownImage:
    part = form.get(name)
    if not isinstance(part, UploadFile):
        raise InputError(f"{name} is missing; send the file as the form's part {name!r}.")
    return await server.segmentation.known_image(await part.read(), value_range)


def _inputs(inputs: Any) -> dict[str, Any]:
    if not isinstance(inputs, dict):
        raise InputError(
            f"inputs is {shown(inputs)}; send an object, such as {{'prompts': ['cat']}}."
        )
    return dict(inputs)
