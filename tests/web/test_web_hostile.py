"""Callers who mean harm: what they send costs nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import BaseModel

from sam3_image.web.clients import cvat, replicate_hooks
from sam3_image.web.fetch import Fetcher, FetchError
from sam3_image.web.jobs import Jobs, Outcome, WebJob
from tests.helpers.cog_server import data_url
from tests.helpers.drawn_instances import instances_of
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import CIRCLE, SHAPES

TOKEN = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SURROGATE = "\ud800"
GROWTH_BYTES = 150_000_000  # of eight requests that run at one time, beside caches


@pytest.fixture(scope="module")
def own(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A server with a token and four places, which may fetch from this machine."""
    environment = {
        "SAM3_WEIGHTS": str(weights),
        "SAM3_TOKEN": TOKEN,
        "SAM3_WEB_MAX_WAITING": "4",
        "SAM3_FETCH_URLS": "private",
    }
    with WebServer(tmp_path_factory.mktemp("hostile"), environment) as running:
        running.ready()
        running.http.headers.update(BEARER)
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"


def place_of(web: WebServer) -> tuple[str, int]:
    host, port = web.url.removeprefix("http://").split(":")
    return host, int(port)


@contextlib.contextmanager
def half_sent(web: WebServer, path: str, count: int, begin: bytes = b"{") -> Iterator[None]:
    """So many connections without a token that send a head and the beginning of a body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n".encode()
    with contextlib.ExitStack() as open_ones:
        for _ in range(count):
            connection = open_ones.enter_context(socket.create_connection(place_of(web)))
            connection.sendall(head + begin)
        yield


@pytest.mark.parametrize("path", ["/v1/predict", "/sam3/concept_segment", "/api/segment"])
def test_half_bodies_without_a_token_take_no_place(own: WebServer, path: str) -> None:
    with half_sent(own, path, 16, b'{"api_key": "wrong", "image": "' + b"x" * 20_000):
        time.sleep(1)
        for _ in range(3):
            answer = own.http.post("/api/pictures", content=SHAPES)
            assert answer.status_code == 201, answer.text


def test_idle_connections_do_not_use_up_the_open_files(own: WebServer) -> None:
    old = resource.prlimit(own.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(own.process.pid, resource.RLIMIT_NOFILE, (400, old[1]))
    try:
        with contextlib.ExitStack() as idle:
            for number in range(600):
                connection = idle.enter_context(socket.create_connection(place_of(own)))
                connection.sendall(b"GET / HTTP/1.1\r\nHo" if number % 2 else b"")
            own.http.headers["Connection"] = "close"
            assert own.http.get("/api/about").status_code == 200
    finally:
        del own.http.headers["Connection"]
        resource.prlimit(own.process.pid, resource.RLIMIT_NOFILE, old)


IMAGE = data_url(SHAPES)
CASES: list[tuple[str, Any]] = [
    ("/v1/predictions", {"input": {"image": IMAGE, "prompt": SURROGATE}}),
    ("/v1/predictions", {"input": {"image": IMAGE, "prompt": "a"}, "webhook": SURROGATE}),
    ("/v1/predictions", {"input": {"image": IMAGE, "prompt": "a"}, "version": SURROGATE}),
    ("/v1/predictions", {"input": {"image": IMAGE, SURROGATE: "a"}}),
    ("/sam3/concept_segment", {"api_key": SURROGATE}),
    ("/sam3/embed_image", {"image": {"value": IMAGE}, "image_id": SURROGATE}),
    ("/api/segment", {"picture": SURROGATE, "inputs": {SURROGATE: SURROGATE}}),
    ("/api/segment", {SURROGATE: 1, "inputs": {}}),
    ("/api/ai/images/edit", {"input_image": IMAGE, "prompt": SURROGATE}),
    ("/cvat/detector", {"image": IMAGE, "labels": [SURROGATE]}),
    ("/v1/predict", {"image": IMAGE, "params": {"text_prompt": SURROGATE}}),
    ("/label-studio/predict", {"tasks": [{"data": {SURROGATE: 1}}], "label_config": ""}),
]


@pytest.mark.parametrize(("path", "body"), CASES)
def test_half_a_surrogate_pair_is_refused_everywhere(own: WebServer, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    assert b"\\ud800" in content
    answer = own.http.post(path, content=content)
    assert answer.status_code == 422
    assert "half of a surrogate pair" in answer.json()["message"]
    raw = own.http.post(path, content=content.replace(b"\\ud800", b"\xed\xa0\x80"))
    assert raw.status_code == 422
    assert own.http.get("/v1/predictions").status_code == 200
    assert own.http.get("/api/ai/queue").status_code == 200


@pytest.mark.parametrize("key", ["\ud800", "\udfff" * 3, "ü", ""])
def test_a_key_that_is_no_token(own: WebServer, key: str) -> None:
    body = json.dumps({"api_key": key}).encode()
    answer = own.http.post("/sam3/embed_image", content=body, headers={"Authorization": ""})
    assert answer.status_code == 401


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_not_finite_are_refused_everywhere(own: WebServer, number: str) -> None:
    region = f'{{"value": {{"x": {number}, "y": 1}}}}'
    for path, body in (
        ("/label-studio/predict", f'{{"params": {{"context": {{"result": [{region}]}}}}}}'),
        ("/api/segment", f'{{"inputs": {{"threshold": {number}}}}}'),
        ("/v1/predictions", f'{{"input": {{"threshold": {number}}}}}'),
        ("/v1/predict", f'{{"params": {{"conf_threshold": {number}}}}}'),
    ):
        answer = own.http.post(path, content=body.encode())
        assert answer.status_code == 422, path
        assert "out of range; send a finite number" in answer.json()["message"]


def test_what_was_uploaded_is_never_served(own: WebServer) -> None:
    script = b"<script>alert(origin)</script>"
    for media_type in ("text/html", "image/svg+xml", "text/html\x01", "x" * 3000):
        part = {"content": ("page.html", script, media_type)}
        answer = own.http.post("/v1/files", files=part)
        assert answer.status_code in (201, 400, 422), answer.text
        if answer.status_code == 201:
            file_id = answer.json()["id"]
            assert own.http.get(f"/api/ai/results/{file_id}").status_code == 404
            described = own.http.get(f"/v1/files/{file_id}")
            assert described.headers["content-type"] == "application/json"
            assert b"<script>" not in described.content


def test_a_result_is_a_download(own: WebServer) -> None:
    body = {"input_image": IMAGE, "prompt": CIRCLE}
    url = own.http.post("/api/ai/images/edit", json=body).json()["images"][0]["url"]
    made = own.http.get(url)
    assert made.headers["content-type"] == "image/png"
    assert made.headers["content-disposition"] == 'attachment; filename="cutout.png"'
    assert made.headers["x-content-type-options"] == "nosniff"


def test_metadata_of_a_file_is_given_back(own: WebServer) -> None:
    form = {"metadata": '{"about": "shapes", "n": [1, 2.5, null]}'}
    made = own.http.post("/v1/files", files={"content": SHAPES}, data=form).json()
    assert made["metadata"] == json.loads(form["metadata"])
    assert own.http.get(f"/v1/files/{made['id']}").json()["metadata"] == made["metadata"]


def test_an_edit_that_still_runs_has_no_result(own: WebServer, silent: str) -> None:
    body = {"input_image": silent, "prompt": CIRCLE}
    (queued,) = own.http.post("/api/ai/queue", json=body).json()["generations"]
    here = f"/api/ai/queue/{queued['generation_id']}"
    answer = own.http.get(f"{here}/result")
    assert answer.status_code == 409
    assert "The edit has no result: it is processing" in answer.json()["message"]
    assert own.http.delete(here).json()["status"] == "cancelled"


def test_generations_are_taken_together_or_not_at_all(own: WebServer, silent: str) -> None:
    body = {"input_image": silent, "prompt": CIRCLE}
    kept = own.http.post("/api/ai/queue", json={**body, "num_generations": 3}).json()["generations"]
    assert own.http.post("/api/ai/queue", json={**body, "num_generations": 2}).status_code == 429
    listed = own.http.get("/api/ai/queue").json()["generations"]
    running = [one for one in listed if one["status"] == "processing"]
    assert len(running) == 3
    for one in kept:
        own.http.delete(f"/api/ai/queue/{one['generation_id']}")


def test_webhooks_that_nobody_answers_keep_no_image_waiting(own: WebServer, silent: str) -> None:
    """Ten jobs whose webhooks hang; an image by its address is still fetched at once."""
    for _ in range(10):
        body = {"input": {"image": "data:,x"}, "webhook": silent}
        assert own.http.post("/v1/predictions", json=body).status_code in (201, 429)
    with files_of_this_machine() as address:
        begin = time.monotonic()
        body = {"input_image": address, "prompt": CIRCLE}
        answer = own.http.post("/api/ai/images/edit", json=body)
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - begin < 15


@contextlib.contextmanager
def files_of_this_machine(got: queue.Queue[Any] | None = None) -> Iterator[str]:
    """The address of a server that answers every GET with the shapes, and takes every POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(SHAPES)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if got is not None:
                got.put(body)
            self.answer(b"")

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/x.png"
        listening.shutdown()


