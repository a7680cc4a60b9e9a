"""Routes of Prodia's job API, for its job type inference.sam3.segment.v1.

A request is a form whose part `job` is JSON and whose part `input` is the image. The answer holds
one grayscale PNG for each instance, best score first: 255 on the object, 0 off it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from fastapi import File, Form, HTTPException, Response, UploadFile
from fastapi import Request as HttpRequest
from fastapi.responses import PlainTextResponse
from pydantic import Field, ValidationError

from sam3_image.decode import Image
from sam3_image.errors import ImageError, InputError, shown
from sam3_image.output import RenderedFile, encode_mask
from sam3_image.request import Request
from sam3_image.web.jobs import FAILED, SUCCEEDED, WebJob
from sam3_image.web.json_text import parse_json
from sam3_image.web.problems import STATUSES, refusal
from sam3_image.web.routes import Body, BoundedRoute, StrictBody, client_router
from sam3_image.web.state import Server, ServerState
from sam3_image.web.store import GoneError, new_id

if TYPE_CHECKING:
    from sam3_image.instances import Instances

KIND = "prodia"
FORMATS = ("PNG", "JPEG", "WebP")
MIN_SIDE, MAX_SIDE = 256, 4096  # pixels
MAX_BYTES = 10_000_000
STATES = {SUCCEEDED: "processed", FAILED: "failed"}

FORM, PNG, JSON = "multipart/form-data", "image/png", "application/json"
JOB = "/v2/job/async/{id}"


class ProdiaRoute(BoundedRoute):
    """Answers 400 to everything that does not fit, as Prodia does."""

    statuses: ClassVar = {**STATUSES, InputError: 400}


router = client_router("prodia", ProdiaRoute)


class JobConfig(StrictBody):
    """What to segment."""

    prompt: str = Field(min_length=1, max_length=500)
    confidence_threshold: float = Field(default=0.5, ge=0, le=1)


class JobBody(StrictBody):
    """A job."""

    type: Literal["inference.segment.v2", "inference.sam3.segment.v1"]
    config: JobConfig


class JobState(Body):
    """processing, processed or failed."""

    current: str


class JobAnswer(Body):
    """A job as it is now. error: one line, where it failed."""

    id: str
    type: str
    config: dict[str, Any]
    state: JobState
    created_at: str
    updated_at: str
    metrics: dict[str, float]
    error: str | None = None


JobPart = Annotated[Any, Form(json_schema_extra={"type": "string", "contentMediaType": JSON})]
ImageParts = Annotated[list[UploadFile], File()]


@router.post("/v2/job")
async def run_job(http: HttpRequest, server: Server, job: JobPart, input: ImageParts) -> Response:
    """Run a job and answer with its masks, in the form that `Accept` asks for.

    multipart/form-data (the default): the job and one mask for each instance. image/png: one
    image, white on every instance. application/json: the job alone.
    """
    wanted = _accepted(http)
    asked, data = await _job(job, input)
    begin = time.time()
    image = await _open(server, data)
    if wanted == PNG:
        request = _request(asked, return_zip=False, mask_only=True)
        made = await server.segmentation.file(image, request)
        return Response(made.data, media_type=PNG)
    masks = await _masks(server, image, _request(asked))
    answer = _answer(new_id(), asked, "processed", begin, time.time())
    if wanted == JSON:
        return Response(_encoded(answer), media_type=JSON)
    boundary = secrets.token_hex(16)
    body = b"".join(_parts(boundary, answer, masks))
    return Response(body, media_type=f"{FORM}; boundary={boundary}")


@router.post("/v2/job/async", status_code=201, response_model_exclude_none=True)
async def start_job(server: Server, job: JobPart, input: ImageParts) -> JobAnswer:
    """Start a job to ask about later."""
    asked, data = await _job(job, input)
    request = _request(asked)

    async def work() -> list[RenderedFile]:
        return await _masks(server, await _open(server, data), request)

    (started,) = server.jobs.start(KIND, work, {"job": asked}, len(data))
    return _of(started)


@router.get(f"{JOB}/job.state.current")
async def state(id: str, server: Server) -> PlainTextResponse:
    """The state of a job as plain text: processing, processed or failed."""
    return PlainTextResponse(_of(server.jobs.get(KIND, id)).state.current)


@router.get(f"{JOB}/job.json", response_model_exclude_none=True)
async def metadata(id: str, server: Server) -> JobAnswer:
    """A job as it is now."""
    return _of(server.jobs.get(KIND, id))


@router.get(f"{JOB}/output")
async def outputs(id: str, server: Server) -> list[str]:
    """The names of a job's files."""
    return [file.name for file in _files(server.jobs.get(KIND, id))]


