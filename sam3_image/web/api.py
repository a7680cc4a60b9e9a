"""The page's routes: send a picture once, ask about it, take a file of the answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sam3_image.errors import InputError, choices, shown
from sam3_image.masks import rle
from sam3_image.output import PALETTE
from sam3_image.request import Request
from sam3_image.shipped import EXAMPLE
from sam3_image.web.context import Context, Group
from sam3_image.web.endpoint import arriving, until_gone
from sam3_image.web.guard import too_long
from sam3_image.web.pictures import Picture
from sam3_image.web.shelf import Gate

Handler = Callable[[HttpRequest], Awaitable[Response]]

MEDIA_TYPES = {
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class Api:
    """The routes below /api; each method answers one."""

    context: Context

    async def about(self, _: HttpRequest) -> Response:
        """GET /api/about: what the page must know before anything is asked."""
        source, settings = self.context.segmentation.source, self.context.settings
        return JSONResponse(
            {
                "name": source.name,
                "demo": source.is_demo,
                "palette": PALETTE,
                **_offered(),
                # A browser that still sends a large file may not hear why it was refused.
                "max_upload_bytes": settings.max_upload_bytes,
                "too_long": too_long(settings),
            }
        )

    async def example(self, _: HttpRequest) -> Response:
        """GET /api/example: a picture to try it with."""
        return FileResponse(EXAMPLE)

    async def upload(self, http: HttpRequest) -> Response:
        """POST /api/pictures, the body being the file: → {id, width, height}."""
        async with arriving():
            content = await http.body()
        picture = await self.context.segmentation.open(content)
        height, width = picture.image.size
        return JSONResponse({"id": picture.id, "width": width, "height": height}, 201)

    async def preview(self, http: HttpRequest) -> Response:
        """GET /api/pictures/{id}/preview: a JPEG for browsers that cannot show the file."""
        picture = self.context.pictures.get(http.path_params["id"])
        content = await self.context.segmentation.preview(picture.image)
        return Response(content, media_type=MEDIA_TYPES[".jpg"])

    async def segment(self, http: HttpRequest) -> Response:
        """POST /api/segment {picture, inputs}: → annotations with run lengths, scores, metrics.

        scores: not rounded, so that whoever filters them gets what a threshold would give.
        """
        picture, request, _ = await self._asked(http)
        segmentation = self.context.segmentation
        instances = await until_gone(http, segmentation.segment(picture.image, request))
        annotations = await segmentation.call(instances.annotations, "rle")
        return JSONResponse(
            {
                "annotations": annotations,
                "scores": instances.scores.tolist(),
                "metrics": dict(instances.metrics),
            }
        )

    async def file(self, http: HttpRequest) -> Response:
        """POST /api/file: the file that `predict()` gives.

        The body is {picture, inputs}, or a form of image, inputs and perhaps reference_image. With
        {picture, instances, concepts, inputs} the file is of the instances given, without asking
        the model; inputs are then those of the output alone.
        """
        picture, request, body = await self._asked(http)
        segmentation = self.context.segmentation
        if "instances" in body:
            kept, concepts = body["instances"], body.get("concepts")
            made = segmentation.written(picture.image, kept, concepts, request.output)
        else:
            made = segmentation.file(picture.image, request)
        name, content = await until_gone(http, made)
        return Response(
            content,
            media_type=MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream"),
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def _asked(self, http: HttpRequest) -> tuple[Picture, Request, dict[str, Any]]:
        """The picture and the request of a body, and the body itself ({} for a form)."""
        if http.headers.get("content-type", "").startswith("multipart/form-data"):
            async with arriving():
                form = await http.form(max_files=2, max_fields=1)
            try:
                inputs = _inputs(_parsed("inputs", form.get("inputs", "{}")))
                if "reference_image" in form:
                    reference = await self._sent(form, "reference_image")
                    inputs["reference_image"] = reference.image.pixels
                request = Request.from_inputs(**inputs)
                return await self._sent(form, "image"), request, {}
            finally:
                await form.close()
        async with arriving():
            content = await http.body()
        body = _parsed("The body", content)
        if not isinstance(body, dict):
            raise InputError(f"The body is {shown(body)}; send an object with picture and inputs.")
        inputs = _inputs(body.get("inputs"))
        if inputs.get("reference_image") is not None:  # known by its id, as the picture is
            reference = self.context.pictures.get(inputs["reference_image"])
            inputs["reference_image"] = reference.image.pixels
        picture = self.context.pictures.get(body.get("picture"))
        if isinstance(inputs.get("mask_image"), dict):  # run lengths, as /api/segment gives them
            counts = str(inputs["mask_image"].get("counts"))
            inputs["mask_image"] = rle.decode(counts, picture.image.size).full()
        return picture, Request.from_inputs(**inputs), body

    async def _sent(self, form: FormData, name: str) -> Picture:
        file = form.get(name)
        if not isinstance(file, UploadFile):
            raise InputError(f"{name} is missing; send the file as the form's part {name!r}.")
        return await self.context.segmentation.open(await file.read())


def _offered() -> dict[str, Any]:
    """What of `predict()`'s inputs the page offers where it is there."""
    inputs = Request.inputs()
    return {
        "tasks": choices(inputs["task"]),
        "formats": [name for name in choices(inputs["annotation_format"]) if name != "none"],
        "label_maps": [
            name
            for name in (choices(inputs["label_map"]) if "label_map" in inputs else ())
            if name != "none"
        ],
        "mask_prompts": "mask_image" in inputs,
    }


def _parsed(name: str, text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{name} is {shown(text)}, which is not JSON; send JSON.") from None


def _inputs(inputs: Any) -> dict[str, Any]:
    if not isinstance(inputs, dict):
        raise InputError(
            f"inputs is {shown(inputs)}; send an object, such as {{'prompts': ['cat']}}."
        )
    return dict(inputs)


def _routes(context: Context) -> Sequence[BaseRoute]:
    api = Api(context)
    return [
        Route("/api/about", api.about),
        Route("/api/example", api.example),
        Route("/api/pictures", _bounded(context.gate, api.upload), methods=["POST"]),
        Route("/api/pictures/{id}/preview", _bounded(context.gate, api.preview)),
        Route("/api/segment", _bounded(context.gate, api.segment), methods=["POST"]),
        Route("/api/file", _bounded(context.gate, api.file), methods=["POST"]),
    ]


def _bounded(gate: Gate, answer: Handler) -> Handler:
    """Let in as many at one time as the gate has places: each may hold an upload."""

    async def inside(http: HttpRequest) -> Response:
        with gate.place():
            return await answer(http)

    return inside


GROUP = Group("api", _routes)
