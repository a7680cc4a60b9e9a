"""What `fleet_figures` runs inside of Ray: a model that an image can kill, all measures."""

from __future__ import annotations

import os
import signal
from typing import Any

from sam3_image.fleet.deployments import Answer, Model

FATAL = b"this image kills its process"


class FragileModel(Model):
    """The same, until it is sent an image with `FATAL` in it."""

    async def answer(
        self, scope: Any, body: bytes, key: str = "", lent: dict[str, Any] | None = None
    ) -> Answer:
        if FATAL in body:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().answer(scope, body, key, lent)


def print_measures() -> None:
    """Print what every replica's own /metrics says."""
    import ray
    from ray import serve

    ray.init("auto", log_to_driver=False, logging_level="ERROR")
    scope = {"type": "http", "method": "GET", "path": "/metrics", "raw_path": b"/metrics"}
    scope |= {"query_string": b"", "headers": [(b"host", b"127.0.0.1")], "scheme": "http"}
    scope |= {"root_path": "", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1)}
    handle = serve.get_deployment_handle("Model", "sam3-image")
    for answer in handle.broadcast("answer", scope, b"").results():
        print(answer.body.decode())
