"""Oxen's image edits and OpenAI-style segmentation, by the contracts they have."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.client_scenes import Scene
from tests.helpers.cog_server import data_url, pixels
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import CIRCLE, SHAPES, wait_for

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_oxen_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        body = {"input_image": data_url(scene.image), "prompt": scene.names[0]}
        body["response_format"] = "b64_json"
        answer = web.http.post("/api/ai/images/edit", json=body)
        assert answer.status_code == 200, answer.text
        content = base64.b64decode(answer.json()["images"][0]["b64_json"])
        # Not byte by byte: ISA-L's deflate once gave the same picture other bytes in one process.
        assert np.array_equal(pixels(content), pixels(scene.files()["cutout.png"]))


def test_oxen_urls_formats_and_masks(web: WebServer) -> None:
    body = {"model": "sam-3-image", "input_image": data_url(SHAPES), "prompt": CIRCLE}
    url = web.http.post("/api/ai/images/edit", json=body).json()["images"][0]["url"]
    assert url.startswith(f"{web.url}/api/ai/results/")
    picture = web.http.get(url)
    assert picture.headers["content-type"] == "image/png"
    assert pixels(picture.content).shape == (600, 800, 4)
    answer = web.http.post("/api/ai/images/edit", json={**body, "output_format": "jpg"}).json()
    assert web.http.get(answer["images"][0]["url"]).content[:3] == b"\xff\xd8\xff"
    answer = web.http.post("/api/ai/images/edit", json={**body, "apply_mask": False}).json()
    mask = pixels(web.http.get(answer["images"][0]["url"]).content)
    assert set(np.unique(mask)) == {0, 255}


def test_oxen_queue(web: WebServer) -> None:
    body = {"model": "sam-3-image", "input_image": data_url(SHAPES), "prompt": CIRCLE}
    queued = web.http.post("/api/ai/queue", json={**body, "num_generations": 2}).json()
    assert len(queued["generations"]) == 2
    for generation in queued["generations"]:
        here = f"/api/ai/queue/{generation['generation_id']}"
        wait_for(lambda here=here: web.http.get(here).json()["status"], "queued", "processing")
        done = web.http.get(here).json()
        assert done["status"] == "succeeded"
        assert pixels(web.http.get(done["result_url"]).content).shape == (600, 800, 4)
        assert here.rpartition("/")[2] in web.http.get("/api/ai/queue").text
    body["input_image"] = "https://127.0.0.1/x.png"
    (failed,) = web.http.post("/api/ai/queue", json=body).json()["generations"]
    here = f"/api/ai/queue/{failed['generation_id']}"
    wait_for(lambda: web.http.get(here).json()["status"], "queued", "processing")
    assert "leads to 127.0.0.1" in web.http.get(here).json()["error_message"]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "other"}, 422, "model is 'other'; this server has 'sam-3-image'"),
        ({"prompt": " "}, 422, "prompt is blank"),
        ({"output_format": "gif"}, 422, "output_format is 'gif'"),
        ({"input_image": ["a", "b"]}, 422, "input_image has 2 entries; give one"),
        ({"input_image": "/etc/passwd"}, 400, "is '/etc/passwd', which is not a URL"),
        ({"input_image": "http://localhost/x"}, 400, "not an address of the public internet"),
        ({"apply_mask": False, "output_format": "jpg"}, 422, "goes with apply_mask=true"),
    ],
)
def test_oxen_refusals(web: WebServer, change: dict[str, Any], status: int, message: str) -> None:
    body = {"model": "sam-3-image", "input_image": data_url(SHAPES), "prompt": CIRCLE, **change}
    answer = web.http.post("/api/ai/images/edit", json=body)
    assert answer.status_code == status
    assert message in answer.json()["message"]


def test_oxen_model(web: WebServer) -> None:
    schema = web.http.get("/api/ai/models/sam-3-image").json()["json_request_schema"]
    assert set(schema["required"]) == {"input_image", "prompt"}
    assert schema["properties"]["apply_mask"]["default"] is True


@pytest.mark.parametrize("form", ["png", "rle"])
def test_openai_20_scenes(web: WebServer, scenes: list[Scene], form: str) -> None:
    for scene in scenes:
        answer = web.http.post(
            "/v1/images/segmentations",
            files={"image": scene.image},
            data={"prompt": scene.names[0], "mask_format": form},
        )
        assert answer.status_code == 200, answer.text
        wanted = scene.found[0]
        got = answer.json()["data"]
        if form == "rle":
            assert [one["mask"] for one in got] == [one["rle"] for one in wanted]
        else:
            masks = [base64.b64decode(one["mask"]) for one in got]
            assert masks == list(scene.mask_files().values())
        assert [one["box"] for one in got] == [pytest.approx(w["box"], abs=0.01) for w in wanted]


def test_openai_boxes_and_refusals(web: WebServer) -> None:
    def ask(**data: str) -> httpx.Response:
        return web.http.post("/v1/images/segmentations", files={"image": SHAPES}, data=data)

    boxes = "[[43, 43, 157, 157], [243, 443, 357, 557]]"
    alone = ask(boxes=boxes[:19] + "]")
    assert len(alone.json()["data"]) > 0
    fewer = ask(prompt="circle", boxes=boxes, box_labels="[1, 0]").json()["data"]
    assert len(fewer) < len(ask(prompt="circle").json()["data"])
    assert ask(prompt="circle", threshold="0").json()["data"][30:]
    for data, message in (
        ({}, "prompt and boxes are missing"),
        ({"prompt": "a", "mask_format": "x"}, "mask_format is 'x'"),
        ({"prompt": "a", "threshold": "2"}, "threshold is '2': "),
        ({"boxes": "[[1, 2]]"}, "boxes has the form"),
    ):
        refused = ask(**data)
        assert refused.status_code == 422
        assert message in refused.json()["message"]
    assert web.http.post("/v1/images/segmentations", data={"prompt": "a"}).status_code == 422
