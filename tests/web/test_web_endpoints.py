"""What all routes of clients share: tokens, leaving, documentation, examples."""

from __future__ import annotations

import asyncio
import base64
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import replicate
import uvicorn
from fastapi import FastAPI
from replicate.exceptions import ReplicateError

from sam3_image.errors import UserError
from sam3_image.web import WebSettings, create_app
from sam3_image.web.app import OPEN_PATHS
from sam3_image.web.clients import CLIENTS
from sam3_image.web.problems import add_handlers
from sam3_image.web.routes import Body, client_router
from sam3_image.web.store import Admission
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.roboflow_sdk import VENV, Sdk, SdkError, SdkProcess
from tests.helpers.web_server import WebServer

TOKEN = "correct horse battery staple"
SHAPES = REPOSITORY / "examples" / "shapes.png"
CIRCLE = {"type": "text", "text": "red circle"}
EXAMPLES = REPOSITORY / "examples" / "clients"
ROUTES = [
    (method.upper(), path)
    for path, operations in create_app(None, WebSettings(groups=tuple(CLIENTS)))
    .openapi()["paths"]
    .items()
    for method in operations
    if path not in OPEN_PATHS
]


@pytest.fixture(scope="module")
def guarded(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A server with a token, and a limit for uploads that shapes.png just keeps."""
    environment = {
        "SAM3_WEIGHTS": str(weights),
        "SAM3_TOKEN": TOKEN,
        "SAM3_WEB_MAX_UPLOAD": "400000",
    }
    with WebServer(tmp_path_factory.mktemp("guarded"), environment) as running:
        yield running.ready()


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_the_token(guarded: WebServer, method: str, path: str) -> None:
    path = path.replace("{", "").replace("}", "")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Token": "wrong"}):
        answer = guarded.http.request(method, path, headers=headers, json={})
        assert answer.status_code == 401
        assert "asks for a token" in answer.json()["message"]
    answer = guarded.http.request(
        method, path, headers={"Authorization": f"Bearer {TOKEN}"}, json={}
    )
    assert answer.status_code != 401


@pytest.mark.parametrize("transport", ["legacy", "header", "both"])
def test_the_token_wherever_roboflows_sdk_puts_it(
    guarded: WebServer, roboflow: SdkProcess, transport: str
) -> None:
    sdk = Sdk(roboflow, guarded.url, TOKEN, transport)
    answer = sdk.call("sam3_concept_segment", SHAPES, prompts=[CIRCLE])
    assert len(answer["prompt_results"][0]["predictions"]) == 3


def test_the_token_in_a_query_a_header_or_basic_credentials(guarded: WebServer) -> None:
    for request in (
        {"params": {"api_key": TOKEN}},
        {"headers": {"Token": TOKEN}},
        {"headers": {"Authorization": f"Token {TOKEN}"}},
        {"auth": ("anybody", TOKEN)},
    ):
        assert guarded.http.get("/v1/models", **request).status_code == 200  # type: ignore[arg-type]
    assert guarded.http.get("/v1/models", auth=("anybody", "wrong")).status_code == 401
    assert guarded.http.get("/v1/models", headers={"Authorization": "Basic %"}).status_code == 401


def test_what_a_person_reads_without_a_token_or_over_the_limit(
    guarded: WebServer, roboflow: SdkProcess, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(SHAPES.read_bytes() + bytes(400_000))
    sdk = Sdk(roboflow, guarded.url, "wrong")
    with pytest.raises(SdkError, match="asks for a token"):
        sdk.call("sam3_concept_segment", SHAPES, prompts=[CIRCLE])
    sdk = Sdk(roboflow, guarded.url, TOKEN)
    with pytest.raises(
        SdkError, match=r"larger than the 400,000 bytes|Error with server connection"
    ):
        sdk.call("sam3_concept_segment", large, prompts=[CIRCLE])
    client = replicate.Client(base_url=guarded.url, api_token="wrong")
    with pytest.raises(ReplicateError, match="asks for a token"):
        client.run("a/b:c", input={"image": SHAPES, "prompt": "red circle"})
    client = replicate.Client(base_url=guarded.url, api_token=TOKEN)
    assert client.run("a/b:c", input={"image": SHAPES, "prompt": "red circle"}).read()


class Question(Body):
    """Nothing."""


def test_a_client_that_leaves_ends_its_work() -> None:
    states: list[str] = []

    router = client_router("slow")

    @router.post("/slow")
    async def slow(_: Question) -> None:
        states.append("begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            states.append("canceled")
            raise

    app = FastAPI()
    app.include_router(router)
    app.state.server = SimpleNamespace(admission=Admission(1))
    add_handlers(app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        client = socket.create_connection(listening.getsockname())
        client.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        wait_until(lambda: "begun" in states)
        client.close()
        wait_until(lambda: "canceled" in states)
        again = http.client.HTTPConnection(*listening.getsockname())
        again.request("POST", "/slow", b"{")  # its place is free: this one is refused for itself
        assert again.getresponse().status == 422
        again.close()
        server.should_exit = True
        thread.join(20)
    assert states == ["begun", "canceled"]


def wait_until(holds: Any) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_openapi_document_describes_every_route(web: WebServer) -> None:
    served = web.http.get("/openapi.json").json()
    assert served["openapi"].startswith("3.1")
    described = {
        (method.upper(), path)
        for path, operations in served["paths"].items()
        for method in operations
    }
    assert described > {("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/api/segment")}
    assert described > set(ROUTES)
    schemas = served["components"]["schemas"]
    for reference in references(served):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    for operations in served["paths"].values():
        assert all(operation["summary"] for operation in operations.values())
    concept = served["paths"]["/sam3/concept_segment"]["post"]
    body = concept["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    properties = schemas[body.rpartition("/")[2]]["properties"]
    assert properties["output_prob_thresh"]["maximum"] == 1
    assert properties["prompts"]["maxItems"] == 16


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_nothing_is_served_that_loads_from_other_sites(web: WebServer) -> None:
    for path in ("/docs", "/redoc"):
        assert web.http.get(path).status_code == 404


def test_groups_of_routes_can_be_switched_off() -> None:
    def paths(*groups: str) -> set[str]:
        return set(create_app(None, WebSettings(groups=groups)).openapi()["paths"])

    always = paths("page")
    assert always == {"/healthz", "/readyz", "/metrics"}
    oxen = paths("page", "oxen") - always
    assert "/api/ai/images/edit" in oxen
    assert all(path.startswith("/api/ai/") for path in oxen)
    with pytest.raises(UserError, match="SAM3_WEB_ROUTES names 'x'; the groups of routes are"):
        paths("x")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("roboflow_sdk.py", ["red circle: 3 found", "square: ", "as supervision.Detections: "]),
        ("replicate_run.py", ["mask_000.png", "mask_002.png", "overlay.png"]),
        ("prodia_job.py", ["/v2/job: ", "mask_002.png"]),
        ("oxen_edit.py", ["edited: ", "queued: succeeded"]),
        ("openai_segment.py", ["score 1.00, mask L (800, 600)"]),
        ("label_studio_backend.py", ["health: UP", "batch: ['red circle']", "click: ['star']"]),
        ("x_anylabeling_predict.py", ["red circle: ", "star: ", "AUTOLABEL_OBJECT: "]),
    ],
)
def test_examples(guarded: WebServer, script: str, said: list[str]) -> None:
    python = VENV / "bin" / "python" if script == "roboflow_sdk.py" else sys.executable
    done = subprocess.run(
        [python, EXAMPLES / script, guarded.url],
        cwd=REPOSITORY,
        env={**os.environ, "SAM3_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout


def test_the_function_for_cvat(guarded: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.spec_from_file_location("cvat_function", EXAMPLES / "cvat" / "main.py")
    assert found
    assert found.loader
    function = importlib.util.module_from_spec(found)
    found.loader.exec_module(function)
    context = SimpleNamespace(Response=lambda **answer: answer)
    image = base64.b64encode(SHAPES.read_bytes()).decode()
    monkeypatch.setenv("SAM3_SERVER", guarded.url)
    monkeypatch.setenv("SAM3_TOKEN", TOKEN)
    monkeypatch.setenv("SAM3_LABELS", '["red circle", "star"]')
    monkeypatch.setenv("SAM3_ROUTE", "detector")
    answer = function.handler(context, SimpleNamespace(body={"image": image}))
    assert answer["status_code"] == 200
    assert {one["label"] for one in json.loads(answer["body"])} == {"red circle", "star"}
    monkeypatch.setenv("SAM3_ROUTE", "interactor")
    clicks = json.dumps({"image": image, "pos_points": [[500, 300]], "neg_points": []})
    answer = function.handler(context, SimpleNamespace(body=clicks.encode()))
    assert json.loads(answer["body"])["mask"][300][500] == 1
    monkeypatch.setenv("SAM3_TOKEN", "wrong")
    answer = function.handler(context, SimpleNamespace(body=clicks.encode()))
    assert answer["status_code"] == 401
    assert "asks for a token" in answer["body"]
