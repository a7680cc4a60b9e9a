"""Ask a running server for masks, save the ZIP and open it. Needs nothing but Python.

python examples/client.py                                       # script/serve is running
python examples/client.py photo.jpg person http://127.0.0.1:5000
"""

from __future__ import annotations

import base64
import io
import json
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).resolve().parent / "shapes.png"


def segment(image: Path, prompt: str, server: str, **inputs: Any) -> bytes:
    """The bytes of the result; `inputs` are those of predict(), see /openapi.json."""
    url = "data:;base64," + base64.b64encode(image.read_bytes()).decode()
    request = urllib.request.Request(
        server + "/predictions",
        data=json.dumps({"input": {"image": url, "prompt": prompt, **inputs}}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"failed: {error.read().decode()}") from None
    except urllib.error.URLError as error:
        raise SystemExit(
            f"{server} cannot be reached ({error.reason}): SAM3_WEIGHTS=demo script/serve"
        ) from None
    if answer["status"] != "succeeded":
        raise SystemExit(f"failed: {answer['error']}")
    return base64.b64decode(answer["output"].partition(",")[2])


def main(
    image: str = str(SHAPES), prompt: str = "red circle", server: str = "http://127.0.0.1:5000"
) -> None:
    """Save masks.zip and say what is in it."""
    content = segment(Path(image), prompt, server, save_overlay=True)
    Path("masks.zip").write_bytes(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            print(f"{name}: {len(archive.read(name)):,} bytes")
    print("saved masks.zip")


if __name__ == "__main__":
    main(*sys.argv[1:])
