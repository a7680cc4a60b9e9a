"""Faults while the server runs: each ends in one clear line, and the next prediction works."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from sam3_image.errors import MemoryLimitError, OutputError
from sam3_image.memory import guarded
from sam3_image.workspace import Workspace
from tests.cog_server import CogServer, Result, data_url, png

SECONDS = 60
RNG = np.random.default_rng(0)
SMALL = png(RNG.integers(0, 255, (60, 80, 3), dtype=np.uint8))
USUAL: dict[str, Any] = {"image": SMALL, "prompt": "red circle", "threshold": 0.0}
# Flat, so the file is small; the overlay's PNG is of 1,500 × 2,000 noisy pixels all the same.
LARGE = png(RNG.integers(0, 255, (60, 80, 3), dtype=np.uint8).repeat(25, 0).repeat(25, 1))
SLOW: dict[str, Any] = {
    "image": LARGE,
    "prompts": [f"circle number {number}" for number in range(16)],
    "threshold": 0.0,
    "save_overlay": True,
    "annotation_format": "polygon",
}


@pytest.fixture(scope="module")
def own(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """A server that these tests may hurt."""
    with CogServer(tmp_path_factory.mktemp("faults"), {"SAM3_WEIGHTS": str(weights)}) as running:
        yield running.ready()


def worker(server: CogServer) -> psutil.Process:
    """The process in which the predictor runs."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)


def workspace(server: CogServer) -> Path:
    """The folder of that server's downloads and results."""
    (folder,) = server.temporary.glob("sam3-image-*")
    return folder


def left_over(server: CogServer) -> list[str]:
    return [path.name for path in workspace(server).rglob("*") if path.is_file()]


def assert_works(server: CogServer) -> None:
    """The next prediction is as if nothing had been."""
    server.wait_for("READY", seconds=SECONDS)
    result = server.predict(**USUAL)
    assert result.status == "succeeded", result.error
    assert result.files()
    assert left_over(server) == ["masks.zip"]


def assert_one_line(result: Result, *words: str) -> None:
    assert result.status == "failed"
    for word in words:
        assert word in result.error
    assert "Traceback" not in result.error
    assert "\n" not in result.error.strip()


