"""What the tests of faults and of interruptions share: requests, and what must hold after each."""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.helpers.cog_server import CogServer, Result, png

SECONDS = 180
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


def worker(server: CogServer) -> psutil.Process:
    """The process in which the predictor runs."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)


def workspace(server: CogServer) -> Path:
    """The folder of that server's downloads and results."""
    (folder,) = server.temporary.glob("sam3-image-*")
    return folder


def downloads(server: CogServer) -> list[Path]:
    """What lies in the folder beside the results, which stay for a minute."""
    return [path for path in workspace(server).iterdir() if path.is_file()]


def half_results(server: CogServer) -> list[str]:
    """Results without their end: a ZIP file's list of names is written last."""
    made = workspace(server).glob("result-*/masks.zip")
    return [path.name for path in made if not zipfile.is_zipfile(path)]


def assert_works(server: CogServer, canceled: bool = False) -> None:
    """The next prediction is as if nothing had been, and no input is left after it.

    canceled: what lies there now may stay, until `Workspace.sweep` deletes it by its age: Cog
    leaves the input of a prediction that it cancels while it downloads.
    """
    server.wait_for("READY", seconds=SECONDS)
    if canceled:
        server.left |= set(downloads(server))
    result = server.predict(**USUAL)
    assert result.status == "succeeded", result.error
    assert result.files()
    assert set(downloads(server)) <= server.left


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
    known = server.log().count("Prompt: ")
    thread.start()
    server.wait_for_log("Prompt: ", known + 1, seconds=SECONDS)
    yield results
    thread.join(SECONDS)
