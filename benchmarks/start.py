"""How long a process takes until it is ready: `python -m benchmarks.start WHAT SINCE FOLDER`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path


def main(what: str, since: str, folder: str) -> None:
    """Print a JSON line: seconds since `since` (Unix time), bytes of weights read.

    what: "imports" (torch and transformers' classes alone), "ours" or "plain" (ready to predict).
    """
    if what == "imports":
        import torch  # noqa: F401
        from transformers import CLIPTokenizer, Sam3Model, Sam3TrackerModel  # noqa: F401
    elif what == "plain":
        from benchmarks import plain

        plain.load(folder)
    else:
        from sam3_image.serving import Service
        from sam3_image.settings import Settings

        with contextlib.redirect_stdout(sys.stderr):
            Service(Settings.from_environment({"SAM3_WEIGHTS": folder, "SAM3_DEVICE": "cpu"}))
    seconds = time.time() - float(since)
    size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    print(json.dumps({"seconds": seconds, "bytes": size}))


if __name__ == "__main__":
    main(*sys.argv[1:])
