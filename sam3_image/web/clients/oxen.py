"""Routes of Oxen's image editing API, for its model sam-3-image: the objects, cut out.

`apply_mask=true` (the default) gives the image with everything else transparent (PNG) or white
(JPEG), `apply_mask=false` the mask, white on black.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request as HttpRequest
from fastapi import Response
from pydantic import Field

from sam3_image.errors import InputError, shown
from sam3_image.output import RenderedFile
from sam3_image.request import Request
from sam3_image.web.image_input import from_url, to_base64
from sam3_image.web.jobs import CANCELED, FAILED, STARTING, SUCCEEDED, WebJob
from sam3_image.web.problems import ConflictError
from sam3_image.web.routes import Body, client_router
from sam3_image.web.state import Server, ServerState, address
from sam3_image.web.store import new_id

KIND = "oxen"
RESULTS = "result"
MODEL = "sam-3-image"
MAX_GENERATIONS = 4
STATUS = {STARTING: "queued", SUCCEEDED: "succeeded", FAILED: "failed", CANCELED: "cancelled"}

router = client_router("oxen")


class EditBody(Body):
    """An image and what to cut out of it."""

    model: str = MODEL
    input_image: str | list[str]
    prompt: str = Field(min_length=1)
    apply_mask: bool = True
    output_format: Literal["png", "jpg"] = "png"
    response_format: Literal["url", "b64_json"] = "url"


class QueueBody(EditBody):
    """The same, to be made later, once or several times."""

    num_generations: int = Field(default=1, ge=1, le=MAX_GENERATIONS)


class EditedImage(Body):
    """The address of the result on this server, or its bytes in base64."""

    url: str | None = None
    b64_json: str | None = None


class EditAnswer(Body):
    """The result."""

    images: list[EditedImage]


class Generation(Body):
    """One edit of the queue: queued, processing, succeeded, failed or cancelled."""

    generation_id: str
    status: str
    model: str
    result_url: str | None = None
    error_message: str | None = None


class Generations(Body):
    """Edits of the queue, the one that changed last first."""

    generations: list[Generation]


@router.post("/api/ai/images/edit", response_model_exclude_none=True)
async def edit(body: EditBody, http: HttpRequest, server: Server) -> EditAnswer:
    """Cut the objects out of an image."""
    request, image = _question(body)
    made = await _edited(server, request, image)
    if body.response_format == "b64_json":
        return EditAnswer(images=[EditedImage(b64_json=to_base64(made.data))])
    key = f"{new_id()}.{made.name.rpartition('.')[2]}"
    server.store(RESULTS).put(key, made, len(made.data))
    return EditAnswer(images=[EditedImage(url=address(http, f"/api/ai/results/{key}"))])


@router.get("/api/ai/results/{name}")
async def result(name: str, server: Server) -> Response:
    """A result that was made before."""
    return _download(server.store(RESULTS).get(name))


@router.post("/api/ai/queue")
async def enqueue(body: QueueBody, http: HttpRequest, server: Server) -> Generations:
    """Start edits to ask about later."""
    request, image = _question(body)

    async def work() -> list[RenderedFile]:
        return [await _edited(server, request, image)]

    about = {"model": body.model}
    jobs = server.jobs.start(KIND, work, about, len(image), count=body.num_generations)
    return Generations(generations=[_generation(http, job) for job in jobs])


@router.get("/api/ai/queue")
async def queue(http: HttpRequest, server: Server) -> Generations:
    """All edits that are kept."""
    return Generations(generations=[_generation(http, job) for job in server.jobs.of(KIND)])


@router.get("/api/ai/queue/{id}")
async def generation(id: str, http: HttpRequest, server: Server) -> Generation:
    """An edit as it is now."""
    return _generation(http, server.jobs.get(KIND, id))


@router.delete("/api/ai/queue/{id}")
async def cancel(id: str, http: HttpRequest, server: Server) -> Generation:
    """Stop an edit."""
    job = server.jobs.get(KIND, id)
    job.cancel()
    return _generation(http, job)


@router.get("/api/ai/queue/{id}/result")
async def generated(id: str, http: HttpRequest, server: Server) -> Response:
    """The result of an edit that succeeded; 409 for any other."""
    job = server.jobs.get(KIND, id)
    if job.outcome is None:
        raise ConflictError(f"The edit has no result: it is {_generation(http, job).status}.")
    return _download(job.outcome[0])


@router.get(f"/api/ai/models/{MODEL}")
async def model() -> dict[str, Any]:
    """The model, with the schema of its requests."""
    return {
        "name": MODEL,
        "endpoint": "/api/ai/images/edit",
        "capabilities": {"input": ["text", "image"], "output": ["image"]},
        "json_request_schema": EditBody.model_json_schema(),
    }


def _question(body: EditBody) -> tuple[Request, str]:
    """The request, and where its image is; raises InputError."""
    if body.model != MODEL:
        raise InputError(f"model is {shown(body.model)}; this server has {MODEL!r} and no other.")
    images = [body.input_image] if isinstance(body.input_image, str) else body.input_image
    if len(images) != 1:
        raise InputError(f"input_image has {len(images)} entries; give one image.")
    if not body.apply_mask and body.output_format != "png":
        raise InputError("output_format='jpg' goes with apply_mask=true; a mask is always PNG.")
    request = Request.from_inputs(
        prompt=body.prompt,
        return_zip=False,
        apply_mask=body.apply_mask,
        mask_only=not body.apply_mask,
        output_format=body.output_format,
    )
    return request, images[0]


async def _edited(server: ServerState, request: Request, image: str) -> RenderedFile:
    known = await server.segmentation.known_image(await from_url(image, server.fetcher))
    return await server.segmentation.file(known.image, request)


def _download(made: RenderedFile) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"'}
    return Response(made.data, media_type=made.media_type, headers=headers)


def _generation(http: HttpRequest, job: WebJob) -> Generation:
    url = None
    if job.status == SUCCEEDED:
        url = address(http, f"/api/ai/queue/{job.id}/result")
    return Generation(
        generation_id=job.id,
        status=STATUS.get(job.status, job.status),
        model=str(job.about["model"]),
        result_url=url,
        error_message=None if job.error is None else str(job.error),
    )
