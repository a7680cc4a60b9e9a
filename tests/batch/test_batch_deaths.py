"""Processes killed at work: nothing is lost, nothing is there twice, and nobody else is blamed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.helpers.batch_engines import KILLER
from tests.helpers.batch_run import rows
from tests.helpers.cog_server import REPOSITORY

SECONDS = 300


def pictures(folder: Path, count: int, killers: tuple[int, ...] = ()) -> list[str]:
    folder.mkdir()
    for number in range(count):
        name = KILLER if number in killers else "picture"
        Image.new("RGB", (20, 10), (number % 256, 0, 0)).save(folder / f"{name}{number:03}.png")
    return sorted(str(path) for path in folder.iterdir())


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.batch_run", *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors[-2000:]
    done: dict[str, Any] = json.loads(output.splitlines()[-1])
    return done


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def without_time(found: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    return {uri: {**row, "seconds": None} for uri, row in found.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Pictures, and the rows of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("deaths")
    uris = pictures(folder / "in", 60)
    finish(start(folder / "in", folder / "out"))
    found = without_time(rows(folder / "out"))
    assert sorted(found) == uris
    return folder / "in", found


def test_driver_killed_and_run_again(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source, expected = undisturbed
    out = tmp_path / "out"
    process = start(source, out, "--engine", "Slow")
    wait_for(lambda: list(out.glob("part-*")))
    orphans = workers(process)
    process.kill()
    process.communicate()
    psutil.wait_procs(orphans, timeout=10)
    assert not any(worker.is_running() for worker in orphans)
    kept = rows(out)
    assert 0 < len(kept) < len(expected)
    again = finish(start(source, out))
    assert again["skipped"] == len(kept)
    assert again["rows"] == len(expected) - len(kept)
    assert without_time(rows(out)) == expected
    assert not list(out.glob(".work/attempts*"))


def test_worker_killed_and_replaced(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source, expected = undisturbed
    out = tmp_path / "out"
    process = start(source, out, "--engine", "Slow")
    wait_for(lambda: list(out.glob("part-*")))
    os.kill(workers(process)[0].pid, signal.SIGKILL)
    assert finish(process)["deaths"] == 1
    assert without_time(rows(out)) == expected


def test_an_image_that_kills_its_process_gets_an_error_row(tmp_path: Path) -> None:
    uris = pictures(tmp_path / "in", 16, killers=(5,))
    done = finish(start(tmp_path / "in", tmp_path / "out"))
    found = rows(tmp_path / "out")
    assert sorted(found) == uris
    (killer,) = [uri for uri, row in found.items() if row["status"] == "error"]
    assert KILLER in killer
    assert "died 2 times over this image alone" in str(found[killer]["error"])
    # In a part of four, of two, and twice alone.
    assert done["deaths"] <= 4
    assert done["failed"] == 1


def test_an_image_that_memory_did_not_suffice_for_is_tried_when_nobody_else_works(
    tmp_path: Path,
) -> None:
    uris = pictures(tmp_path / "in", 40)
    for uri in uris[::10]:
        Image.new("RGB", (40, 10)).save(uri)
    finish(start(tmp_path / "in", tmp_path / "out", "--engine", "Greedy"))
    found = rows(tmp_path / "out")
    assert sorted(found) == uris
    assert {row["status"] for row in found.values()} == {"ok"}
