"""Two replicas behind one address; the whole of it with its figures: `tools/fleet_figures.py`."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.cog_server import REPOSITORY
from tests.helpers.web_tools import SHAPES

pytest.importorskip("grpc", reason="Ray Serve is not installed (requirements-fleet.txt)")

from sam3_image.fleet.routing import Route, route_of
from sam3_image.web import ROUTING_KEY, image_id
from sam3_image.web.store import new_id

KEY = image_id(SHAPES)
BASE64 = base64.b64encode(SHAPES).decode()
OTHER = image_id(b"another image")
BOUNDARY = "7f3a"


def route(address: str, body: bytes = b"", method: str = "POST", content_type: str = "") -> Route:
    headers = [(b"content-type", content_type.encode())]
    path, _, query = address.partition("?")
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    scope["query_string"] = query.encode()
    return asyncio.run(route_of(scope, path, body))


def form(name: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'
    return head.encode() + SHAPES + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sam3/concept_segment", {"image": {"type": "base64", "value": BASE64}}),
        ("/sam3/concept_segment", {"image": [{"type": "base64", "value": BASE64}]}),
        ("/sam3/concept_segment", {"image_id": KEY}),
        ("/v1/predict", {"image": f"data:image/png;base64,{BASE64}"}),
        ("/cvat/detector", {"image": BASE64, "labels": ["star"]}),
        ("/api/ai/images/edit", {"input_image": [f"data:image/png;base64,{BASE64}"]}),
        ("/v1/predictions", {"input": {"image": f"data:image/png;base64,{BASE64}"}}),
        ("/v1/predictions", {"input": {"image": f"https://x.example/v1/files/abc{KEY}"}}),
        ("/api/segment", {"picture": KEY, "inputs": {}}),
    ],
)
def test_one_image_has_one_key_however_it_is_sent(path: str, body: dict[str, Any]) -> None:
    assert route(path, json.dumps(body).encode()).key == KEY


@pytest.mark.parametrize("name", ["image", "input", "content"])
def test_the_image_of_a_form(name: str) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    assert route("/v1/images/segmentations", form(name), content_type=kind).key == KEY


def test_an_image_that_is_the_body() -> None:
    assert route("/api/pictures", SHAPES).key == KEY
    ranged = route("/api/pictures?value_range=0%2C255", SHAPES)
    assert ranged.key == image_id(SHAPES, "0,255") != KEY


def test_names_and_addresses_have_keys_of_their_own() -> None:
    named = json.dumps({"image_id": "mine", "image": {"value": BASE64}}).encode()
    alone = json.dumps({"image_id": "mine"}).encode()
    assert route("/sam3/embed_image", named).key == route("/sam3/concept_segment", alone).key
    urls = [json.dumps({"image": f"https://x.example/{name}.png"}).encode() for name in "ab"]
    first, second = (route("/v1/predict", body).key for body in urls)
    assert first
    assert first != second
    task = {"tasks": [{"data": {"photo": "s3://bucket/a.png"}}], "label_config": "<View/>"}
    assert route("/label-studio/predict", json.dumps(task).encode()).key


def test_ids_lead_back_to_their_replica() -> None:
    token = ROUTING_KEY.set(KEY)
    id = new_id()
    ROUTING_KEY.reset(token)
    for path in ("v1/predictions", "v1/files", "v2/job/async", "api/ai/queue", "api/ai/results"):
        assert route(f"/{path}/{id}", method="GET").key == KEY
    assert route(f"/api/ai/results/{id}.png", method="GET").key == KEY
    assert route(f"/api/pictures/{KEY}/preview", method="GET").key == KEY
    assert len(new_id()) == 26, "without a fleet they stay as they were"


def test_images_of_two_replicas_in_one_request() -> None:
    inputs = {"reference_image": OTHER, "reference_boxes": [[0, 0, 9, 9]]}
    found = route("/api/segment", json.dumps({"picture": KEY, "inputs": inputs}).encode())
    assert (found.key, found.others) == (KEY, (OTHER,))


@pytest.mark.parametrize(
    ("method", "path", "repeatable"),
    [
        ("GET", "/v1/predictions/x", True),
        ("POST", "/api/segment", True),
        ("POST", "/v2/job", True),
        ("POST", "/v2/job/async", False),
        ("POST", "/v1/predictions", False),
        ("POST", "/v1/models/a/b/predictions", False),
        ("POST", "/v1/files", False),
        ("POST", "/api/ai/queue", False),
    ],
)
def test_what_starts_something_is_not_repeated(method: str, path: str, repeatable: bool) -> None:
    assert route(path, b"{}", method).repeatable is repeatable


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'{"image": 3}', b'{"picture": null}', b"\xff\xfe", b"1" * 5000),
        *(b"[" * 100_000, b'{"image": ' + b"[" * 500 + b"]" * 500 + b"}", b'{"image": "\\ud800"}'),
        *(b'{"image_id": "\\ud800"}', b'{"tasks": [{}]}', b'{"inputs": {"reference_image": 1}}'),
    ],
)
def test_no_body_is_an_error_here(body: bytes) -> None:
    for content_type in ("multipart/form-data; boundary=x", "multipart/form-data", ""):
        route("/api/segment", body, content_type=content_type)


def may_be_alone() -> bool:
    """Whether a network namespace can be had: containers often may not make one, even as root."""
    unshare = shutil.which("unshare")
    return bool(unshare) and subprocess.run([unshare, "--net", "true"], check=False).returncode == 0


# Ray listens on every interface, so it is never started where others could reach it.
@pytest.mark.skipif(not may_be_alone(), reason="no network namespace of its own can be had here")
def test_two_replicas() -> None:
    """Affinity, what is kept, clients that leave, an image that kills; see the tool."""
    assert importlib.util.find_spec("ray.serve")
    done = subprocess.run(
        [sys.executable, "-m", "tools.fleet_figures", "--short"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
