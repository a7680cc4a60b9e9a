"""Prodia's jobs, by the contract that its page has."""

from __future__ import annotations

import email
import email.message
import json
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from tests.helpers.client_scenes import Scene
from tests.helpers.cog_server import pixels
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import CIRCLE, SHAPES, small, wait_for

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# As Prodia's page has it.
JOB_SCHEMA = {
    "type": "object",
    "required": ["type", "config"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["inference.segment.v2", "inference.sam3.segment.v1"]},
        "config": {
            "type": "object",
            "required": ["prompt"],
            "additionalProperties": False,
            "properties": {
                "prompt": {"type": "string", "minLength": 1, "maxLength": 500},
                "confidence_threshold": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
    },
}


def job(prompt: str = CIRCLE, **config: Any) -> dict[str, Any]:
    made = {"type": "inference.sam3.segment.v1", "config": {"prompt": prompt, **config}}
    jsonschema.validate(made, JOB_SCHEMA)
    return made


def post_job(
    web: WebServer, asked: Any, image: bytes = SHAPES, path: str = "/v2/job", **headers: str
) -> httpx.Response:
    files = {
        "job": ("job.json", json.dumps(asked), "application/json"),
        "input": ("image", image, "image/png"),
    }
    return web.http.post(path, files=files, headers=headers)


def parts(answer: httpx.Response) -> list[email.message.Message]:
    """The parts of a multipart answer, read by the standard library."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content)
    assert message.is_multipart()
    return message.get_payload()  # type: ignore[return-value]


def test_prodia_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        answer = post_job(web, job(scene.names[0]), scene.image)
        assert answer.status_code == 200, answer.text
        first, *outputs = parts(answer)
        assert first.get_param("name", header="content-disposition") == "job"
        assert json.loads(first.get_payload(decode=True))["state"]["current"] == "processed"
        masks = {part.get_filename(): part.get_payload(decode=True) for part in outputs}
        assert masks == scene.mask_files()


def test_prodia_masks_are_gray_and_one_picture_holds_them_all(web: WebServer) -> None:
    outputs = [pixels(part.get_payload(decode=True)) for part in parts(post_job(web, job()))[1:]]  # type: ignore[arg-type]
    assert len(outputs) == 3
    for mask in outputs:
        assert mask.ndim == 2
        assert set(np.unique(mask)) == {0, 255}
    one = post_job(web, job(), Accept="image/png")
    assert one.headers["content-type"] == "image/png"
    assert np.array_equal(pixels(one.content), np.maximum.reduce(outputs))
    nothing = post_job(web, job(confidence_threshold=1.0), Accept="image/png")
    assert not pixels(nothing.content).any()


def test_prodia_threshold_and_answer_without_masks(web: WebServer) -> None:
    low = parts(post_job(web, job(confidence_threshold=0.0)))
    high = parts(post_job(web, job(confidence_threshold=1.0)))
    assert len(low) > 20
    assert len(high) == 1
    answer = post_job(web, job(), Accept="application/json").json()
    assert answer["config"] == {"prompt": CIRCLE, "confidence_threshold": 0.5}
    assert "error" not in answer


def test_prodia_jobs_that_are_asked_about_later(web: WebServer) -> None:
    started = post_job(web, job(), path="/v2/job/async")
    assert started.status_code == 201
    here = f"/v2/job/async/{started.json()['id']}"
    assert wait_for(lambda: web.http.get(f"{here}/job.state.current").text, "processing") == (
        "processed"
    )
    described = web.http.get(f"{here}/job.json").json()
    assert described["state"]["current"] == "processed"
    names = web.http.get(f"{here}/output").json()
    assert names == ["mask_000.png", "mask_001.png", "mask_002.png"]
    assert pixels(web.http.get(f"{here}/output/{names[0]}").content).shape == (600, 800)
    assert web.http.get(f"{here}/output/other.png").status_code == 404
    assert web.http.get("/v2/job/async/unknown/job.json").status_code == 404
    failed = post_job(web, job(), b"no image", path="/v2/job/async").json()["id"]
    state = wait_for(
        lambda: web.http.get(f"/v2/job/async/{failed}/job.state.current").text, "processing"
    )
    assert state == "failed"
    assert "accepted are JPEG" in web.http.get(f"/v2/job/async/{failed}/job.json").json()["error"]


@pytest.mark.parametrize(
    ("asked", "image", "message"),
    [
        ({"type": "x", "config": {"prompt": "a"}}, SHAPES, "type is 'x'"),
        ({"type": "inference.segment.v2", "config": {}}, SHAPES, "config.prompt is missing"),
        ({"type": "inference.segment.v2", "config": {"prompt": ""}}, SHAPES, "config.prompt is ''"),
        (
            {"type": "inference.segment.v2", "config": {"prompt": "a" * 501}},
            SHAPES,
            "at most 500 characters",
        ),
        (
            {"type": "inference.segment.v2", "config": {"prompt": "a", "seed": 1}},
            SHAPES,
            "config.seed is not a field here",
        ),
        (
            {
                "type": "inference.segment.v2",
                "config": {"prompt": "a", "confidence_threshold": 2},
            },
            SHAPES,
            "config.confidence_threshold is 2: ",
        ),
        (job(), small(255, 400), "input has 255×400 pixels; accepted are 256×256 to 4096×4096"),
        (job(), small(4097, 300), "input has 4097×300 pixels"),
        (job(), small(300, 300, "BMP"), "input is BMP; accepted are PNG, JPEG, WebP"),
        (job(), SHAPES + bytes(10_000_000), "at most 10,000,000 are accepted"),
        ("no job", SHAPES, "The body is 'no job'"),
    ],
)
def test_prodia_refusals(web: WebServer, asked: Any, image: bytes, message: str) -> None:
    answer = post_job(web, asked, image)
    assert answer.status_code == 400
    assert message in answer.json()["message"]


def test_prodia_without_an_image_or_with_an_accept_of_something_else(web: WebServer) -> None:
    answer = web.http.post("/v2/job", files={"job": ("job.json", json.dumps(job()))})
    assert (answer.status_code, answer.json()["message"]) == (400, "input is missing; give it.")
    assert post_job(web, job(), Accept="video/mp4").status_code == 406
