"""A Label Studio backend by its contract; tools/label_studio.py runs the real one."""

from __future__ import annotations

import base64
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from sam3_image.errors import InputError
from sam3_image.web.clients.label_config import LabelConfig
from tests.helpers.client_scenes import Scene, picked
from tests.helpers.cog_server import REPOSITORY, data_url, png
from tests.helpers.drawn_instances import filled
from tests.helpers.web_server import WebServer
from tests.web.test_web_masks import read_brush

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = (REPOSITORY / "examples" / "shapes.png").read_bytes()
HERE = "/label-studio"


def config(tag: str = "BrushLabels", *labels: str) -> str:
    values = "".join(f'<Label value="{label}"/>' for label in labels or ("red circle", "star"))
    return (
        '<View><Image name="image" value="$image"/>'
        f'<{tag} name="tag" toName="image">{values}</{tag}>'
        f'<KeyPointLabels name="point" toName="image" smart="true">{values}</KeyPointLabels></View>'
    )


def ask(
    web: WebServer,
    *images: str,
    label_config: str | None = None,
    regions: list[dict[str, Any]] | None = None,
) -> httpx.Response:
    tasks = [{"id": n, "data": {"image": image}} for n, image in enumerate(images)]
    context = None if regions is None else {"result": regions}
    body = {
        "tasks": tasks,
        "project": "1.1700000000",
        "label_config": label_config or config(),
        "params": {"login": None, "password": None, "context": context},
    }
    return web.http.post(f"{HERE}/predict", json=body)


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def brush_mask(region: dict[str, Any]) -> np.ndarray:
    height, width = region["original_height"], region["original_width"]
    return read_brush(region["value"]["rle"]).reshape(height, width, 4)[:, :, 3] > 127


def point(x: float, y: float, positive: bool = True) -> dict[str, Any]:
    value = {"x": x / 8, "y": y / 6, "width": 0.3, "keypointlabels": ["star"]}
    return {"type": "keypointlabels", "is_positive": positive, "value": value}


def test_20_scenes_as_brushes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        answer = ask(web, data_url(scene.image), label_config=config("BrushLabels", *scene.names))
        (prediction,) = results(answer)
        got: dict[str, list[np.ndarray]] = {name: [] for name in scene.names}
        for region in prediction["result"]:
            assert region["type"] == "brushlabels"
            assert (region["from_name"], region["to_name"]) == ("tag", "image")
            assert (region["original_height"], region["original_width"]) == scene.size
            (label,) = region["value"]["brushlabels"]
            got[label].append(brush_mask(region))
        for index, name in enumerate(scene.names):
            wanted = [scene.mask(index, n) for n in range(len(scene.found[index]))]
            assert len(got[name]) == len(wanted)
            assert all(np.array_equal(a, b) for a, b in zip(got[name], wanted, strict=True))


def test_polygons_are_percent_and_closed(web: WebServer) -> None:
    brushes = results(ask(web, data_url(SHAPES)))[0]["result"]
    polygons = results(ask(web, data_url(SHAPES), label_config=config("PolygonLabels")))[0]
    assert len(polygons["result"]) == len(brushes)
    for region, brush in zip(polygons["result"], brushes, strict=True):
        assert region["type"] == "polygonlabels"
        assert region["value"]["closed"] is True
        assert region["value"]["polygonlabels"] == brush["value"]["brushlabels"]
        points = np.array(region["value"]["points"])
        assert points.min() >= 0
        assert points.max() <= 100
        assert np.array_equal(filled([points * [8, 6]], (600, 800)), brush_mask(brush))


