"""The replicate client against this server.

    python examples/clients/replicate_run.py [SERVER [IMAGE]]

Needs `pip install replicate` and a server: SAM3_WEIGHTS=demo script/web
Owner, name and version may be any.
"""

import io
import os
import sys
import zipfile
from pathlib import Path

import httpx
import replicate

SHAPES = Path(__file__).resolve().parent.parent / "shapes.png"
server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
path = sys.argv[2] if len(sys.argv) > 2 else str(SHAPES)

try:
    httpx.get(server, timeout=10)
except httpx.TransportError as error:
    sys.exit(f"{server} cannot be reached ({error}); start one: SAM3_WEIGHTS=demo script/web")

client = replicate.Client(base_url=server, api_token=os.environ.get("SAM3_TOKEN"))
with open(path, "rb") as image:
    output = client.run(
        "mattsays/sam3-image:d73db077",
        input={"image": image, "prompt": "red circle", "save_overlay": True},
    )
with zipfile.ZipFile(io.BytesIO(output.read())) as archive:
    for name in archive.namelist():
        print(f"{name}: {len(archive.read(name)):,} bytes")