class Status(BaseModel):
    status: str


class _Deaf(Fetcher):
    """A fetcher whose first posts fail."""

    def __init__(self, failures: int, sent: list[str]) -> None:
        super().__init__()
        object.__setattr__(self, "left", failures)
        object.__setattr__(self, "sent", sent)

    async def post(self, _: str, body: bytes, __: str | None = None) -> bytes:
        await asyncio.sleep(0)
        if self.left:  # type: ignore[attr-defined]
            object.__setattr__(self, "left", self.left - 1)  # type: ignore[attr-defined]
            raise FetchError("refused")
        self.sent.append(json.loads(body)["status"])  # type: ignore[attr-defined]
        return b""


@pytest.mark.parametrize(
    ("failures", "seconds", "wanted"),
    [
        (0, 0.0, ["processing", "succeeded"]),
        (1, 0.0, ["succeeded"]),  # the start could not be posted before the end
        (1, 0.3, ["processing", "succeeded"]),
        (2, 0.0, ["succeeded"]),
    ],
)
def test_a_retried_start_never_comes_after_the_end(
    monkeypatch: pytest.MonkeyPatch, failures: int, seconds: float, wanted: list[str]
) -> None:
    monkeypatch.setattr(replicate_hooks, "PAUSE_SECONDS", 0.05)

    async def work() -> Outcome:
        await asyncio.sleep(seconds)
        return ()

    def describe(job: WebJob) -> Status:
        return Status(status=job.status)

    async def run() -> list[str]:
        sent: list[str] = []
        jobs = Jobs()
        fetcher = _Deaf(failures, sent)
        events = replicate_hooks.EVENTS
        follow: Callable[..., Any] = partial(
            replicate_hooks.notify, fetcher, "http://x.test/", events, describe
        )
        jobs.start("a", work, follow=follow)
        await jobs.finish(10)
        return sent

    assert asyncio.run(run()) == wanted


