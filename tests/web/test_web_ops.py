"""What the server says of itself: health, measures, the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from sam3_image.errors import UserError
from sam3_image.report import LOG, _LineHandler
from sam3_image.settings import Settings
from sam3_image.web import WebSettings, create_app
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import CIRCLE, SHAPES


class FakeService(SimpleNamespace):
    """As much of a service as health needs."""

    source = SimpleNamespace(name="fake", is_demo=False)
    placement = SimpleNamespace(device="cuda", dtype="torch.bfloat16")
    unfinished = 3
    lost = False

    def healthy(self) -> bool:
        return not self.lost


def test_ready_only_while_the_model_answers() -> None:
    app = create_app(None, WebSettings(token="secret"))
    service: Any = FakeService()
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        loading = client.get("/readyz")
        assert (loading.status_code, "being loaded" in loading.text) == (503, True)
        asked = client.get("/api/about", headers={"Authorization": "Bearer secret"})
        assert (asked.status_code, "being loaded" in asked.text) == (503, True)
        app.state.server.serve(service)
        assert client.get("/readyz").status_code == 200
        service.lost = True
        gone = client.get("/readyz")
        assert (gone.status_code, "device was lost" in gone.text) == (503, True)
        assert client.get("/healthz").status_code == 200
        shown = client.get("/metrics").text
        assert 'sam3_model_info{device="cuda",dtype="bfloat16",name="fake"} 1.0' in shown
        assert "sam3_queue_length 3.0" in shown
        assert client.get("/api/about").status_code == 401


def measures(web: WebServer) -> dict[tuple[str, tuple[str, ...]], float]:
    answer = web.http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_measures_agree_with_what_was_sent(web: WebServer) -> None:
    before = measures(web)
    for number in range(60):
        web.http.get("/healthz")
        web.http.get(f"/v1/predictions/unknown{number}")
        web.http.request(f"X{number}", f"/nothing/{number}")
    known = web.http.post("/api/pictures", content=SHAPES).json()["id"]
    for _ in range(3):
        body = {"picture": known, "inputs": {"prompt": CIRCLE}}
        found = web.http.post("/api/segment", json=body).json()
        assert len(found["scores"]) == 3
    after = measures(web)

    def more(name: str, *labels: str) -> float:
        return after[name, labels] - before.get((name, labels), 0)

    assert more("sam3_requests_total", "GET", "/healthz", "200") == 60
    assert more("sam3_requests_total", "GET", "/v1/predictions/{id}", "404") == 60
    assert more("sam3_requests_total", "unknown", "unknown", "404") == 60
    assert more("sam3_requests_total", "POST", "/api/segment", "200") == 3
    assert more("sam3_request_seconds_count", "/api/segment") == 3
    assert more("sam3_stage_seconds_count", "find") == 3
    assert more("sam3_instances_total") == 9
    assert more("sam3_encodings_total", "hit") >= 2
    assert after["process_resident_memory_bytes", ()] > 1e8
    labels = {value for _, values in after for value in values}
    assert not [value for value in labels if "unknown1" in value or "X1" in value or "/11" in value]


def test_one_line_for_each_request_that_says_nothing_of_its_content(web: WebServer) -> None:
    given = web.http.get("/v1/predictions/secret-in-the-path", headers={"X-Request-ID": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    (line,) = [line for line in web.log().splitlines() if "request_id=abc-1" in line]
    assert line.startswith("request method=GET route=/v1/predictions/{id} status=404 ms=")
    assert "instances=0" in line
    assert "secret-in-the-path" not in web.log()
    forged = web.http.get("/healthz", headers={"X-Request-ID": "a b status=500"})
    assert len(forged.headers["x-request-id"]) == 16


def test_the_log_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alone: a command that another test ran in this process may have left its own.
    monkeypatch.setattr(LOG, "handlers", [_LineHandler(as_json=True)])
    old = LOG.level
    LOG.setLevel(logging.INFO)
    try:
        LOG.info("request %s", "status=200", extra={"fields": {"status": 200, "ms": 1.5}})
        try:
            raise ValueError("inside")
        except ValueError:
            LOG.exception("two\nlines")
    finally:
        LOG.setLevel(old)
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["status"], first["ms"], first["level"]) == (200, 1.5, "info")
    assert first["message"] == "request status=200"
    assert second["message"] == "two lines"
    assert "ValueError: inside" in second["traceback"]


def test_the_variable_for_the_log() -> None:
    assert Settings.from_environment({}).log_format == "text"
    assert Settings.from_environment({"SAM3_LOG_FORMAT": "JSON"}).log_format == "json"
    with pytest.raises(UserError, match="SAM3_LOG_FORMAT is 'xml'; set it to text or json"):
        Settings.from_environment({"SAM3_LOG_FORMAT": "xml"})


def test_health_is_answered_while_the_model_is_loaded(tmp_path: Path) -> None:
    """Weights that cannot be found end the server with one line; until then it answers."""
    with WebServer(tmp_path, {"SAM3_WEIGHTS": str(tmp_path / "none")}) as running:
        assert running.process.wait(120) == 2
        assert "Traceback" not in running.log()
        assert "web: " in running.log()