@router.get(f"{JOB}/output/{{name}}")
async def output(id: str, name: str, server: Server) -> Response:
    """One of a job's files."""
    for file in _files(server.jobs.get(KIND, id)):
        if file.name == name:
            return Response(file.data, media_type=file.media_type)
    raise GoneError(f"The job has no file {shown(name)}; ask for the list of its outputs.")


async def _job(part: Any, images: list[UploadFile]) -> tuple[JobBody, bytes]:
    """The job and the bytes of its image; raises InputError."""
    if len(images) != 1:
        raise InputError(f"the job has {len(images)} files 'input'; send one image.")
    text = part if isinstance(part, str) else await part.read()
    try:
        job = JobBody.model_validate(parse_json("job", text))
    except ValidationError as error:
        raise InputError(refusal(error)) from None
    data = await images[0].read()
    if len(data) > MAX_BYTES:
        raise ImageError(f"input holds {len(data):,} bytes; at most {MAX_BYTES:,} are accepted.")
    return job, data


def _request(job: JobBody, **output: Any) -> Request:
    config = job.config
    return Request.from_inputs(
        prompt=config.prompt, threshold=config.confidence_threshold, **output
    )


async def _open(server: ServerState, data: bytes) -> Image:
    """The decoded image; raises ImageError for one that Prodia would not take."""
    image = (await server.segmentation.known_image(data)).image
    if image.format not in FORMATS:
        raise ImageError(f"input is {image.format}; accepted are {', '.join(FORMATS)}.")
    height, width = image.size
    if min(image.size) < MIN_SIDE or max(image.size) > MAX_SIDE:
        raise ImageError(
            f"input has {width}×{height} pixels; accepted are {MIN_SIDE}×{MIN_SIDE} to "
            f"{MAX_SIDE}×{MAX_SIDE}. Scale it."
        )
    return image


async def _masks(server: ServerState, image: Image, request: Request) -> list[RenderedFile]:
    found = await server.segmentation.segment(image, request)
    return await server.segmentation.call(_mask_files, found)


def _mask_files(found: Instances) -> list[RenderedFile]:
    return [
        RenderedFile(f"mask_{index:03d}.png", PNG, encode_mask(mask))
        for index, mask in enumerate(found.iter_masks())
    ]


def _accepted(http: HttpRequest) -> str:
    accept = http.headers.get("accept", FORM).lower()
    for kind in (FORM, PNG, JSON):
        if kind in accept:
            return kind
    if "*/*" in accept or "image/*" in accept:
        return PNG if "image/*" in accept else FORM
    raise HTTPException(406, f"Accept is {shown(accept)}; choose {FORM}, {PNG} or {JSON}.")


def _files(job: WebJob) -> Sequence[RenderedFile]:
    if job.outcome is None:
        raise GoneError(f"The job has no output: it is {_of(job).state.current}.")
    return job.outcome


def _of(job: WebJob) -> JobAnswer:
    asked = job.about["job"]
    assert isinstance(asked, JobBody)
    changed = job.completed or job.started or job.created
    answer = _answer(job.id, asked, STATES.get(job.status, "processing"), job.created, changed)
    if job.error is not None:
        answer.error = str(job.error)
    return answer


def _answer(job_id: str, asked: JobBody, current: str, created: float, changed: float) -> JobAnswer:
    return JobAnswer(
        id=job_id,
        type=asked.type,
        config=asked.config.model_dump(),
        state=JobState(current=current),
        created_at=datetime.fromtimestamp(created, UTC).isoformat(),
        updated_at=datetime.fromtimestamp(changed, UTC).isoformat(),
        metrics={"elapsed": changed - created},
    )


def _encoded(answer: JobAnswer) -> bytes:
    return answer.model_dump_json(exclude_none=True).encode()


def _parts(boundary: str, job: JobAnswer, masks: Iterable[RenderedFile]) -> Iterable[bytes]:
    """The pieces of a multipart/form-data body."""
    described = RenderedFile("job.json", JSON, _encoded(job))
    for field, file in [("job", described), *(("output", mask) for mask in masks)]:
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; '
            f'filename="{file.name}"\r\nContent-Type: {file.media_type}\r\n\r\n'
        ).encode("ascii")
        yield file.data
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")
