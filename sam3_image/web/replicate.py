"""Routes of the replicate client: predictions, models and versions, files.

Owner, name and version in a path may be any: there is one model here. The inputs are those of
`predict()`, with the same meaning as at Cog's /predictions.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from pydantic import Field, create_model

from sam3_image.errors import InputError, shown
from sam3_image.request import Request
from sam3_image.web.context import Context
from sam3_image.web.endpoint import Body, Call, Endpoint, group
from sam3_image.web.fetch import FetchError
from sam3_image.web.jobs import RUNNING, STARTING, Job, Outcome
from sam3_image.web.replicate_files import FILES, iso_time
from sam3_image.web.shelf import File
from sam3_image.web.sources import data_url, from_url

KIND = "replicate"
MODEL = "local/sam3-image"
# The client reads the schema by this version's rules; older ones crash on what is left out here.
COG_VERSION = "0.14.0"
CREATED = "2026-01-01T00:00:00Z"
MAX_WAIT = 60
REFERENCE = "reference_image"
LONG, SHOWN = 20_000, 40  # characters of an input that are kept, and of one that is cut
UPLOADED = re.compile(r"/v1/files/([0-9A-Za-z]+)$")
EVENTS = {RUNNING: "start", STARTING: "start"}
WEBHOOK_TRIES = 3


class PredictionBody(Body):
    """A prediction to make. input: those of `predict()`; image is required."""

    input: dict[str, Any]
    version: str | None = Field(default=None, max_length=200)
    webhook: str | None = None
    webhook_events_filter: list[str] | None = None


class Prediction(Body):
    """A prediction. output: a data URL of the file, once it has succeeded."""

    id: str
    model: str
    version: str
    status: str
    input: dict[str, Any]
    output: str | None
    error: str | None
    logs: str
    metrics: dict[str, float]
    created_at: str
    started_at: str | None
    completed_at: str | None
    urls: dict[str, str]


class Page(Body):
    """Predictions, the one that changed last first, without their outputs."""

    results: list[Prediction]
    next: str | None = None
    previous: str | None = None


class Version(Body):
    """What a version of the model takes and gives."""

    id: str
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


async def create(call: Call[PredictionBody]) -> Prediction:
    """Make a prediction; `Prefer: wait` answers when it is finished, within 60 seconds."""
    body = call.body
    image = _address("image", body.input.get("image"))
    reference = body.input.get(REFERENCE)
    inputs = {name: value for name, value in body.input.items() if name in Request.inputs()}
    if reference is not None:
        _address(REFERENCE, reference)
        inputs[REFERENCE] = b""  # it is fetched later, and the rest is refused before
    request = Request.from_filled(**inputs)
    if body.webhook is not None:
        call.context.fetcher.check(body.webhook)
    about: dict[str, Any] = {
        "model": _model(call),
        "version": body.version or "local",
        "input": _short(body.input),
    }

    async def work() -> Outcome:
        asked = request
        if reference is not None:
            examples = await _content(call, reference)
            asked = Request.from_filled(**{**inputs, REFERENCE: examples})
        picture = await call.context.segmentation.open(await _content(call, image))
        name, content = await call.context.segmentation.file(picture.image, asked)
        return Outcome((File.named(name, content),))

    held = len(image) + len(reference or "")
    job = call.context.jobs.start(KIND, work, about, held, _hook(call, about))
    wait = _preferred_wait(call)
    if wait is None:
        return _prediction(call, job)
    try:
        await job.wait(wait)
    except asyncio.CancelledError:
        if body.webhook is None:  # the client is gone and never learned the id
            job.cancel()
        raise
    answer = _prediction(call, job)
    if not job.finished:
        answer.status = STARTING  # the client takes "processing" here for the end
    return answer


async def read(call: Call[None]) -> Prediction:
    """Return a prediction as it is now."""
    return _prediction(call, call.context.jobs.get(KIND, call.path("id")))


async def cancel(call: Call[None]) -> Prediction:
    """Stop a prediction."""
    job = call.context.jobs.get(KIND, call.path("id"))
    job.cancel()
    return _prediction(call, job)


async def listing(call: Call[None]) -> Page:
    """All predictions that are kept, without their outputs."""
    results = [_prediction(call, job) for job in call.context.jobs.of(KIND)]
    for result in results:
        result.output = None
    return Page(results=results, next=None, previous=None)


async def model(call: Call[None]) -> dict[str, Any]:
    """Return the model, under whatever name it is asked for."""
    owner, name = call.path("owner"), call.path("name")
    return {
        "url": call.url(f"/{owner}/{name}"),
        "owner": owner,
        "name": name,
        "description": "SAM 3: finds every instance of a concept, or picks one object",
        "visibility": "private",
        "run_count": 0,
        "default_example": None,
        "latest_version": _version("local").model_dump(),
    }


async def version(call: Call[None]) -> Version:
    """Return a version of the model, with the schema of its inputs."""
    return _version(call.path("version"))


def _model(call: Call[Any]) -> str:
    parts = call.http.path_params
    return f"{parts['owner']}/{parts['name']}" if "owner" in parts else MODEL


def _address(name: str, value: Any) -> str:
    """Return the URL that is given for an image; raises InputError."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}; give a URL, a data URL or an uploaded file.")
    return value


