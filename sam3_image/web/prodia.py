"""Routes of Prodia's job API, for its job type inference.sam3.segment.v1.

A request is JSON, or a form whose part `job` is that JSON and whose part `input` is the image. The
answer holds one grayscale PNG for each instance, best score first: 255 on the object, 0 off it.
"""

from __future__ import annotations

import io
import json
import secrets
import time
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from sam3_image.errors import ImageError, InputError, shown
from sam3_image.request import Request
from sam3_image.web.endpoint import Body, Call, Endpoint, StrictBody, group, refusal
from sam3_image.web.jobs import FAILED, SUCCEEDED, Job, Outcome
from sam3_image.web.shelf import File, Gone, new_id

KIND = "prodia"
FORMATS = ("PNG", "JPEG", "WebP")
MIN_SIDE, MAX_SIDE = 256, 4096  # pixels
MAX_BYTES = 10_000_000
STATES = {SUCCEEDED: "processed", FAILED: "failed"}

FORM, PNG, JSON = "multipart/form-data", "image/png", "application/json"


class Config(StrictBody):
    """What to segment."""

    prompt: str = Field(min_length=1, max_length=500)
    confidence_threshold: float = Field(default=0.5, ge=0, le=1)


class JobBody(StrictBody):
    """A job."""

    type: Literal["inference.segment.v2", "inference.sam3.segment.v1"]
    config: Config


class JobForm(Body):
    """A job and its image, as a form. job: the JSON of a job."""

    job: Any = Field(json_schema_extra={"type": "string", "contentMediaType": JSON})
    input: Any = Field(json_schema_extra={"type": "string", "format": "binary"})


class State(Body):
    """processing, processed or failed."""

    current: str


class JobAnswer(Body):
    """A job as it is now. error: one line, where it failed."""

    id: str
    type: str
    config: dict[str, Any]
    state: State
    created_at: str
    updated_at: str
    metrics: dict[str, float]
    error: str | None = None


async def run(call: Call[JobForm]) -> Response:
    """Run a job and answer with its masks, in the form that `Accept` asks for.

    multipart/form-data (the default): the job and one mask for each instance. image/png: one
    picture, white on every instance. application/json: the job alone.
    """
    wanted = _accepted(call)
    job, data = await _job(call)
    begin = time.time()
    if wanted == PNG:
        file = await _file(call, _request(job, return_zip=False, mask_only=True), data)
        return Response(file.content, media_type=PNG)
    masks = _unpacked(await _file(call, _request(job), data))
    answer = _answer(new_id(), job, "processed", begin, time.time())
    if wanted == JSON:
        return Response(_encoded(answer), media_type=JSON)
    boundary = secrets.token_hex(16)
    body = b"".join(_parts(boundary, answer, masks))
    return Response(body, media_type=f"{FORM}; boundary={boundary}")


async def start(call: Call[JobForm]) -> JobAnswer:
    """Start a job to ask about later."""
    job, data = await _job(call)
    request = _request(job)

    async def work() -> Outcome:
        return Outcome(_unpacked(await _file(call, request, data)))

    return _of(call.context.jobs.start(KIND, work, {"job": job}, len(data)))


async def state(call: Call[None]) -> PlainTextResponse:
    """Return the state of a job as plain text: processing, processed or failed."""
    return PlainTextResponse(_of(_started(call)).state.current)


async def metadata(call: Call[None]) -> JobAnswer:
    """Return a job as it is now."""
    return _of(_started(call))


async def outputs(call: Call[None]) -> list[str]:
    """Return the names of a job's files."""
    return [file.name for file in _files(_started(call))]


async def output(call: Call[None]) -> Response:
    """One of a job's files."""
    name = call.path("name")
    for file in _files(_started(call)):
        if file.name == name:
            return Response(file.content, media_type=file.media_type)
    raise Gone(f"The job has no file {shown(name)}; ask for the list of its outputs.")


