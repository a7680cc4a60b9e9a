"""POST /v1/images/segmentations.

    python examples/clients/openai_segment.py [SERVER [IMAGE]]

Needs `pip install httpx pillow` and a server: SAM3_WEIGHTS=demo script/web
"""

import base64
import io
import os
import sys
from pathlib import Path

import httpx
from PIL import Image

SHAPES = Path(__file__).resolve().parent.parent / "shapes.png"
server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
path = sys.argv[2] if len(sys.argv) > 2 else str(SHAPES)

try:
    httpx.get(server, timeout=10)
except httpx.TransportError as error:
    sys.exit(f"{server} cannot be reached ({error}); start one: SAM3_WEIGHTS=demo script/web")
token = os.environ.get("SAM3_TOKEN")

with open(path, "rb") as image:
    answer = httpx.post(
        f"{server}/v1/images/segmentations",
        files={"image": image},
        data={"prompt": "red circle"},
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=300,
    )
answer.raise_for_status()
for instance in answer.json()["data"]:
    mask = Image.open(io.BytesIO(base64.b64decode(instance["mask"])))
    print(f"score {instance['score']:.2f}, mask {mask.mode} {mask.size}, box {instance['box']}")
