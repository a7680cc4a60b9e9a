"""Routes of the replicate client: predictions, models and versions, files.

Owner, name and version in a path may be any: there is one model here. The inputs are those of
`predict()`, with the same meaning as at Cog's /predictions.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

from fastapi import Request as HttpRequest
from pydantic import Field, create_model

from sam3_image.errors import InputError, shown
from sam3_image.output import RenderedFile
from sam3_image.request import Request
from sam3_image.web.clients import replicate_files
from sam3_image.web.clients.replicate_files import UPLOADS, Upload, iso_time
from sam3_image.web.clients.replicate_hooks import EVENTS, notify
from sam3_image.web.image_input import data_url, from_url
from sam3_image.web.jobs import STARTING, WebJob
from sam3_image.web.routes import Body, client_router
from sam3_image.web.state import Server, ServerState, address

KIND = "replicate"
MODEL = "local/sam3-image"
# The client reads the schema by this version's rules; older ones crash on what is left out here.
COG_VERSION = "0.14.0"
CREATED = "2026-01-01T00:00:00Z"
MAX_WAIT = 60
OTHER_IMAGES = ("reference_image", "mask_image")
LONG, SHOWN = 20_000, 40  # characters of an input that are kept, and of one that is cut
UPLOADED = re.compile(r"/v1/files/([0-9A-Za-z]+)$")

router = client_router("replicate")
router.include_router(replicate_files.router)


class PredictionBody(Body):
    """A prediction to make. input: those of `predict()`; image is required."""

    input: dict[str, Any]
    version: str | None = Field(default=None, max_length=200)
    webhook: str | None = None
    webhook_events_filter: list[str] | None = None


class ReplicatePrediction(Body):
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


class PredictionList(Body):
    """Predictions, the one that changed last first, without their outputs."""

    results: list[ReplicatePrediction]
    next: str | None = None
    previous: str | None = None


class ModelVersion(Body):
    """What a version of the model takes and gives."""

    id: str
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


@router.post("/v1/predictions", status_code=201)
async def create(body: PredictionBody, http: HttpRequest, server: Server) -> ReplicatePrediction:
    """Make a prediction; `Prefer: wait` answers when it is finished, within 60 seconds."""
    return await _created(body, http, server, MODEL)


@router.post("/v1/models/{owner}/{name}/predictions", status_code=201)
@router.post("/v1/deployments/{owner}/{name}/predictions", status_code=201)
async def create_named(
    owner: str, name: str, body: PredictionBody, http: HttpRequest, server: Server
) -> ReplicatePrediction:
    """Make a prediction, under whatever name the model is asked for."""
    return await _created(body, http, server, f"{owner}/{name}")


@router.get("/v1/predictions/{id}")
async def prediction(id: str, http: HttpRequest, server: Server) -> ReplicatePrediction:
    """A prediction as it is now."""
    return _prediction(address(http, ""), server.jobs.get(KIND, id))


@router.post("/v1/predictions/{id}/cancel")
async def cancel(id: str, http: HttpRequest, server: Server) -> ReplicatePrediction:
    """Stop a prediction."""
    job = server.jobs.get(KIND, id)
    job.cancel()
    return _prediction(address(http, ""), job)


@router.get("/v1/predictions")
async def listing(http: HttpRequest, server: Server) -> PredictionList:
    """All predictions that are kept, without their outputs."""
    jobs = server.jobs.of(KIND)
    return PredictionList(
        results=[_prediction(address(http, ""), job, with_output=False) for job in jobs]
    )


@router.get("/v1/models/{owner}/{name}")
async def model(owner: str, name: str, http: HttpRequest) -> dict[str, Any]:
    """The model, under whatever name it is asked for."""
    return {
        "url": address(http, f"/{owner}/{name}"),
        "owner": owner,
        "name": name,
        "description": "SAM 3: finds every instance of a concept, or picks one object",
        "visibility": "private",
        "run_count": 0,
        "default_example": None,
        "latest_version": _version("local").model_dump(),
    }


@router.get("/v1/models/{owner}/{name}/versions/{version}")
async def version(version: str) -> ModelVersion:
    """A version of the model, with the schema of its inputs."""
    return _version(version)


async def _created(
    body: PredictionBody, http: HttpRequest, server: ServerState, model: str
) -> ReplicatePrediction:
    image = _url("image", body.input.get("image"))
    inputs = {name: value for name, value in body.input.items() if name in Request.inputs()}
    others = {name: inputs[name] for name in OTHER_IMAGES if inputs.get(name) is not None}
    for name, url in others.items():
        _url(name, url)
        inputs[name] = b""  # it is fetched later, and the rest is refused before
    request = Request.from_filled(**inputs)
    if body.webhook is not None:
        server.fetcher.check_url(body.webhook)

    async def work() -> list[RenderedFile]:
        fetched = {name: await _content(server, url) for name, url in others.items()}
        asked = Request.from_filled(**{**inputs, **fetched}) if fetched else request
        known = await server.segmentation.known_image(await _content(server, image))
        return [await server.segmentation.file(known.image, asked)]

    about = {"model": model, "version": body.version or "local", "input": _short(body.input)}
    held = len(image) + sum(map(len, others.values()))
    base = address(http, "")
    follow = None
    if body.webhook is not None:
        events = EVENTS if body.webhook_events_filter is None else body.webhook_events_filter
        follow = partial(notify, server.fetcher, body.webhook, events, partial(_prediction, base))
    (job,) = server.jobs.start(KIND, work, about, held, follow=follow)
    return await _answered(http, job, keep=body.webhook is not None)


async def _answered(http: HttpRequest, job: WebJob, keep: bool) -> ReplicatePrediction:
    """The prediction, after as long as the client prefers to wait.

    keep: whether the job goes on when the client leaves, and so never learns its id.
    """
    wait = _preferred_wait(http)
    if wait is None:
        return _prediction(address(http, ""), job)
    try:
        await job.wait(wait)
    except asyncio.CancelledError:
        if not keep:
            job.cancel()
        raise
    answer = _prediction(address(http, ""), job)
    if not job.finished:
        answer.status = STARTING  # the client takes "processing" here for the end
    return answer


def _url(name: str, value: Any) -> str:
    """The URL that is given for an image; raises InputError."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}; give a URL, a data URL or an uploaded file.")
    return value


