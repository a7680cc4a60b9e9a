"""Faults while the server runs: each ends in one clear line, and the next prediction works."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch

from sam3_image.errors import MemoryLimitError
from sam3_image.serving.memory import within_memory
from tests.helpers.cog_server import CogServer, png
from tests.helpers.fault_tools import (
    LARGE,
    SLOW,
    USUAL,
    assert_one_line,
    assert_works,
    half_results,
    in_background,
    worker,
    workspace,
)


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
    # Given back once the server has a moment of rest.
    end = time.monotonic() + 20
    while process.memory_full_info().uss > before + 30_000_000:
        assert time.monotonic() < end
        own.health()
        time.sleep(0.2)


@pytest.mark.parametrize(
    "take",
    [
        lambda: np.empty(1 << 50, dtype=np.uint8),
        lambda: torch.empty(1 << 50),
        lambda: bytes(1 << 50),
        lambda: cv2.resize(np.zeros((1, 1), np.uint8), (1 << 24, 1 << 23)),
    ],
    ids=["NumPy", "torch", "Python", "OpenCV"],
)
def test_whoever_lacks_memory_the_line_is_ours(take: Callable[[], object]) -> None:
    forgotten: list[bool] = []
    with pytest.raises(MemoryLimitError, match="try a smaller image") as caught:
        within_memory(take, lambda: forgotten.append(True))
    assert forgotten == [True]
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        within_memory(lambda: torch.ones(2, 3) @ torch.ones(2, 3), lambda: None)
    empty = np.zeros((0, 0, 3), np.uint8)
    with pytest.raises(cv2.error, match="empty"):
        within_memory(lambda: cv2.cvtColor(empty, cv2.COLOR_RGB2BGR), lambda: None)


# Disk and temporary folder


def test_a_disk_too_small_for_the_result(own: CogServer) -> None:
    """A limit on the size of files stands for the disk: the write breaks off in the middle."""
    assert_works(own)
    with limited(worker(own), resource.RLIMIT_FSIZE, len(LARGE) + 20_000):
        result = own.predict(**{**SLOW, "prompts": ["circle"]})
        assert_one_line(result, "OutputError", "File too large")
        assert not half_results(own)
    assert_works(own)


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Callable[..., Any]]:
    """A real, small disk at `folder`; gives a function that remounts it with other options."""
    kind = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(kind, capture_output=True).returncode != 0:
        # A container and CI are root; on a person's own account only root may mount. What breaks
        # off a write in the middle is tested above without it.
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
        # No request can begin, so what looks after the server removes what downloads have left.
        an_hour_ago = time.time() - 3600
        for path in workspace(own).iterdir():
            os.utime(path, (an_hour_ago, an_hour_ago))
        own.wait_for("READY", "UNHEALTHY", seconds=10)  # asks until it is not BUSY
        end = time.monotonic() + 30
        while (workspace(own) / "hog").exists():
            assert time.monotonic() < end, "what is an hour old was not removed"
            time.sleep(0.2)
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
