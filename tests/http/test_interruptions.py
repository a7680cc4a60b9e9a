"""Requests that end early or ask for what they may not have; the next prediction works."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.cog_server import CogServer, data_url
from tests.helpers.fault_tools import (
    LARGE,
    SECONDS,
    SLOW,
    SMALL,
    USUAL,
    assert_one_line,
    assert_works,
    downloads,
    in_background,
    start,
    workspace,
)

# Requests that end early


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
def test_cancel_at_any_moment(own: CogServer, delay: float) -> None:
    own.wait_for("READY", seconds=SECONDS)
    start(own, f"cancel-{delay}", SLOW)
    time.sleep(delay)
    own.http.post(f"/predictions/cancel-{delay}/cancel")
    assert_works(own, canceled=True)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.5])
def test_a_client_that_goes_away(own: CogServer, delay: float) -> None:
    own.wait_for("READY", seconds=SECONDS)
    body = json.dumps({"input": {**SLOW, "image": data_url(LARGE)}}).encode()
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        head = f"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        time.sleep(delay)
    assert_works(own, canceled=True)


def test_a_client_that_never_finishes_its_request(own: CogServer) -> None:
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(
            b"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert_works(own)


def test_with_one_slot_a_second_request_is_refused(
    start_server: Callable[..., CogServer], weights: Path
) -> None:
    """COG_MAX_CONCURRENCY=1, and beyond any number of slots: Cog's own 409, and no queue."""
    server = start_server(SAM3_WEIGHTS=str(weights), COG_MAX_CONCURRENCY="1").ready()
    with in_background(server, SLOW) as results:
        inputs = {**USUAL, "image": data_url(SMALL)}
        second = server.http.post("/predictions", json={"input": inputs})
        assert second.status_code == 409
        assert server.health()["status"] == "BUSY"
    assert results[0].status == "succeeded"
    assert_works(server)


def test_a_small_request_does_not_wait_for_a_slow_one(own: CogServer) -> None:
    own.wait_for("READY", seconds=SECONDS)
    with in_background(own, SLOW) as results:
        assert own.predict(**USUAL).status == "succeeded"
        assert not results, "the slow one was faster: nothing is shown"
    assert results[0].status == "succeeded"


def test_sigterm_during_a_prediction_still_answers(
    start_server: Callable[..., CogServer], weights: Path
) -> None:
    server = start_server(SAM3_WEIGHTS=str(weights)).ready()
    folder = workspace(server)
    with in_background(server, SLOW) as results:
        server.process.send_signal(signal.SIGTERM)
    assert results[0].status == "succeeded", results[0].error
    assert results[0].files()
    server.process.wait(SECONDS)
    assert not folder.exists()


# What a request may learn, and what it may make happen


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "/dev/zero", "/proc/self/environ", "file:///etc/passwd", ".", ""]
)
def test_local_paths_are_not_read(own: CogServer, name: str) -> None:
    started = time.monotonic()
    assert_one_line(own.predict(image=name), "ImageError", "http(s) or data URL")
    assert time.monotonic() - started < 5
    assert_works(own)


def test_a_pipe_is_not_opened(own: CogServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # a reader would wait for ever
    assert_one_line(own.predict(image=str(tmp_path / "pipe")), "http(s) or data URL")
    assert_works(own)


def test_our_own_folder_cannot_be_named(own: CogServer) -> None:
    """Not even another download or result can be had by its path."""
    assert_works(own)
    result = next(path for path in workspace(own).rglob("*") if path.is_file())
    assert_one_line(own.predict(image=str(result)), "http(s) or data URL")


def test_what_broken_downloads_leave_goes_by_its_age(own: CogServer) -> None:
    for _ in range(3):
        assert_one_line(own.predict(image="http://127.0.0.1:9/image.png"), "Connection refused")
    for path in workspace(own).iterdir():
        os.utime(path, (1, 1))
    end = time.monotonic() + 20
    while downloads(own):
        assert time.monotonic() < end
        own.health()
        time.sleep(0.1)
    assert_works(own)


def test_no_secret_is_told(start_server: Callable[..., CogServer], weights: Path) -> None:
    secret = "hf_" + "s3cr3tt0k3n" * 3
    server = start_server(SAM3_WEIGHTS=str(weights), HF_TOKEN=secret).ready()
    answers = [
        server.predict(**USUAL),
        server.predict(**{**USUAL, "image": data_url(b"junk")}),
        server.predict(image="/etc/passwd"),
        server.predict(**{**USUAL, "prompt": ""}),
    ]
    for answer in answers:
        assert secret not in json.dumps(answer.body)
    assert secret not in server.log()
    assert secret not in json.dumps(server.health())
