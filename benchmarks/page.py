"""What the page adds to the model's own time when a picture is known: over HTTP, on loopback."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks import pictures
from sam3_image.serving import Service
from sam3_image.settings import Settings
from sam3_image.web import WebSettings, create_app

SIZE = (3000, 4000)  # height, width: 12 megapixels
CLICKS = 30


def clicks(weights: Path, scratch: Path) -> tuple[list[float], list[float]]:
    """Seconds of the model's heads and of the whole request, for clicks on a known picture."""
    photo = pictures.save_photo(scratch / "known.jpg", SIZE).read_bytes()
    own, whole = [], []
    with _serving(weights) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        known = _post(connection, "/api/pictures", photo)["id"]
        for click in range(CLICKS + 1):
            x, y = 200 + 120 * click, 300 + 80 * click
            inputs = {"task": "visual", "points": [[x, y]]}
            body = json.dumps({"picture": known, "inputs": inputs}).encode()
            start = time.perf_counter()
            metrics = _post(connection, "/api/segment", body)["metrics"]
            seconds = time.perf_counter() - start
            if click:  # the first one encodes the picture
                assert metrics["encoder_cached"]
                own.append(metrics["timing.pick"])
                whole.append(seconds)
    return own, whole


@contextmanager
def _serving(weights: Path) -> Iterator[int]:
    """Run the web server in a thread of this process and return its port."""
    settings = Settings.from_environment({**os.environ, "SAM3_WEIGHTS": str(weights)})
    app = create_app(Service(settings), WebSettings())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> Any:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert answer.status < 300, content
    return content