def test_the_outline_for_cvat_is_that_of_the_largest_piece() -> None:
    both = np.zeros((60, 100), dtype=bool)
    both[5:35, 5:35] = True  # a square: few corners, a large area
    both[np.arange(40, 58), np.arange(60, 78)] = True  # a diagonal of many corners
    (mask,) = instances_of([both]).masks()
    outline = np.array(cvat.outline(mask)).reshape(-1, 2)
    assert (outline.min(), outline.max()) == (5, 35)


def test_stopping_gives_jobs_their_grace_and_says_nothing_of_half_uploads(
    weights: Path, tmp_path: Path
) -> None:
    got: queue.Queue[Any] = queue.Queue()
    environment = {"SAM3_WEIGHTS": str(weights), "SAM3_FETCH_URLS": "private"}
    with (
        files_of_this_machine(got) as address,
        WebServer(tmp_path / "own", environment) as own,
    ):
        own.ready()
        with half_sent(own, "/api/pictures", 3), half_sent(own, "/v1/predict", 3):
            inputs = {"image": address, "prompts": ["red circle", "star"]}
            body = {"input": inputs, "webhook": address, "webhook_events_filter": ["completed"]}
            assert own.http.post("/v1/predictions", json=body).json()["status"] != "succeeded"
            own.process.send_signal(signal.SIGTERM)
            assert got.get(timeout=60)["status"] == "succeeded"
            assert own.process.wait(60) == 0
        assert "Traceback" not in own.log()


def test_a_hostile_crowd_costs_eight_honest_clients_nothing(
    weights: Path, tmp_path: Path, silent: str
) -> None:
    """500 hostile requests, half of them without the token: every honest answer is as if alone."""
    environment = {"SAM3_WEIGHTS": str(weights), "SAM3_TOKEN": TOKEN, "SAM3_FETCH_URLS": "private"}
    hostile = [(path, json.dumps(body).encode()) for path, body in CASES]
    hostile += [
        (
            "/v1/predictions",
            json.dumps({"input": {"image": "data:,x"}, "webhook": silent}).encode(),
        ),
        ("/api/ai/queue", json.dumps({"input_image": "data:,x", "prompt": "a"}).encode()),
        ("/label-studio/predict", b"[" * 10_000),
        ("/sam3/concept_segment", b'{"api_key": "' + b"x" * 200_000),
    ]
    with WebServer(tmp_path / "crowd", environment) as own:
        own.ready()
        own.http.headers.update(BEARER)
        known = own.http.post("/api/pictures", content=SHAPES).json()["id"]
        question = {"picture": known, "inputs": {"prompt": CIRCLE}}
        alone = own.http.post("/api/segment", json=question).json()["annotations"]
        memory = psutil.Process(own.process.pid)

        def harm(number: int) -> int:
            path, body = hostile[number % len(hostile)]
            headers = {"Authorization": ""} if number // len(hostile) % 2 else {}
            return own.http.post(path, content=body, headers=headers).status_code

        def ask(_: int) -> list[Any]:
            answers = [own.http.post("/api/segment", json=question) for _ in range(5)]
            return [answer.json().get("annotations") for answer in answers]

        with ThreadPoolExecutor(16) as pool, ThreadPoolExecutor(8) as honest:
            statuses = list(pool.map(harm, range(100)))
            before = memory.memory_info().rss
            asked = honest.map(ask, range(8))
            statuses += pool.map(harm, range(100, 500))
            assert [answer for answers in asked for answer in answers] == [alone] * 40
        assert memory.memory_info().rss - before < GROWTH_BYTES
        assert {status for status in statuses if status >= 500} == set()
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(30) == 0, "webhooks that hang do not keep the server"
        assert "Traceback" not in own.log()
