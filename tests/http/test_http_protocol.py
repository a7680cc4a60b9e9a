"""Cog's protocol with our predictor behind it: webhooks, ids, cancel, bad input, leftovers."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.cog_server import REPOSITORY, CogServer, Result, data_url, png
from tests.helpers.second_scenes import arranged
from tools.cog_schema.openapi import document
from tools.cog_schema.signature import read_signature

SECONDS = 60
NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
TRUNCATED = png(NOISE)[:20_000]


class Webhooks:
    """A receiver of webhooks on a free port."""

    def __init__(self) -> None:
        self.received: queue.Queue[dict[str, Any]] = queue.Queue()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.put(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, identifier: str, *states: str) -> dict[str, Any]:
        """The next one about that prediction in one of those states."""
        end = time.monotonic() + SECONDS
        while True:
            body = self.received.get(timeout=max(0.1, end - time.monotonic()))
            if body["id"] == identifier and body["status"] in states:
                return body


@pytest.fixture(scope="module")
def webhooks() -> Iterator[Webhooks]:
    receiver = Webhooks()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    """The inputs of a small call that finds something with any weights."""
    picture, _ = arranged(["red circle", "blue square"], (160, 120))
    return {"image": png(picture), "prompt": "red circle", "threshold": 0.0}


@pytest.fixture(scope="module")
def slow() -> dict[str, Any]:
    """The inputs of a call that takes seconds: sixteen concepts on many pixels, all outputs."""
    large = np.repeat(np.repeat(NOISE, 12, axis=0), 12, axis=1)
    return {
        "image": png(large),
        "prompts": [f"circle number {number}" for number in range(16)],
        "threshold": 0.0,
        "save_overlay": True,
        "annotation_format": "polygon",
    }


def test_openapi_is_served(server: CogServer) -> None:
    source = (REPOSITORY / "predict.py").read_text(encoding="utf-8")
    assert server.http.get("/openapi.json").json() == document(read_signature(source))


def test_health_check(server: CogServer) -> None:
    assert server.wait_for("READY", seconds=SECONDS)["setup"]["status"] == "succeeded"


def test_log_and_metrics_say_what_happened(server: CogServer, usual: dict[str, Any]) -> None:
    result = server.predict(**usual)
    count = len(result.masks())
    for part in ("160×120", "'red circle'", "cpu", "float32", f"{count} instance"):
        assert part in result.logs, f"{part} is not in the log: {result.logs}"
    assert result.metrics["instances"] == count
    timing = result.metrics["timing"]
    assert {"decode", "encode", "find", "write", "total"} <= set(timing)
    assert timing["queue"] >= 0
    stages = sum(seconds for stage, seconds in timing.items() if stage != "total")
    assert stages <= timing["total"] + 0.01


def test_put_keeps_the_id(server: CogServer, usual: dict[str, Any]) -> None:
    answer = server.send("PUT", "/predictions/mine-1", usual)
    assert answer.status_code == 200
    assert answer.json()["id"] == "mine-1"
    result = Result.read(answer.status_code, answer.json())
    assert result.content == server.predict(**usual).content


def test_asynchronous_with_webhook(
    server: CogServer, webhooks: Webhooks, usual: dict[str, Any]
) -> None:
    answer = server.send(
        "POST",
        "/predictions",
        usual,
        headers={"Prefer": "respond-async"},
        id="async-1",
        webhook=webhooks.url,
        webhook_events_filter=["completed"],
    )
    assert answer.status_code == 202
    assert answer.json()["id"] == "async-1"
    result = Result.read(200, webhooks.next("async-1", "succeeded", "failed"))
    assert result.status == "succeeded", result.error
    assert result.content == server.predict(**usual).content


def test_cancel_ends_a_prediction_and_the_next_one_works(
    server: CogServer, webhooks: Webhooks, usual: dict[str, Any], slow: dict[str, Any]
) -> None:
    answer = server.send(
        "PUT",
        "/predictions/cancel-1",
        slow,
        headers={"Prefer": "respond-async"},
        webhook=webhooks.url,
        webhook_events_filter=["start", "completed"],
    )
    assert answer.status_code == 202
    server.wait_for_log("circle number 15", seconds=SECONDS)
    assert server.http.post("/predictions/cancel-1/cancel").status_code == 200
    ended = webhooks.next("cancel-1", "succeeded", "failed", "canceled")
    assert ended["status"] == "canceled"
    server.wait_for("READY", seconds=SECONDS)
    assert server.predict(**usual).status == "succeeded"
    assert not leftovers(server)


def test_cancel_of_an_unknown_id_is_not_found(server: CogServer) -> None:
    assert server.http.post("/predictions/nobody/cancel").status_code == 404


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"threshold": 1.5}, ["threshold", "1.5", "maximum"]),
        ({"threshold": -0.1}, ["threshold", "-0.1", "minimum"]),
        ({"mask_opacity": "half"}, ["mask_opacity", "half", "number"]),
        ({"mask_color": "mauve"}, ["mask_color", "mauve", "green", "magenta"]),
        ({"prompt": "x" * 501}, ["prompt", "500"]),
        ({"return_zip": "yes"}, ["return_zip", "yes", "boolean"]),
        ({"image": None}, ["image", "required"]),
    ],
)
def test_what_the_schema_refuses(
    server: CogServer, usual: dict[str, Any], inputs: dict[str, Any], words: list[str]
) -> None:
    result = server.predict(**{**usual, **inputs})
    assert result.http == 422
    assert all(word in result.error for word in words), result.error


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"prompt": ""}, ["prompt"]),
        ({"prompt": " \n\t "}, ["prompt"]),
        ({"prompt": "a b c d e f g h " * 5}, ["32", "token"]),
        ({"image": data_url(b"hello", "image/jpeg")}, ["JPEG", "PNG"]),
        ({"image": data_url(b"", "image/png")}, ["empty"]),
        ({"image": data_url(TRUNCATED)}, ["PNG"]),
        ({"image": "/etc/hostname"}, ["/etc/hostname", "http"]),
        ({"image": "predict.py"}, ["predict.py", "http"]),
        ({"boxes": "[[1, 2, 3]]"}, ["boxes"]),
    ],
)
def test_what_the_predictor_refuses(
    server: CogServer, usual: dict[str, Any], inputs: dict[str, Any], words: list[str]
) -> None:
    result = server.predict(**{**usual, **inputs})
    assert (result.http, result.status) == (200, "failed")
    assert all(word in result.error for word in words), result.error
    assert "\n" not in result.error.strip()
    assert "Traceback" not in result.error
    assert not result.content
    assert server.predict(**usual).status == "succeeded"


def test_not_a_number_is_refused(server: CogServer, usual: dict[str, Any]) -> None:
    """JSON has no NaN, so Cog does not even parse it."""
    body = json.dumps({"input": {"image": data_url(usual["image"]), "threshold": float("nan")}})
    answer = server.http.post(
        "/predictions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


def test_fifty_predictions_leave_nothing_but_the_results_of_a_minute(
    server: CogServer, usual: dict[str, Any]
) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"return_zip": False},
        {"save_overlay": True},
        {"return_zip": False, "mask_only": True},
        {"image": data_url(b"no image")},  # fails, and must leave nothing either
    ]
    statuses = [server.predict(**{**usual, **kinds[turn % 5]}).status for turn in range(50)]
    assert statuses.count("succeeded") == 40
    assert not leftovers(server)


def leftovers(server: CogServer) -> list[Path]:
    """The files in the server's temporary folder, at any depth, but whole results."""
    files = [path for path in server.temporary.rglob("*") if path.is_file()]
    return [path for path in files if not path.parent.name.startswith("result-")]