def test_projects_with_rectangles_or_keypoints_alone(web: WebServer) -> None:
    brushes = results(ask(web, data_url(SHAPES)))[0]["result"]

    def only(tag: str) -> list[dict[str, Any]]:
        labels = '<Label value="red circle"/><Label value="star"/>'
        view = f'<View><Image name="i" value="$image"/><{tag} name="t" toName="i">{labels}</{tag}>'
        found = results(ask(web, data_url(SHAPES), label_config=f"{view}</View>"))[0]["result"]
        assert [region["type"] for region in found] == [tag.lower()] * len(brushes)
        return [region["value"] for region in found]

    rectangles, keypoints = only("RectangleLabels"), only("KeyPointLabels")
    for brush, rectangle, keypoint in zip(brushes, rectangles, keypoints, strict=True):
        mask = brush_mask(brush)
        rows, columns = np.nonzero(mask)
        assert rectangle["rectanglelabels"] == brush["value"]["brushlabels"]
        box = [rectangle["x"] * 8, rectangle["y"] * 6]
        box += [rectangle["width"] * 8, rectangle["height"] * 6]
        spans = [columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
        assert box == pytest.approx([columns.min(), rows.min(), *spans])
        assert mask[int(keypoint["y"] * 6), int(keypoint["x"] * 8)]


def test_a_label_that_the_model_cannot_read_is_skipped_and_named(web: WebServer) -> None:
    long = "word " * 60
    answer = ask(web, data_url(SHAPES), label_config=config("BrushLabels", long, "red circle"))
    labels = [region["value"]["brushlabels"] for region in results(answer)[0]["result"]]
    assert labels == [["red circle"]] * 3
    assert json.loads(answer.headers["x-sam3-skipped-labels"]) == [long]
    alone = ask(web, data_url(SHAPES), label_config=config("BrushLabels", long))
    assert alone.status_code == 422
    assert "tokens" in alone.json()["message"]
    image = base64.b64encode(SHAPES).decode()
    labels = [f"label {n}" for n in range(16)] + [long, "red circle"]
    answer = web.http.post("/cvat/detector", json={"image": image, "labels": labels})
    assert [one["label"] for one in answer.json() if one["label"] == "red circle"]
    assert json.loads(answer.headers["x-sam3-skipped-labels"]) == [long]


def test_score_is_a_number_or_absent(web: WebServer) -> None:
    found, nothing = results(
        ask(web, data_url(SHAPES), data_url(SHAPES), label_config=config("BrushLabels", "star"))
    )
    assert found == {**nothing, "result": found["result"]}
    assert 0 < found["score"] <= 1
    (nothing,) = results(ask(web, data_url(png(np.full((300, 400, 3), 128, dtype=np.uint8)))))
    assert nothing["result"] == []
    assert nothing.get("score") is None


def test_more_labels_than_one_request_takes(web: WebServer) -> None:
    labels = [f"label {n}" for n in range(16)] + ["red circle"]
    (prediction,) = results(ask(web, data_url(SHAPES), label_config=config("BrushLabels", *labels)))
    circles = [r for r in prediction["result"] if r["value"]["brushlabels"] == ["red circle"]]
    assert len(circles) == 3


def test_points_and_boxes_pick_one_object_with_its_label(web: WebServer) -> None:
    (prediction,) = results(ask(web, data_url(SHAPES), regions=[point(500, 300)]))
    (region,) = prediction["result"]
    assert region["value"]["brushlabels"] == ["star"]
    assert brush_mask(region)[300, 500]
    both = [point(100, 450), point(100, 500, positive=False)]
    (region,) = results(ask(web, data_url(SHAPES), regions=both))[0]["result"]
    wanted = picked(web, SHAPES, points=[[100, 450], [100, 500]], point_labels=[1, 0])
    assert np.array_equal(brush_mask(region), wanted)
    value = {"x": 652 / 8, "y": 252 / 6, "width": 12, "height": 16, "rotation": 0}
    box = {"type": "rectanglelabels", "value": {**value, "rectanglelabels": ["red circle"]}}
    (region,) = results(ask(web, data_url(SHAPES), regions=[box]))[0]["result"]
    assert region["value"]["brushlabels"] == ["red circle"]
    assert np.array_equal(brush_mask(region), picked(web, SHAPES, boxes=[[652, 252, 748, 348]]))


def test_health_setup_versions_and_webhook(web: WebServer) -> None:
    assert web.http.get(f"{HERE}/health").json()["status"] == "UP"
    body = {"project": "1.1", "schema": "<View/>", "hostname": "http://x", "access_token": "t"}
    setup = web.http.post(f"{HERE}/setup", json=body)
    assert setup.json() == {"model_version": "sam3-image"}
    assert web.http.get(f"{HERE}/versions").json() == {"versions": ["sam3-image"]}
    assert web.http.post(f"{HERE}/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200


@pytest.mark.parametrize(
    ("image", "options", "status", "message"),
    [
        ("/data/upload/1/x.png", {}, 422, "set SAM3_LABEL_STUDIO_URL"),
        ("s3://bucket/x.png", {}, 422, "is 's3://bucket/x.png', a file of Label Studio; set SAM3_"),
        ("http://127.0.0.1:8080/x.png", {}, 400, "not an address of the public internet"),
        ("data:image/png;base64,eA==", {}, 400, "accepted are JPEG"),
        ("", {"label_config": "<View>"}, 422, "which is not XML"),
        ("", {"label_config": config("Choices")}, 422, "has none of BrushLabels, PolygonLabels"),
        ("", {"label_config": '<!DOCTYPE x [<!ENTITY a "b">]><x/>'}, 422, "declares entities"),
    ],
)
def test_refusals(
    web: WebServer, image: str, options: dict[str, str], status: int, message: str
) -> None:
    answer = ask(web, image, **options)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert message in answer.json()["message"]
    outside = ask(web, data_url(SHAPES), regions=[point(900, 300)])
    assert outside.status_code == 422
    assert "outside the image of 800×600" in outside.json()["message"]
    ellipse = {"type": "ellipselabels", "value": {"radiusX": 1}}
    assert (
        "only keypoints and rectangles"
        in ask(web, data_url(SHAPES), regions=[ellipse]).json()["message"]
    )


def test_one_broken_image_does_not_cost_the_others(web: WebServer) -> None:
    """To one result for several tasks Label Studio replies by asking for them one by one."""
    answer = ask(web, "data:,x", data_url(SHAPES), data_url(SHAPES))
    assert len(results(answer)) == 1
    assert ask(web, "data:,x", "data:,x").status_code == 400


@pytest.fixture
def studio() -> Iterator[tuple[str, queue.Queue[tuple[str, str]]]]:
    """What this server needs of Label Studio: tokens and files. Remembers who asked for what."""
    asked: queue.Queue[tuple[str, str]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.put((self.path, self.headers.get("Authorization", "")))
            self.answer(SHAPES)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.put((self.path, body["refresh"]))
            self.answer(json.dumps({"access": "short-lived"}).encode())

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()


def test_files_come_with_the_operators_token_and_nobody_else_gets_it(
    weights: Path, tmp_path: Path, studio: tuple[str, queue.Queue[tuple[str, str]]]
) -> None:
    address, asked = studio
    environment = {
        "SAM3_WEIGHTS": str(weights),
        "SAM3_FETCH_URLS": "off",
        "SAM3_LABEL_STUDIO_URL": address,
        "SAM3_LABEL_STUDIO_TOKEN": "a.refresh.token",
        "SAM3_TOKEN": "secret",
    }
    with WebServer(tmp_path, environment) as own:
        own.ready()
        assert ask(own, "/data/upload/1/x.png").status_code == 401
        basic = base64.b64encode(b"anybody:secret").decode()
        own.http.headers["Authorization"] = f"Basic {basic}"
        assert len(results(ask(own, "/data/upload/1/x.png"))[0]["result"]) > 0
        assert len(results(ask(own, f"{address}/data/upload/1/y.png"))[0]["result"]) > 0
        for image in ("http://127.0.0.1:1/z.png", address + "@127.0.0.1/x", address + "9/x.png"):
            assert ask(own, image).status_code == 400
        for image in ("s3://bucket/a ñ.png", "gs://b/x", "azure-blob://b/x"):
            assert len(results(ask(own, image))[0]["result"]) > 0
        assert "a.refresh.token" not in own.log()
    got = [asked.get_nowait() for _ in range(10)]
    assert asked.empty()
    uri = base64.b64encode("s3://bucket/a ñ.png".encode()).decode()
    assert got[5] == (f"/tasks/0/resolve/?fileuri={quote(uri)}", "Bearer short-lived")
    got = got[:4]
    assert got == [
        ("/api/token/refresh/", "a.refresh.token"),
        ("/data/upload/1/x.png", "Bearer short-lived"),
        ("/api/token/refresh/", "a.refresh.token"),
        ("/data/upload/1/y.png", "Bearer short-lived"),
    ]


def test_the_brush_is_preferred_and_comments_are_no_entities() -> None:
    both = (
        '<View><!-- a comment --><Image name="image" value="$picture"/>'
        '<PolygonLabels name="p" toName="image"><Label value="a"/></PolygonLabels>'
        '<BrushLabels name="b" toName="image"><Label value="a"/></BrushLabels></View>'
    )
    parsed = LabelConfig.parse(both)
    assert (parsed.output.name, parsed.image_key) == ("b", "picture")
    with pytest.raises(InputError, match="has none of"):
        LabelConfig.parse(both.replace('toName="image"', 'toName="other"'))
