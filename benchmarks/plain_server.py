"""The server that one writes first: FastAPI, transformers, and a lock around the whole request.

`python -m benchmarks.plain_server PORT FOLDER [MILLISECONDS]`: with a number, the model is replaced
by a device that takes so long and uses no processor, as in `stand_in.py`.
"""

from __future__ import annotations

import base64
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from benchmarks import pictures, plain
from benchmarks.stand_in import COUNT


def create_app(folder: str, device_seconds: float | None) -> FastAPI:
    """Return an application that answers POST /predictions as Cog's server does, one at a time."""
    app, lock, loaded = FastAPI(), threading.Lock(), plain.load(folder)
    ready = pictures.outputs(COUNT)

    @app.post("/predictions")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        inputs = body["input"]
        with lock, tempfile.TemporaryDirectory() as scratch:
            photo, result = Path(scratch) / "photo", Path(scratch) / "masks.zip"
            photo.write_bytes(base64.b64decode(inputs["image"].partition(",")[2]))
            if device_seconds is None:
                plain.predict(loaded, photo, result, inputs["prompt"])
            else:
                image = plain.decode(photo)
                plain.preprocess(loaded.processor, image, text=inputs["prompt"])
                time.sleep(device_seconds)
                size = (image.height, image.width)
                found = plain.post_process(loaded.processor, ready, size)
                plain.write_zip(result, image, found)
            content = base64.b64encode(result.read_bytes()).decode()
        return {"status": "succeeded", "output": f"data:application/zip;base64,{content}"}

    @app.get("/health-check")
    def health() -> dict[str, str]:
        return {"status": "READY"}

    return app


def main() -> None:
    """Serve until ended."""
    port, folder, *rest = sys.argv[1:]
    app = create_app(folder, float(rest[0]) / 1000 if rest else None)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
