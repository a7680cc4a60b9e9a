"""The Containerfile without a build: what it copies, and every entry point from exactly that.

`tools/container_run.py` builds and runs the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from tests.helpers.cog_server import REPOSITORY, data_url, free_port
from tests.helpers.nobody import UID, as_nobody, environment
from tests.http.test_image_files import kept, tracked

TEXT = (REPOSITORY / "Containerfile").read_text(encoding="utf-8")
HEALTHCHECK = "deploy/healthcheck.py"
SHAPES = REPOSITORY / "examples" / "shapes.png"
TOPS = {
    *("LICENSE", "deploy", "examples", "predict.py", "sam3_image", "tools", "weights"),
    *(f"requirements{part}.txt" for part in ("", "-web", "-batch", "-fleet")),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of /app in the image, which nobody but the one who runs the tests can write."""
    app = tmp_path_factory.mktemp("image") / "app"
    for name in kept(tmp_path_factory.mktemp("matcher"), tracked(), "Containerfile.dockerignore"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, app / name)
    schema = ["-m", "tools.cog_schema.openapi", "predict.py", ".cog/openapi_schema.json"]
    subprocess.run([sys.executable, *schema], cwd=app, check=True)
    shutil.rmtree(app / "tools")
    for path in (app, *app.rglob("*")):
        path.chmod(0o555)
    return app


