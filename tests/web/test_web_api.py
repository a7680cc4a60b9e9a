"""The routes of the page's server, asked by a program."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers.browser import SHAPES
from tests.helpers.cog_server import REPOSITORY, CogServer
from tests.helpers.web_server import WebServer


@pytest.fixture(scope="module")
def known(web: WebServer) -> str:
    answer = web.http.post("/api/pictures", content=SHAPES.read_bytes())
    assert answer.status_code == 201
    assert (answer.json()["width"], answer.json()["height"]) == (800, 600)
    return str(answer.json()["id"])


def ask(web: WebServer, picture: object, inputs: object) -> httpx.Response:
    return web.http.post("/api/segment", json={"picture": picture, "inputs": inputs})


def test_the_same_content_is_the_same_picture(web: WebServer, known: str) -> None:
    again = web.http.post("/api/pictures", content=SHAPES.read_bytes())
    assert again.json()["id"] == known


def test_a_picture_of_16_bits_is_decoded_as_asked(web: WebServer) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30), 1000, dtype=np.uint16)).save(buffer, "PNG")
    file = buffer.getvalue()
    levels = {}
    for value_range in ("auto", "type", "0,2000"):
        answer = web.http.post("/api/pictures", content=file, params={"value_range": value_range})
        id = answer.json()["id"]
        preview = web.http.get(f"/api/pictures/{id}/preview").content
        levels[id] = int(np.asarray(Image.open(io.BytesIO(preview)))[10, 10, 0])
    assert len(levels) == 3, "one id for each range"
    assert list(levels.values())[1:] == [4, 128]
    # The programs that the page copies send the file with its inputs.
    inputs = {"prompt": "star", "value_range": "0,2000", "return_zip": False, "apply_mask": True}
    for value_range, status in (("0,2000", 200), ("2000,0", 422)):
        form = {"inputs": json.dumps({**inputs, "value_range": value_range})}
        answer = web.http.post("/api/file", data=form, files={"image": ("a.png", file)})
        assert answer.status_code == status
    assert web.http.post("/api/pictures?value_range=2,1", content=file).status_code == 422


def test_it_answers_as_predictions_do(web: WebServer, server: CogServer, known: str) -> None:
    inputs: dict[str, Any] = {"prompts": ["red circle", "star"], "threshold": 0.3}
    answer = ask(web, known, inputs).json()
    result = server.predict(image=SHAPES, return_zip=False, annotation_format="rle", **inputs)
    assert answer["annotations"] == json.loads(result.content)
    rounded = [record["score"] for record in answer["annotations"]["instances"]]
    assert np.allclose(answer["scores"], rounded, atol=1e-6)
    for record in answer["annotations"]["instances"]:
        assert coco_masks.decode(record["rle"]).sum() == record["area"] > 0


def test_a_click_on_a_known_picture_skips_the_encoder(web: WebServer, known: str) -> None:
    ask(web, known, {"task": "visual", "points": [[300, 300]]})
    answer = ask(web, known, {"task": "visual", "points": [[500, 300]]}).json()
    assert answer["metrics"]["encoder_cached"] == 1


@pytest.mark.parametrize(
    ("picture", "inputs", "status", "words"),
    [
        ("0" * 32, {"prompt": "star"}, 410, "send it again"),
        ("../../etc/passwd", {"prompt": "star"}, 410, "send it again"),
        (None, {"prompt": "star"}, 410, "send it again"),
        ("known", None, 422, "inputs is None"),
        ("known", ["star"], 422, "inputs is"),
        ("known", {"promt": "star"}, 422, "did you mean prompt"),
        ("known", {"prompt": "star", "threshold": 2}, 422, "threshold is 2"),
        ("known", {"prompt": "star", "value_range": "0,9"}, 422, "/api/pictures"),
        ("known", {"prompt": "word " * 60}, 422, "tokens"),
        ("known", {"task": "visual", "points": [[900, 1]]}, 422, "900"),
        ("known", {"reference_image": "/etc/passwd", "reference_boxes": [[0, 0, 9, 9]]}, 410, ""),
    ],
)
def test_refusals(
    web: WebServer, known: str, picture: object, inputs: object, status: int, words: str
) -> None:
    answer = ask(web, known if picture == "known" else picture, inputs)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["message"]
    assert str(REPOSITORY) not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_what_it_should_be(web: WebServer, body: bytes) -> None:
    answer = web.http.post("/api/segment", content=body)
    assert answer.status_code == 422
    assert "The body is" in answer.json()["message"]


def test_a_form_without_its_picture(web: WebServer) -> None:
    answer = web.http.post("/api/file", files={"other": b"x"})
    assert answer.status_code == 422
    assert "image is missing" in answer.json()["message"]


def test_an_upload_over_the_limit_however_it_is_sent(web: WebServer) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(70):
            yield b"x" * 1_000_000

    answer = web.http.post("/api/pictures", content=chunks())
    assert answer.status_code == 413
    assert "larger than the 67,108,864 bytes" in answer.json()["message"]


def test_whoever_leaves_early_harms_nobody(web: WebServer, known: str) -> None:
    body = json.dumps({"picture": known, "inputs": {"prompt": "star"}}).encode()
    host, port = web.url.removeprefix("http://").split(":")
    for _ in range(8):
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /api/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
    answer = ask(web, known, {"prompt": "star"})
    assert len(answer.json()["scores"]) == 1
    assert "Traceback" not in web.log()


def test_more_at_one_time_than_may_wait_are_refused(weights: Path, tmp_path: Path) -> None:
    environment = {"SAM3_WEIGHTS": str(weights), "SAM3_WEB_MAX_WAITING": "2"}
    with WebServer(tmp_path / "narrow", environment) as narrow:
        narrow.ready()
        host, port = narrow.url.removeprefix("http://").split(":")
        head = b"POST /api/pictures HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        with (
            socket.create_connection((host, int(port))) as one,
            socket.create_connection((host, int(port))) as other,
        ):
            for connection in (one, other):
                connection.sendall(head)  # and nothing more: both wait for their bodies
            end = time.monotonic() + 20
            while (answer := narrow.http.post("/api/pictures", content=b"x")).status_code != 429:
                assert time.monotonic() < end
            assert "2 requests are waiting" in answer.json()["message"]
            assert narrow.http.get("/api/about").status_code == 200
        end = time.monotonic() + 20
        while (status := narrow.http.post("/api/pictures", content=b"x").status_code) == 429:
            assert time.monotonic() < end
        assert status == 422  # their places are free: this one is refused for itself


KEPT_INPUTS = [
    {},
    {"return_zip": False, "annotation_format": "coco"},
    {"return_zip": False, "annotation_format": "rle"},
    {"return_zip": False, "mask_color": "distinct", "show_labels": True},
]


@pytest.mark.parametrize("output", KEPT_INPUTS)
def test_a_file_of_what_was_answered_equals_the_models(
    web: WebServer, known: str, output: dict[str, Any]
) -> None:
    asked = {"prompts": ["star", "red circle"], "threshold": 0.3}
    answer = ask(web, known, asked).json()
    kept = [
        {**record, "score": score}
        for record, score in zip(answer["annotations"]["instances"], answer["scores"], strict=True)
    ]
    body = {"picture": known, "instances": kept, "concepts": asked["prompts"], "inputs": output}
    written = web.http.post("/api/file", json=body)
    assert written.status_code == 200, written.text
    expected = web.http.post("/api/file", json={"picture": known, "inputs": {**asked, **output}})
    assert written.content == expected.content
    assert written.headers["content-disposition"] == expected.headers["content-disposition"]


def test_a_file_holds_what_was_kept_under_its_new_name(web: WebServer, known: str) -> None:
    answer = ask(web, known, {"prompts": ["red circle"]}).json()
    kept = [{**record, "concept": "ball"} for record in answer["annotations"]["instances"][1:]]
    output = {"return_zip": False, "annotation_format": "coco"}
    body = {"picture": known, "instances": kept, "concepts": ["cube", "ball"], "inputs": output}
    coco = web.http.post("/api/file", json=body).json()
    assert coco["categories"] == [{"id": 2, "name": "ball", "supercategory": ""}]
    segmentations = [record["segmentation"] for record in coco["annotations"]]
    assert segmentations == [record["rle"] for record in kept]
    nothing = web.http.post("/api/file", json={**body, "instances": []}).json()
    assert nothing["annotations"] == []


GOOD = {"concept": "star", "score": 0.5, "rle": {"counts": "PPYV1"}}


@pytest.mark.parametrize(
    ("instances", "words"),
    [
        ("all", "instances is 'all'; send a list"),
        ([7], "instances[0] is 7; send an object"),
        ([{**GOOD, "rle": {"counts": 7}}], "instances[0].rle is {'counts': 7}; send an object"),
        ([{**GOOD, "rle": {"counts": "1"}}], "The run lengths '1' do not fill an image of 800×600"),
        ([{**GOOD, "rle": {"counts": "\ud800"}}], "half of a surrogate pair"),
        ([{**GOOD, "rle": {"counts": "oooooooooooooo1"}}], "do not fill an image"),
        ([{**GOOD, "score": 1.5}], "instances[0].score is 1.5; send a number from 0 to 1"),
        ([{**GOOD, "score": 10**400}], "which is out of range"),
        ([{**GOOD, "concept": ""}], "instances[0].concept is ''; send a text"),
        ([{**GOOD, "concept": "\ud800"}], "half of a surrogate pair"),
        ([{**GOOD, "box": [1, 2]}], "instances[0].box is [1, 2]; send [x0, y0, x1, y1]"),
    ],
)
def test_instances_that_are_refused(
    web: WebServer, known: str, instances: object, words: str
) -> None:
    body = {"picture": known, "instances": instances, "inputs": {}}
    answer = web.http.post(
        "/api/file", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert words in answer.json()["message"]


def test_what_the_page_may_offer_is_what_the_inputs_have(web: WebServer) -> None:
    about = web.http.get("/api/about").json()
    assert {"concept", "visual"} <= set(about["tasks"])
    assert {"coco", "rle", "polygon"} <= set(about["formats"])
    assert "none" not in about["formats"]


def test_a_click_goes_on_from_the_answer_before_it(web: WebServer, known: str) -> None:
    points = [[500, 300], [520, 310]]

    def scores(count: int, clicks_on: bool) -> list[float]:
        inputs = {"task": "visual", "points": points[:count]}
        body = {"picture": known, "inputs": inputs, "clicks_on": clicks_on}
        answer = web.http.post("/api/segment", json=body)
        assert answer.status_code == 200, answer.text
        found: list[float] = answer.json()["scores"]
        return found

    plain = scores(2, clicks_on=False)
    scores(1, clicks_on=True)
    assert scores(2, clicks_on=True) != plain
    assert scores(2, clicks_on=False) == plain


def test_run_lengths_correct_an_instance_and_no_other_image(web: WebServer, known: str) -> None:
    found = ask(web, known, {"prompts": ["star"]}).json()
    (instance,) = found["annotations"]["instances"]
    inputs = {"task": "visual", "points": [[500, 300]], "mask_image": instance["rle"]}
    assert len(ask(web, known, inputs).json()["scores"]) == 1
    other = {**inputs, "mask_image": {"size": [3, 3], "counts": "09"}}
    refused = ask(web, known, other)
    assert refused.status_code == 422
    assert "send a mask of this image" in refused.text


def test_everything_is_offered_and_answered(web: WebServer, known: str) -> None:
    about = web.http.get("/api/about").json()
    assert "everything" in about["tasks"]
    assert about["mask_prompts"] is True
    answer = ask(web, known, {"task": "everything", "points_per_side": 8})
    assert len(answer.json()["scores"]) >= 4
