"""Cog's real HTTP server as a child process, and a small client for it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tools.cog_schema.openapi import document
from tools.cog_schema.signature import read_signature

REPOSITORY = Path(__file__).resolve().parents[2]
SETUP_SECONDS = 120  # the first import of torch on a busy machine takes its time
BUSY_TRIES = 20
SLOTS = "16"  # as script/serve and the image have it


@dataclass(frozen=True)
class Result:
    """What one prediction gave.

    http: the HTTP status. status: succeeded, failed, canceled; or "invalid" where Cog refused.
    error: the message that a person would read; "" if there is none.
    content, media_type: the bytes of the output file and what the server called them.
    """

    http: int
    status: str
    error: str
    content: bytes
    media_type: str
    metrics: dict[str, Any]
    logs: str
    body: dict[str, Any]

    @classmethod
    def read(cls, http: int, body: dict[str, Any]) -> Result:
        """From the JSON of an answer or of a webhook."""
        media_type, content = "", b""
        if body.get("output"):
            content, media_type = decode_data_url(body["output"])
        detail = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in body.get("detail", []))
        return cls(
            http=http,
            status=body.get("status", "invalid"),
            error=body.get("error") or detail,
            content=content,
            media_type=media_type,
            metrics=body.get("metrics") or {},
            logs=body.get("logs") or "",
            body=body,
        )

    def files(self) -> dict[str, bytes]:
        """The files of a ZIP by name, in their order; every checksum is held."""
        with zipfile.ZipFile(io.BytesIO(self.content)) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}

    def masks(self) -> list[np.ndarray]:
        """The masks of a ZIP in the order of their names, as they are: (H, W) uint8."""
        files = self.files()
        return [pixels(files[name]) for name in sorted(files) if name.startswith("mask_")]

    def pixels(self) -> np.ndarray:
        """The output, a picture, as it is: (H, W) or (H, W, channels) uint8."""
        return pixels(self.content)


class CogServer:
    """The server of this repository on a free port; stop() it, or use it in a `with`.

    environment: added to this process's own; SAM3_DEVICE is the CPU unless it says otherwise.
    folder: for the log and the server's own TMPDIR, so that what it leaves there can be counted.
    repository: where predict.py is, for tests that want another tree than this one.
    predictor: its file and class there. wrapper: a command that runs the server's.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        repository: Path = REPOSITORY,
        predictor: str = "predict.py:Predictor",
        wrapper: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log_file = folder / "server.log"
        self.left: set[Path] = set()  # inputs of canceled predictions, as Cog left them
        write_schema(repository)
        self.port = free_port()
        binaries = str(Path(sys.executable).parent)
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "cog.server.http", "--host", "127.0.0.1"],
            cwd=repository,
            env={
                **os.environ,
                "SAM3_DEVICE": "cpu",
                "COG_MAX_CONCURRENCY": SLOTS,
                "OMP_WAIT_POLICY": "PASSIVE",
                **environment,
                # The server starts its worker as a bare `python`.
                "PATH": binaries + os.pathsep + os.environ.get("PATH", ""),
                "PORT": str(self.port),
                "COG_PREDICT_TYPE_STUB": predictor,
                "TMPDIR": str(self.temporary),
            },
            stdin=subprocess.DEVNULL,
            stdout=self.log_file.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the worker can be ended with it
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=180)

    def __enter__(self) -> CogServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and its worker."""
        self.http.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # a worker that outlived it

    def log(self) -> str:
        """Everything the server has printed so far."""
        return self.log_file.read_text(errors="replace")

    def health(self) -> dict[str, Any]:
        """The answer of /health-check, {} while nobody listens."""
        try:
            return self.http.get("/health-check").json()
        except httpx.TransportError:
            return {}

    def wait_for(self, *states: str, seconds: float = SETUP_SECONDS) -> dict[str, Any]:
        """The first answer of /health-check in one of `states`; fails after `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.health()
            if answer.get("status") in states:
                return answer
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended by itself:\n{self.log()[-4000:]}")
            time.sleep(0.1)
        raise AssertionError(f"not {states} after {seconds} s, but {answer}:\n{self.log()[-4000:]}")

    def wait_for_log(self, text: str, times: int = 1, seconds: float = SETUP_SECONDS) -> None:
        """Wait until the log has that text so many times; fails after `seconds`.

        Health says BUSY only once every slot is taken; a line says that one request is in work.
        """
        end = time.monotonic() + seconds
        while self.log().count(text) < times:
            assert time.monotonic() < end, f"no {text!r} in {seconds} s:\n{self.log()[-4000:]}"
            time.sleep(0.05)

    def ready(self) -> CogServer:
        """This server once it accepts requests; fails with the log if its setup fails."""
        answer = self.wait_for("READY", "SETUP_FAILED", "DEFUNCT")
        assert answer["status"] == "READY", f"setup failed:\n{self.log()[-4000:]}"
        return self

    def predict(self, **inputs: Any) -> Result:
        """POST /predictions and wait for the result. See `send` for what an image may be."""
        answer = self.send("POST", "/predictions", inputs)
        return Result.read(answer.status_code, answer.json())

    def send(
        self,
        method: str,
        path: str,
        inputs: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        **envelope: Any,
    ) -> httpx.Response:
        """One request, sent again while the server says that it is busy (409).

        inputs: of predict(). Images may be a path, bytes, an array (H, W, 3) uint8, a Pillow
            image, or a string that is sent as it is; None values are left out.
        envelope: what stands beside `input` in the body, for example webhook.
        """
        body = {**envelope, "input": {k: v for k, v in inputs.items() if v is not None}}
        for name in ("image", "reference_image"):
            if name in body["input"]:
                body["input"][name] = _as_url(body["input"][name])
        content = json.dumps(body)
        for attempt in range(BUSY_TRIES):
            answer = self.http.request(
                method,
                path,
                content=content,
                headers={"Content-Type": "application/json", **(headers or {})},
            )
            if answer.status_code != 409:
                break
            time.sleep(0.02 * (attempt + 1))
        return answer


def write_schema(repository: Path = REPOSITORY) -> Path:
    """Write the schema file that Cog's server reads; returns its path."""
    signature = read_signature((repository / "predict.py").read_text(encoding="utf-8"))
    path = repository / ".cog" / "openapi_schema.json"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")  # a server may read the file just now
    partial.write_text(json.dumps(document(signature)))
    partial.replace(path)
    return path


def data_url(content: bytes, media_type: str = "image/png") -> str:
    """The bytes as a data: URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def decode_data_url(url: str) -> tuple[bytes, str]:
    """The bytes of a data: URL and their media type."""
    head, _, text = url.partition(",")
    assert head.startswith("data:"), f"not a data URL: {url[:80]}"
    assert head.endswith(";base64"), f"not base64: {head[:80]}"
    return base64.b64decode(text, validate=True), head.removeprefix("data:").partition(";")[0]


def pixels(content: bytes) -> np.ndarray:
    """An image file's pixels as they are stored: no conversion of mode or orientation."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def png(image: np.ndarray | Image.Image) -> bytes:
    """An array (H, W, 3) uint8 or a Pillow image as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _as_url(image: Any) -> str:
    if isinstance(image, str):
        return image
    if isinstance(image, Path):
        image = image.read_bytes()
    return data_url(image if isinstance(image, bytes) else png(image))


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