class Entry:
    """A command in the image, as somebody without a name or a home."""

    def __init__(self, image: Path, settings: Path, folder: Path) -> None:
        self.image, self.folder = image, folder
        if os.geteuid() == 0:
            os.chown(folder, UID, 0)
        self.env = environment(settings, image) | {
            "SAM3_WEIGHTS": "demo",
            "SAM3_DEVICE": "cpu",
            "SAM3_TOKEN": "token",
            "TMPDIR": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The entry point of the Containerfile, less tini."""
        command = as_nobody([sys.executable, "-P", "-m", "sam3_image", *arguments])
        if os.geteuid() == 0:  # a /tmp/coglet of its own, which a container does not share
            mount = 'mkdir -p /tmp/coglet && mount --bind "$0" /tmp/coglet && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, str(self.folder), *command]
        return subprocess.Popen(
            command,
            cwd=self.image,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Its exit status and everything that it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    @contextmanager
    def serving(self, name: str) -> Iterator[httpx.Client]:
        """A server, once the HEALTHCHECK says that it is healthy."""
        port = str(free_port())
        process = self.start(name, "--port", port)
        try:
            end = time.monotonic() + 120
            while health(port)[0] != 0:
                if process.poll() is not None or time.monotonic() > end:
                    process.kill()
                    raise AssertionError(process.communicate()[0][-4000:])
                time.sleep(0.3)
            headers = {"Authorization": "Bearer token"}
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60
            ) as client:
                yield client
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture
def entry(image: Path, tmp_path: Path) -> Iterator[Entry]:
    # Not below tmp_path, which nobody else can enter.
    with tempfile.TemporaryDirectory() as folder:
        yield Entry(image, tmp_path, Path(folder))


def health(port: str) -> tuple[int, str]:
    """What HEALTHCHECK says of the server at a port: exit status and text."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / HEALTHCHECK],
        env={"PATH": os.environ["PATH"], "PORT": port},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def instructions(word: str) -> Sequence[str]:
    """The arguments of every instruction of that name, lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", TEXT, flags=re.M))
    return [
        line[len(word) :].strip() for line in joined.splitlines() if line.startswith(f"{word} ")
    ]


def test_the_context_holds_what_the_image_needs_and_no_more(tmp_path: Path) -> None:
    extra = [
        ".env",
        "weights/sam3/a.safetensors",
        "weights/sam3/.cache/b",
        "runs/x",
        "deploy/x.yaml",
    ]
    found = kept(tmp_path, [*tracked(), *extra], "Containerfile.dockerignore")
    assert {name.partition("/")[0] for name in found} == TOPS
    assert "weights/sam3/a.safetensors" in found
    assert {name for name in found if name.startswith(("deploy/", "examples/"))} == {
        HEALTHCHECK,
        "examples/shapes.png",
    }
    assert "weights/sam3/.cache/b" not in found
    assert {f"sam3_image/{part}/__init__.py" for part in ("web", "batch", "fleet")} <= found


def test_the_containerfile_fits_the_repository() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", TEXT, re.M)
    assert targets[-2:] == ["cpu", "gpu"], "docker build without --target makes the last"
    assert instructions("USER") == ["10001:0", "10001:0"]
    assert json.loads(instructions("ENTRYPOINT")[0])[:2] == ["tini", "--"]
    assert json.loads(instructions("CMD")[0]) == ["web", "--host", "0.0.0.0"]
    assert HEALTHCHECK in instructions("HEALTHCHECK")[0]
    build = yaml.safe_load((REPOSITORY / "cog.yaml").read_text())["build"]
    backends = dict(zip(targets[-4:-2], instructions("ARG")[1:], strict=True))
    cuda = build["cuda"].replace(".", "")
    assert backends == {
        "packages-cpu": "TORCH_BACKEND=cpu",
        "packages-gpu": f"TORCH_BACKEND=cu{cuda}",
    }
    assert f"python:{build['python_version']}-" in instructions("ARG")[0]
    (uv,) = re.findall(
        r"^readonly UV_VERSION=(\S+)", (REPOSITORY / "script/setup").read_text(), re.M
    )
    assert f"uv=={uv} " in TEXT
    variables = " ".join(instructions("ENV"))
    assert not re.search(r"TOKEN|SECRET|PASSWORD", variables)
    assert "PYTHONPATH=/app " in variables, "as the tests below have it"


def test_cog_serves_from_these_files(entry: Entry) -> None:
    with entry.serving("serve") as client:
        body = {"input": {"image": data_url(SHAPES.read_bytes()), "prompt": "red circle"}}
        answer = client.post("/predictions", json=body).json()
        assert answer["status"] == "succeeded", answer["error"]
        assert client.post("/predictions", json={"input": {}}).status_code == 422, "no schema"


def test_the_web_server_runs_from_these_files(entry: Entry) -> None:
    with entry.serving("web") as client:
        assert "<html" in client.get("/").text
        body = {"input": {"image": data_url(SHAPES.read_bytes()), "prompt": "red circle"}}
        answer = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
        assert answer.json()["status"] == "succeeded"
        assert client.get("/api/example").content == SHAPES.read_bytes()


def test_bulk_runs_from_these_files(entry: Entry) -> None:
    out = entry.folder / "rows"
    options = ("--prompts", "red circle", "--out", str(out), "--workers", "1")
    status, output = entry.run("batch", "examples", *options)
    assert status == 0, output
    assert list(out.rglob("*.parquet"))


def test_the_others_start_from_these_files(entry: Entry) -> None:
    """Without a token no server listens for others; the fleet says so before Ray is started."""
    entry.env["SAM3_TOKEN"] = ""
    status, output = entry.run("web", "--host", "0.0.0.0")
    assert (status, output.count("\n")) == (2, 1), output
    assert "no token was set" in output
    status, output = entry.run("fleet", "--host", "0.0.0.0")
    assert (status, output.count("\n")) == (2, 1), output
    assert "no token was set" in output or 'pip install "sam3-image[fleet]"' in output
    entry.env["SAM3_WEIGHTS"] = "/nowhere"
    status, output = entry.run("predict", "examples/shapes.png", "-o", str(entry.folder / "x.png"))
    assert status == 2
    assert "/nowhere" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("answers", "healthy"),
    [
        ({"/health-check": (200, "READY")}, True),
        ({"/health-check": (200, "BUSY")}, True),
        ({"/health-check": (200, "STARTING")}, False),
        ({"/health-check": (200, "SETUP_FAILED")}, False),
        ({"/health-check": (200, "UNHEALTHY")}, False),
        ({"/readyz": (200, "ready")}, True),
        ({"/readyz": (503, "503")}, False),
        ({}, False),
    ],
)
def test_the_healthcheck_reads_the_body(answers: dict[str, tuple[int, str]], healthy: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"status": text}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert (health(str(server.server_port))[0] == 0) is healthy
        server.shutdown()
