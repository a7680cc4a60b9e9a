"""The scripts themselves: what they do where something is missing, and the server they start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.helpers.cog_server import REPOSITORY, CogServer, free_port, pixels

# All that script/setup may rely on besides Python and pip.
TOOLS = ("bash", "env", "dirname", "cmp", "cat", "cp", "mkdir", "rm")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone without .venv: only what script/setup reads."""
    folder = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "script", folder / "script")
    for name in ("requirements.txt", "requirements-dev.txt"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    """A PATH with the basic tools alone: no Python, no uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"{name} is not on this machine"
        (folder / name).symlink_to(found)
    return folder


def setup(tree: Path, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """script/setup in the tree, called from elsewhere, with nothing but that PATH."""
    return subprocess.run(
        [tree / "script" / "setup"],
        cwd=path,
        env={"PATH": str(path), "HOME": str(path), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def test_setup_without_python(tree: Path, binaries: Path) -> None:
    done = setup(tree, binaries)
    assert done.returncode == 1
    assert last_line(done).startswith("setup: Python 3.11 is not on the PATH")


def test_setup_without_uv_and_without_an_index(tree: Path, binaries: Path) -> None:
    (binaries / "python3.11").symlink_to(sys.base_prefix + "/bin/python3.11")
    done = setup(tree, binaries, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert done.returncode == 1
    assert last_line(done).startswith("setup: uv could not be fetched with pip")
    assert not (tree / ".tools").exists(), "half of an installation stays behind"


def test_setup_without_network(tree: Path, binaries: Path, tmp_path: Path) -> None:
    (binaries / "python3.11").symlink_to(sys.base_prefix + "/bin/python3.11")
    (binaries / "uv").symlink_to(real_uv())
    environment = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}
    done = setup(tree, binaries, UV_TORCH_BACKEND="abacus", **environment)
    assert last_line(done).startswith("setup: UV_TORCH_BACKEND is 'abacus'")
    done = setup(tree, binaries, UV_TORCH_BACKEND="cpu", **environment)
    assert done.returncode == 1
    assert "(for UV_TORCH_BACKEND=cpu) is out of reach: torch is PyPI's" in done.stderr
    assert last_line(done).startswith("setup: the packages could not be installed")
    assert (tree / ".venv" / "bin" / "python").exists()
    assert not (tree / ".venv" / ".installed").exists(), "a failed setup must not look done"


def real_uv() -> str:
    """uv itself; what stands on the PATH may be a launcher that needs more than it."""
    candidates = [
        REPOSITORY / ".tools" / "bin" / "uv",
        Path(sys.base_prefix) / "bin" / "uv",
        Path(shutil.which("uv") or "uv"),
    ]
    return str(next(path for path in candidates if path.exists()))


def test_setup_is_quick_when_all_is_there() -> None:
    command = [REPOSITORY / "script" / "setup", "--dev"]
    subprocess.run(command, check=True, capture_output=True)
    start = time.monotonic()
    again = subprocess.run(command, cwd="/", check=True, capture_output=True, text=True)
    assert (again.stdout, again.stderr) == ("", "")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["setup", "--devel"], "allowed: --dev, --web"),
        (["serve", "--prot", "5000"], "script/serve --help lists what is allowed"),
        (["serve", "--port"], "'--port' requires an argument"),
        (["serve", "--port", "http"], "'http' is not a port, 1 to 65535"),
        (["serve", "--port", "0"], "'0' is not a port"),
        (["web", "--prot", "5000"], "allowed: --host HOST, --port PORT"),
        (["web", "--port", "http"], "invalid int value: 'http'"),
        (["web", "--host", "0.0.0.0"], "set SAM3_TOKEN"),
    ],
)
def test_unknown_arguments(command: list[str], words: str) -> None:
    done = subprocess.run(
        [REPOSITORY / "script" / command[0], *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert words in last_line(done)


def test_serve_on_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [REPOSITORY / "script" / "serve", "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert last_line(done).startswith(f"serve: cannot listen on 127.0.0.1:{port}")


def test_serve_starts_cog_with_a_schema(weights: Path, tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [REPOSITORY / "script" / "serve", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "SAM3_WEIGHTS": str(weights), "SAM3_DEVICE": "cpu"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        health = wait_until_set_up(process, f"http://127.0.0.1:{port}")
        assert health["status"] == "READY", (tmp_path / "log").read_text()[-4000:]
        inputs = httpx.get(f"http://127.0.0.1:{port}/openapi.json").json()
        assert inputs["components"]["schemas"]["Input"]["required"] == ["image"]
        process.terminate()
        process.wait(20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_set_up(process: subprocess.Popen[bytes], url: str) -> dict[str, object]:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            answer: dict[str, object] = httpx.get(url + "/health-check", timeout=5).json()
        except httpx.TransportError:
            answer = {}
        if answer.get("status") in ("READY", "SETUP_FAILED"):
            return answer
        time.sleep(0.2)
    raise AssertionError(f"the server was not set up; its exit status is {process.poll()}")


@pytest.mark.parametrize("name", ["client.py", "predict.sh"])
def test_examples_against_a_running_server(server: CogServer, tmp_path: Path, name: str) -> None:
    program = REPOSITORY / "examples" / name
    start = [sys.executable] if program.suffix == ".py" else []
    url = f"http://127.0.0.1:{server.port}"
    image = REPOSITORY / "examples" / "shapes.png"
    done = subprocess.run(
        [*start, program, image, "red circle", url],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    (made,) = tmp_path.iterdir()
    assert made.name in done.stdout
    if made.suffix == ".zip":
        assert "overlay.png" in zipfile.ZipFile(made).namelist()
    else:
        assert pixels(made.read_bytes()).shape == (600, 800, 3)