async def _content(call: Call[Any], image: str) -> bytes:
    """Return the bytes of the input `image`: a file that was uploaded here needs no HTTP."""
    uploaded = UPLOADED.search(image)
    if uploaded and uploaded[1] in call.context.files:
        return call.context.files.get(uploaded[1]).content
    return await from_url(image, call.context.fetcher)


def _short(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs as they are given back: known ones, long texts (images) cut off."""
    return {
        name: f"{value[:SHOWN]}…" if isinstance(value, str) and len(value) > LONG else value
        for name, value in inputs.items()
        if name == "image" or name in Request.inputs()
    }


def _preferred_wait(call: Call[Any]) -> float | None:
    """Seconds that `Prefer: wait` or `wait=N` asks for, or None without it."""
    for part in call.http.headers.get("prefer", "").split(","):
        name, _, number = part.strip().partition("=")
        if name == "wait":
            seconds = int(number) if number.isascii() and number.isdigit() else MAX_WAIT
            return float(min(seconds, MAX_WAIT))
    return None


def _prediction(call: Call[Any], job: Job) -> Prediction:
    output = None
    if job.outcome is not None:
        made = job.outcome.files[0]
        output = data_url(made.content, made.media_type)
    metrics: dict[str, float] = {}
    if job.started is not None and job.completed is not None:
        metrics["predict_time"] = job.completed - job.started
    here = f"/v1/predictions/{job.id}"
    return Prediction(
        id=job.id,
        model=str(job.about["model"]),
        version=str(job.about["version"]),
        status=job.status,
        input=job.about["input"],
        output=output,
        error=None if job.error is None else str(job.error),
        logs="",
        metrics=metrics,
        created_at=iso_time(job.created),
        started_at=_time(job.started),
        completed_at=_time(job.completed),
        urls={"get": call.url(here), "cancel": call.url(f"{here}/cancel")},
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else iso_time(seconds)


def _hook(call: Call[PredictionBody], about: dict[str, Any]) -> Any:
    """Return what tells the client's webhook about each change, or None where it gave none."""
    url, wanted = call.body.webhook, call.body.webhook_events_filter
    if url is None:
        return None
    running: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive

    def tell(job: Job) -> None:
        event = EVENTS.get(job.status, "completed")
        if wanted is not None and event not in wanted:
            return
        body = _prediction(call, job).model_dump_json().encode()
        task = asyncio.ensure_future(_post(call.context, url, body))
        running.add(task)
        task.add_done_callback(running.discard)

    return tell


async def _post(context: Context, url: str, body: bytes) -> None:
    for attempt in range(1, WEBHOOK_TRIES + 1):
        try:
            await context.fetcher.post(url, body)
        except FetchError as error:
            print(f"webhook, attempt {attempt} of {WEBHOOK_TRIES}: {error}", flush=True)
            await asyncio.sleep(attempt)
        else:
            return


def _version(name: str) -> Version:
    fields: dict[str, Any] = {
        name: (field.annotation, field) for name, field in Request.inputs().items()
    }
    inputs = create_model("Input", image=(str, Field(description="Image to segment")), **fields)
    schema = {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {},
        "components": {
            "schemas": {
                "Input": inputs.model_json_schema(),
                "Output": {"title": "Output", "type": "string", "format": "uri"},
            }
        },
    }
    return Version(id=name, created_at=CREATED, cog_version=COG_VERSION, openapi_schema=schema)


GROUP = group(
    "replicate",
    Endpoint("POST", "/v1/predictions", create, PredictionBody, Prediction, status=201),
    Endpoint("GET", "/v1/predictions", listing, None, Page),
    Endpoint("GET", "/v1/predictions/{id}", read, None, Prediction),
    Endpoint("POST", "/v1/predictions/{id}/cancel", cancel, None, Prediction),
    Endpoint("GET", "/v1/models/{owner}/{name}", model),
    Endpoint("GET", "/v1/models/{owner}/{name}/versions/{version}", version, None, Version),
    *(
        Endpoint("POST", path, create, PredictionBody, Prediction, status=201)
        for path in (
            "/v1/models/{owner}/{name}/predictions",
            "/v1/deployments/{owner}/{name}/predictions",
        )
    ),
    *FILES,
)
