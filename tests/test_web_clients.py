"""Prodia, Oxen, OpenAI-style segmentation, CVAT and X-AnyLabeling, by the contracts they have."""

from __future__ import annotations

import base64
import email
import email.message
import io
import json
import time
from typing import Any

import cv2
import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.client_scenes import Scene, picked
from tests.cog_server import REPOSITORY, data_url, pixels
from tests.drawn_instances import filled
from tests.web_server import WebServer

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = (REPOSITORY / "examples" / "shapes.png").read_bytes()
CIRCLE = "red circle"

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


def small(width: int, height: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, form)
    return buffer.getvalue()


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


def test_oxen_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        body = {"input_image": data_url(scene.image), "prompt": scene.names[0]}
        body["response_format"] = "b64_json"
        answer = web.http.post("/api/ai/images/edit", json=body)
        assert answer.status_code == 200, answer.text
        content = base64.b64decode(answer.json()["images"][0]["b64_json"])
        assert content == scene.files()["cutout.png"]


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


def test_cvat_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        body = {"image": base64.b64encode(scene.image).decode(), "labels": list(scene.names)}
        answer = web.http.post("/cvat/detector", json=body)
        assert answer.status_code == 200, answer.text
        got: dict[str, list[np.ndarray]] = {name: [] for name in scene.names}
        for annotation in answer.json():
            assert annotation["type"] == "mask"
            got[annotation["label"]].append(uncropped(annotation["mask"], scene.size))
            assert len(annotation["points"]) >= 6
        for index, name in enumerate(scene.names):
            wanted = [scene.mask(index, n) for n in range(len(scene.found[index]))]
            assert len(got[name]) == len(wanted)
            assert all(np.array_equal(a, b) for a, b in zip(got[name], wanted, strict=True))


def uncropped(flat: list[int], size: tuple[int, int]) -> np.ndarray:
    """CVAT's mask: 0 and 1 row by row in the box whose corners, both inside, come last."""
    *values, left, top, right, bottom = flat
    mask = np.zeros(size, dtype=bool)
    crop = np.array(values, dtype=bool).reshape(bottom - top + 1, right - left + 1)
    mask[top : bottom + 1, left : right + 1] = crop
    assert crop[0].any()
    assert crop[:, -1].any()
    return mask


def test_cvat_interactor(web: WebServer) -> None:
    body = {
        "image": base64.b64encode(SHAPES).decode(),
        "pos_points": [[100, 450]],
        "neg_points": [[100, 500]],
        "obj_bbox": [[43, 443], [157, 557]],
    }
    answer = web.http.post("/cvat/interactor", json=body).json()
    mask = np.array(answer["mask"], dtype=bool)
    wanted = picked(
        web,
        SHAPES,
        points=[[100, 450], [100, 500]],
        point_labels=[1, 0],
        boxes=[[43, 443, 157, 557]],
    )
    assert np.array_equal(mask, wanted)
    (shape,) = answer["shapes"]
    *runs, left, top, right, bottom = shape["points"]
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    crop = values.reshape(bottom - top + 1, right - left + 1).astype(bool)
    assert np.array_equal(mask[top : bottom + 1, left : right + 1], crop)
    assert crop.sum() == mask.sum()
    for change, message in (
        ({"pos_points": [], "neg_points": [], "obj_bbox": None}, "needs points, boxes, or both"),
        ({"obj_bbox": [[1, 2]]}, "obj_bbox has another form"),
        ({"pos_points": [[900, 300]]}, "outside the image of 800×600"),
        ({"image": "x.png"}, "which is not base64"),
    ):
        refused = web.http.post("/cvat/interactor", json={**body, **change})
        assert refused.status_code in (400, 422)
        assert message in refused.json()["message"]


def test_x_anylabeling_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        params = {"text_prompt": ", ".join(scene.names), "conf_threshold": 0.5}
        shapes = predict(web, params, scene.image)
        for index, name in enumerate(scene.names):
            named = [shape for shape in shapes if shape["label"] == name]
            wanted = [scene.mask(index, n) for n in range(len(scene.found[index]))]
            union = np.zeros(scene.size, dtype=bool)
            for shape in named:
                assert shape["shape_type"] == "polygon"
                assert shape["points"][0] == shape["points"][-1]
                union |= filled([shape["points"][:-1]], scene.size)
            exact = np.zeros(scene.size, dtype=bool)
            for mask in wanted:
                exact |= without_holes(mask)
            assert np.array_equal(union, exact)


def without_holes(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.fillPoly(np.zeros(mask.shape, np.uint8), contours, 1).astype(bool)


def predict(web: WebServer, params: dict[str, Any], image: bytes = SHAPES) -> list[dict[str, Any]]:
    body = {"model": "segment_anything_3", "image": data_url(image), "params": params}
    answer = web.http.post("/v1/predict", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    assert answer.json()["data"]["description"] == ""
    assert answer.json()["data"]["replace"] is None
    return answer.json()["data"]["shapes"]


def test_x_anylabeling_models_marks_and_refusals(web: WebServer) -> None:
    (model,) = web.http.get("/v1/models").json()["data"].values()
    assert model["batch_processing_mode"] == "text_prompt"
    assert {"name": "edit_conf", "value": 0.5} in model["widgets"]
    (picked,) = predict(web, {"marks": [{"type": "point", "data": [500, 300], "label": 1}]})
    assert picked["label"] == "AUTOLABEL_OBJECT"
    rectangle = {"type": "rectangle", "data": [43, 43, 157, 157], "label": 1}
    exemplars = predict(web, {"marks": [rectangle], "conf_threshold": 0.5})
    assert len(exemplars) > 1
    words = {"text_prompt": "red circle. star", "conf_threshold": 0.5}
    assert {shape["label"] for shape in predict(web, words)} == {"red circle", "star"}
    only = predict(web, {**words, "filter_classes": ["star"]})
    assert {shape["label"] for shape in only} == {"star"}
    point = {"type": "point", "data": [5, 5], "label": 1}
    for params, message in (
        ({}, "nothing to look for"),
        ({"text_prompt": " , . "}, "nothing to look for"),
        ({"text_prompt": "a", "marks": [point]}, "text and points were both given"),
        ({"text_prompt": "a", "conf_threshold": 2}, "params.conf_threshold is 2: "),
    ):
        answer = web.http.post("/v1/predict", json={"image": data_url(SHAPES), "params": params})
        assert answer.status_code == 422
        assert message in answer.json()["message"]


def wait_for(ask: Any, *while_it_is: str) -> str:
    """The first other answer of `ask`."""
    end = time.monotonic() + 60
    while (answer := ask()) in while_it_is:
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer
