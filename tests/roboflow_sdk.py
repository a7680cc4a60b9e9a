"""Roboflow's SDK as a child process, because it pins older packages than ours.

`Sdk` is the side of the tests. The file itself, run by the Python of the SDK's venv, is the other
side: it reads one call as JSON from each line and prints what a person's program would see.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

VENV = Path(__file__).resolve().parent.parent / ".tools" / "inference-sdk"


class SdkError(Exception):
    """What the SDK raised, as a person sees it."""


class Sdk:
    """A client of the SDK for one server."""

    def __init__(self, server: str, api_key: str | None = None, transport: str = "legacy") -> None:
        python = VENV / "bin" / "python"
        assert python.exists(), f"{VENV} is missing: run script/setup --dev"
        self._process = subprocess.Popen(
            [python, __file__, server, api_key or "", transport],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, method: str, image: Path | str, kind: str = "path", **options: Any) -> Any:
        """Call a method of the SDK; raises SdkError.

        kind: how the image is given: path (or URL), numpy, pil, several, or async.
        """
        assert self._process.stdin
        assert self._process.stdout
        call = {"method": method, "image": str(image), "kind": kind, "options": options}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise SdkError(answer["error"])
        return answer["answer"]

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


def _main(server: str, api_key: str, transport: str) -> None:
    from inference_sdk import InferenceConfiguration, InferenceHTTPClient

    client = InferenceHTTPClient(api_url=server, api_key=api_key or None)
    client.configure(InferenceConfiguration(api_key_transport=transport))
    for line in sys.stdin:
        try:
            answer = {"answer": _answer(client, **json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _answer(client: Any, method: str, image: str, kind: str, options: dict[str, Any]) -> Any:
    import asyncio

    import cv2
    import numpy as np
    import supervision as sv
    from PIL import Image

    if method == "from_sam3":
        found = sv.Detections.from_sam3(options["answer"], tuple(options["size"]))
        masks = [] if found.mask is None else [np.packbits(mask).tolist() for mask in found.mask]
        ids = [] if found.class_id is None else found.class_id
        return {"masks": masks, "class_ids": [int(number) for number in ids]}
    given: Any = {
        "numpy": lambda: cv2.imread(image),
        "pil": lambda: Image.open(image).convert("RGB"),
        "several": lambda: [image, image],
    }.get(kind, lambda: image)()
    if kind == "async":
        return asyncio.run(getattr(client, f"{method}_async")(given, **options))
    return getattr(client, method)(given, **options)


if __name__ == "__main__":
    _main(*sys.argv[1:])
