"""Routes of Oxen's image editing API, for its model sam-3-image: the objects, cut out.

`apply_mask=true` (the default) gives the picture with everything else transparent (PNG) or white
(JPEG), `apply_mask=false` the mask, white on black.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from sam3_image.errors import InputError, UserError, shown
from sam3_image.request import Request
from sam3_image.web.endpoint import Body, Call, Endpoint, group
from sam3_image.web.jobs import CANCELED, FAILED, STARTING, SUCCEEDED, Job, Outcome
from sam3_image.web.shelf import File, new_id
from sam3_image.web.sources import from_url, to_base64

KIND = "oxen"
MODEL = "sam-3-image"
MAX_GENERATIONS = 4
STATUS = {STARTING: "queued", SUCCEEDED: "succeeded", FAILED: "failed", CANCELED: "cancelled"}


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
    """The address of the picture on this server, or its bytes in base64."""

    url: str | None = None
    b64_json: str | None = None


class EditAnswer(Body):
    """The picture."""

    images: list[EditedImage]


class Generation(Body):
    """One edit of the queue: queued, processing, succeeded, failed or cancelled."""

    generation_id: str
    status: str
    model: str
    result_url: str | None = None
    error_message: str | None = None


class Queue(Body):
    """Edits of the queue, the one that changed last first."""

    generations: list[Generation]


async def edit(call: Call[EditBody]) -> EditAnswer:
    """Cut the objects out of an image."""
    request, address = _question(call.body)
    file = await _edited(call, request, address)
    if call.body.response_format == "b64_json":
        return EditAnswer(images=[EditedImage(b64_json=to_base64(file.content))])
    key = f"{new_id()}.{file.name.rpartition('.')[2]}"
    call.context.files.put(key, file, len(file.content))
    return EditAnswer(images=[EditedImage(url=call.url(f"/api/ai/results/{key}"))])


async def result(call: Call[None]) -> Response:
    """Return a picture that was made before."""
    file = call.context.files.get(call.path("name"))
    return Response(file.content, media_type=file.media_type)


async def enqueue(call: Call[QueueBody]) -> Queue:
    """Start edits to ask about later."""
    request, address = _question(call.body)

    async def work() -> Outcome:
        return Outcome((await _edited(call, request, address),))

    jobs = [
        call.context.jobs.start(KIND, work, {"model": call.body.model}, len(address))
        for _ in range(call.body.num_generations)
    ]
    return Queue(generations=[_generation(call, job) for job in jobs])


async def queue(call: Call[None]) -> Queue:
    """All edits that are kept."""
    jobs = call.context.jobs.of(KIND)
    return Queue(generations=[_generation(call, job) for job in jobs])


async def generation(call: Call[None]) -> Generation:
    """Return an edit as it is now."""
    return _generation(call, call.context.jobs.get(KIND, call.path("id")))


async def cancel(call: Call[None]) -> Generation:
    """Stop an edit."""
    job = call.context.jobs.get(KIND, call.path("id"))
    job.cancel()
    return _generation(call, job)


async def generated(call: Call[None]) -> Response:
    """Return the picture of an edit that succeeded."""
    job = call.context.jobs.get(KIND, call.path("id"))
    if job.outcome is None:
        raise UserError(f"The edit has no picture: it is {_generation(call, job).status}.")
    file = job.outcome.files[0]
    return Response(file.content, media_type=file.media_type)


async def model(_: Call[None]) -> dict[str, Any]:
    """Return the model, with the schema of its requests."""
    return {
        "name": MODEL,
        "endpoint": "/api/ai/images/edit",
        "capabilities": {"input": ["text", "image"], "output": ["image"]},
        "json_request_schema": EditBody.model_json_schema(),
    }


def _question(body: EditBody) -> tuple[Request, str]:
    """Return the request, and where its image is; raises InputError."""
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


async def _edited(call: Call[Any], request: Request, address: str) -> File:
    segmentation = call.context.segmentation
    picture = await segmentation.open(await from_url(address, call.context.fetcher))
    name, content = await segmentation.file(picture.image, request)
    return File.named(name, content)


def _generation(call: Call[Any], job: Job) -> Generation:
    url = None
    if job.status == SUCCEEDED:
        url = call.url(f"/api/ai/queue/{job.id}/result")
    return Generation(
        generation_id=job.id,
        status=STATUS.get(job.status, job.status),
        model=str(job.about["model"]),
        result_url=url,
        error_message=None if job.error is None else str(job.error),
    )


GROUP = group(
    "oxen",
    Endpoint("POST", "/api/ai/images/edit", edit, EditBody, EditAnswer),
    Endpoint("GET", "/api/ai/results/{name}", result),
    Endpoint("POST", "/api/ai/queue", enqueue, QueueBody, Queue),
    Endpoint("GET", "/api/ai/queue", queue, None, Queue),
    Endpoint("GET", "/api/ai/queue/{id}", generation, None, Generation),
    Endpoint("DELETE", "/api/ai/queue/{id}", cancel, None, Generation),
    Endpoint("GET", "/api/ai/queue/{id}/result", generated),
    Endpoint("GET", f"/api/ai/models/{MODEL}", model),
)
