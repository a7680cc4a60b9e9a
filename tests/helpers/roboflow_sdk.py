"""Roboflow's SDK as a child process, because it pins older packages than ours.

`Sdk` and `SdkProcess` are the side of the tests. The file itself, run by the Python of the SDK's
venv, is the other side: it reads one call as JSON from each line and prints what a person's
program would see.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VENV = Path(__file__).resolve().parents[2] / ".tools" / "inference-sdk"


class SdkError(Exception):
    """What the SDK raised, as a person sees it."""


class SdkProcess:
    """The SDK, imported once: that takes seconds."""

    def __init__(self) -> None:
        python = VENV / "bin" / "python"
        assert python.exists(), f"{VENV} is missing: run script/setup --dev"
        self._process = subprocess.Popen(
            [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, call: dict[str, Any]) -> dict[str, Any]:
        """Send one call and wait for its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


@dataclass(frozen=True)
class Sdk:
    """A client of the SDK for one server. transport: where it puts the key."""

    process: SdkProcess
    server: str
    api_key: str | None = None
    transport: str = "legacy"

    def call(self, method: str, image: Path | str, kind: str = "path", **options: Any) -> Any:
        """Call a method of the SDK; raises SdkError.

        kind: how the image is given: path (or URL), numpy, pil, several, or async.
        """
        client = [self.server, self.api_key, self.transport]
        call = {"method": method, "image": str(image), "kind": kind, "options": options}
        answer = self.process.ask({"client": client, "call": call})
        if "error" in answer:
            raise SdkError(answer["error"])
        return answer["answer"]


def _main() -> None:
    from inference_sdk import InferenceConfiguration, InferenceHTTPClient

    for line in sys.stdin:
        asked = json.loads(line)
        server, api_key, transport = asked["client"]
        client = InferenceHTTPClient(api_url=server, api_key=api_key)
        client.configure(InferenceConfiguration(api_key_transport=transport))
        try:
            answer = {"answer": _answer(client, **asked["call"])}
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
    _main()