def start(server: CogServer, name: str, inputs: dict[str, Any]) -> None:
    """Begin a prediction and return while it runs."""
    answer = server.send("PUT", f"/predictions/{name}", inputs, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202


@contextlib.contextmanager
def in_background(server: CogServer, inputs: dict[str, Any]) -> Iterator[list[Result]]:
    """A synchronous prediction in another thread; its result is in the list afterwards."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(server.predict(**inputs)))
    thread.start()
    server.wait_for("BUSY", seconds=SECONDS)
    yield results
    thread.join(SECONDS)


@contextlib.contextmanager
def limited(process: psutil.Process, kind: int, value: int) -> Iterator[None]:
    """A soft limit on a running process, taken back afterwards."""
    soft, hard = process.rlimit(kind)
    process.rlimit(kind, (value, hard))
    try:
        yield
    finally:
        process.rlimit(kind, (soft, hard))


# Memory


def test_too_little_memory_is_one_line_and_is_given_back(own: CogServer) -> None:
    assert_works(own)
    process = worker(own)
    before = process.memory_full_info().uss
    room = process.memory_info().vms + 150_000_000
    huge = png(np.zeros((9_000, 9_000), dtype=np.uint8))  # 81 megapixels in a file of 80 KB
    with limited(process, resource.RLIMIT_AS, room):
        assert_one_line(own.predict(**{**USUAL, "image": huge}), "MemoryLimitError", "smaller")
    assert_works(own)
    assert process.memory_full_info().uss < before + 30_000_000


@pytest.mark.parametrize(
    "take",
    [
        lambda: np.empty(1 << 50, dtype=np.uint8),
        lambda: torch.empty(1 << 50),
        lambda: bytes(1 << 50),
    ],
    ids=["NumPy", "torch", "Python"],
)
def test_whoever_lacks_memory_the_line_is_ours(take: Callable[[], object]) -> None:
    forgotten: list[bool] = []
    with (
        pytest.raises(MemoryLimitError, match="try a smaller image") as caught,
        guarded(lambda: forgotten.append(True)),
    ):
        take()
    assert forgotten == [True]
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), guarded(lambda: None):
        torch.ones(2, 3) @ torch.ones(2, 3)


# Disk and temporary folder


def test_a_disk_too_small_for_the_result(own: CogServer) -> None:
    """A limit on the size of files stands for the disk: the write breaks off in the middle."""
    assert_works(own)
    with limited(worker(own), resource.RLIMIT_FSIZE, len(LARGE) + 20_000):
        result = own.predict(**{**SLOW, "prompts": ["circle"]})
        assert_one_line(result, "OutputError", "File too large")
        assert not left_over(own)
    assert_works(own)


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Callable[..., Any]]:
    """A real, small disk at `folder`; gives a function that remounts it with other options."""
    kind = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(kind, capture_output=True).returncode != 0:
        pytest.skip("mounting a disk needs root")
    try:
        yield lambda options: subprocess.run(
            ["mount", "-o", f"remount,{options}", str(folder)], check=True
        )
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(own: CogServer) -> None:
    assert_works(own)
    with mounted(workspace(own), len(LARGE) + 40_000):
        result = own.predict(**{**SLOW, "prompts": ["circle"]})
        assert_one_line(result, "OutputError", "No space left", "free some disk space")
        assert_works(own)  # half a result was not left on the full disk
        with contextlib.suppress(OSError):
            (workspace(own) / "hog").write_bytes(bytes(10_000_000))
        # Not even the download fits: Cog's own line.
        assert_one_line(own.predict(**USUAL), "No space left")
        # No request can begin, so the health check removes what broken downloads have left.
        an_hour_ago = time.time() - 3600
        for path in workspace(own).iterdir():
            os.utime(path, (an_hour_ago, an_hour_ago))
        own.wait_for("READY", "UNHEALTHY", seconds=10)  # asks until it is not BUSY
        assert_works(own)
    assert_works(own)


def test_a_read_only_temporary_folder(own: CogServer) -> None:
    assert_works(own)
    with mounted(workspace(own), 10_000_000) as remount:
        remount("ro")
        assert_one_line(own.predict(**USUAL), "Read-only file system")
        own.wait_for("UNHEALTHY", seconds=10)
        remount("rw")
        assert_works(own)
    assert_works(own)


def test_a_temporary_folder_that_vanishes_between_requests(own: CogServer) -> None:
    assert_works(own)
    shutil.rmtree(workspace(own))
    # Cog cannot download the image: its own line. The health check makes the folder again.
    assert_one_line(own.predict(**USUAL), "No such file")
    own.wait_for("READY", seconds=10)  # it may still say BUSY right after an answer
    assert_works(own)


def test_a_temporary_folder_that_vanishes_during_a_prediction(own: CogServer) -> None:
    assert_works(own)
    with in_background(own, SLOW) as results:
        time.sleep(0.2)  # the image has been read
        shutil.rmtree(workspace(own))
    assert results[0].status == "succeeded" or "vanished" in results[0].error, results[0].error
    own.wait_for("READY", "UNHEALTHY", seconds=10)
    assert_works(own)


def test_workspace_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match=r"missing.*No such file.*TMPDIR") as caught:
        Workspace()
    assert "\n" not in str(caught.value)


def test_workspace_sweeps_only_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = Workspace()
    result = place.new() / "masks.zip"
    names = {name: place.folder / name for name in ("stale", "growing")}
    for path in (*names.values(), result):
        path.touch()
    for path in (names["stale"], result):
        os.utime(path, (1, 1))
    place.sweep()
    assert not names["stale"].exists()
    assert names["growing"].exists()
    assert result.exists()  # Cog may still be sending it


def test_workspace_keeps_only_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = Workspace()
    place.take_downloads()
    (place.folder / "broken download").touch()
    (place.new() / "masks.zip").touch()
    (place.folder / "link").symlink_to(tmp_path)
    kept = place.folder / "tmpabcfile.png"
    kept.touch()
    place.clear(keep=kept)
    assert list(place.folder.iterdir()) == [kept]
    assert tmp_path.is_dir()
    folder = place.folder
    del place
    assert not folder.exists()

    assert tempfile.tempdir is None


# Requests that end early


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
def test_cancel_at_any_moment(own: CogServer, delay: float) -> None:
    own.wait_for("READY", seconds=SECONDS)
    start(own, f"cancel-{delay}", SLOW)
    time.sleep(delay)
    own.http.post(f"/predictions/cancel-{delay}/cancel")
    assert_works(own)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.5])
def test_a_client_that_goes_away(own: CogServer, delay: float) -> None:
    own.wait_for("READY", seconds=SECONDS)
    body = json.dumps({"input": {**SLOW, "image": data_url(LARGE)}}).encode()
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        head = f"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        time.sleep(delay)
    assert_works(own)


def test_a_client_that_never_finishes_its_request(own: CogServer) -> None:
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(
            b"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert_works(own)


def test_a_second_request_while_busy(own: CogServer) -> None:
    own.wait_for("READY", seconds=SECONDS)
    with in_background(own, SLOW) as results:
        inputs = {**USUAL, "image": data_url(SMALL)}
        second = own.http.post("/predictions", json={"input": inputs})
        assert second.status_code == 409
    assert results[0].status == "succeeded"
    assert_works(own)


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
    assert_one_line(own.predict(image=name), "ImageError", "no URL")
    assert time.monotonic() - started < 5
    assert_works(own)


def test_a_pipe_is_not_opened(own: CogServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # a reader would wait for ever
    assert_one_line(own.predict(image=str(tmp_path / "pipe")), "no URL")
    assert_works(own)


def test_our_own_folder_cannot_be_named(own: CogServer) -> None:
    """Not even another download or result can be had by its path."""
    assert_works(own)
    result = next(path for path in workspace(own).rglob("*") if path.is_file())
    assert_one_line(own.predict(image=str(result)), "no URL")


def test_what_broken_downloads_leave_goes_with_the_next_request(own: CogServer) -> None:
    for _ in range(3):
        assert_one_line(own.predict(image="http://127.0.0.1:9/image.png"), "Connection refused")
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