async def _content(server: ServerState, image: str) -> bytes:
    """The bytes of an image: a file that was uploaded here needs no HTTP."""
    uploaded = UPLOADED.search(image)
    kept: Upload | None = server.store(UPLOADS).find(uploaded[1]) if uploaded else None
    return await from_url(image, server.fetcher) if kept is None else kept.data


def _short(inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs as they are given back: known ones, long texts (images) cut off."""
    return {
        name: f"{value[:SHOWN]}…" if isinstance(value, str) and len(value) > LONG else value
        for name, value in inputs.items()
        if name == "image" or name in Request.inputs()
    }


def _preferred_wait(http: HttpRequest) -> float | None:
    """Seconds that `Prefer: wait` or `wait=N` asks for, or None without it."""
    for part in http.headers.get("prefer", "").split(","):
        name, _, number = part.strip().partition("=")
        if name == "wait":
            short = number.isascii() and number.isdigit() and len(number) <= 3
            return float(min(int(number), MAX_WAIT)) if short else float(MAX_WAIT)
    return None


def _prediction(base: str, job: WebJob, with_output: bool = True) -> ReplicatePrediction:
    """The job as the client reads it. base: the address of this server."""
    output = None
    if job.outcome is not None and with_output:
        output = data_url(job.outcome[0].data, job.outcome[0].media_type)
    metrics: dict[str, float] = {}
    if job.started is not None and job.completed is not None:
        metrics["predict_time"] = job.completed - job.started
    here = f"/v1/predictions/{job.id}"
    return ReplicatePrediction(
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
        urls={"get": base + here, "cancel": f"{base}{here}/cancel"},
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else iso_time(seconds)


def _version(name: str) -> ModelVersion:
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
    return ModelVersion(id=name, created_at=CREATED, cog_version=COG_VERSION, openapi_schema=schema)