async def _job(call: Call[JobForm]) -> tuple[JobBody, bytes]:
    """Return the job and the bytes of its image; raises InputError."""
    image = call.body.input
    inputs = call.form.getlist("input")
    if len(inputs) != 1 or not isinstance(image, UploadFile):
        raise InputError(f"the job has {len(inputs)} files 'input'; send one image.")
    text = await call.body.job.read() if isinstance(call.body.job, UploadFile) else call.body.job
    try:
        job = JobBody.model_validate(json.loads(text))
    except ValidationError as error:
        raise InputError(refusal(error)) from None
    except (ValueError, RecursionError):
        raise InputError(
            f"job is {shown(text)}, which is not JSON; send type and config."
        ) from None
    data = await image.read()
    if len(data) > MAX_BYTES:
        raise ImageError(f"input holds {len(data):,} bytes; at most {MAX_BYTES:,} are accepted.")
    return job, data


def _request(job: JobBody, **output: Any) -> Request:
    config = job.config
    return Request.from_inputs(
        prompt=config.prompt, threshold=config.confidence_threshold, **output
    )


async def _file(call: Call[Any], request: Request, data: bytes) -> File:
    """Return the file that `predict()` would give for the image; raises ImageError."""
    image = (await call.context.segmentation.open(data)).image
    if image.format not in FORMATS:
        raise ImageError(f"input is {image.format}; accepted are {', '.join(FORMATS)}.")
    height, width = image.size
    if min(image.size) < MIN_SIDE or max(image.size) > MAX_SIDE:
        raise ImageError(
            f"input has {width}×{height} pixels; accepted are {MIN_SIDE}×{MIN_SIDE} to "
            f"{MAX_SIDE}×{MAX_SIDE}. Scale it."
        )
    return File.named(*await call.context.segmentation.file(image, request))


def _unpacked(masks: File) -> tuple[File, ...]:
    """Return the masks in the ZIP of a result."""
    with zipfile.ZipFile(io.BytesIO(masks.content)) as archive:
        return tuple(File.named(name, archive.read(name)) for name in archive.namelist())


def _accepted(call: Call[Any]) -> str:
    accept = call.http.headers.get("accept", FORM).lower()
    for kind in (FORM, PNG, JSON):
        if kind in accept:
            return kind
    if "*/*" in accept or "image/*" in accept:
        return PNG if "image/*" in accept else FORM
    raise HTTPException(406, f"Accept is {shown(accept)}; choose {FORM}, {PNG} or {JSON}.")


def _started(call: Call[None]) -> Job:
    return call.context.jobs.get(KIND, call.path("id"))


def _files(job: Job) -> tuple[File, ...]:
    if job.outcome is None:
        raise Gone(f"The job has no output: it is {_of(job).state.current}.")
    return job.outcome.files


def _of(job: Job) -> JobAnswer:
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
        state=State(current=current),
        created_at=datetime.fromtimestamp(created, UTC).isoformat(),
        updated_at=datetime.fromtimestamp(changed, UTC).isoformat(),
        metrics={"elapsed": changed - created},
    )


def _encoded(answer: JobAnswer) -> bytes:
    return answer.model_dump_json(exclude_none=True).encode()


def _parts(boundary: str, job: JobAnswer, masks: Iterable[File]) -> Iterable[bytes]:
    """Yield the pieces of a multipart/form-data body."""
    parts = [("job", File.named("job.json", _encoded(job))), *(("output", mask) for mask in masks)]
    for field, file in parts:
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; '
            f'filename="{file.name}"\r\nContent-Type: {file.media_type}\r\n\r\n'
        ).encode("ascii")
        yield file.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")


JOB = "/v2/job/async/{id}"
GROUP = group(
    "prodia",
    Endpoint("POST", "/v2/job", run, JobForm, form=True, refused=400),
    Endpoint(
        "POST", "/v2/job/async", start, JobForm, JobAnswer, form=True, status=201, refused=400
    ),
    Endpoint("GET", f"{JOB}/job.state.current", state),
    Endpoint("GET", f"{JOB}/job.json", metadata, None, JobAnswer),
    Endpoint("GET", f"{JOB}/output", outputs),
    Endpoint("GET", f"{JOB}/output/{{name}}", output),
)
