"""A cut-out as Oxen's API makes it.

    python examples/clients/oxen_edit.py [SERVER [IMAGE]]

Needs `pip install httpx` and a server: SAM3_WEIGHTS=demo script/web
"""

import base64
import os
import sys
import time
from pathlib import Path

import httpx

SHAPES = Path(__file__).resolve().parent.parent / "shapes.png"
server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
path = sys.argv[2] if len(sys.argv) > 2 else str(SHAPES)

try:
    httpx.get(server, timeout=10)
except httpx.TransportError as error:
    sys.exit(f"{server} cannot be reached ({error}); start one: SAM3_WEIGHTS=demo script/web")

with open(path, "rb") as image:
    address = "data:image/png;base64," + base64.b64encode(image.read()).decode()
body = {"model": "sam-3-image", "input_image": address, "prompt": "red circle"}
token = os.environ.get("SAM3_TOKEN")
headers = {"Authorization": f"Bearer {token}"} if token else {}

with httpx.Client(base_url=server, headers=headers, timeout=300) as client:
    answer = client.post("/api/ai/images/edit", json=body).raise_for_status().json()
    picture = client.get(answer["images"][0]["url"]).raise_for_status()
    print(f"edited: {len(picture.content):,} bytes of {picture.headers['content-type']}")

    queued = client.post("/api/ai/queue", json=body).raise_for_status().json()["generations"][0]
    while queued["status"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.1)
        queued = client.get(f"/api/ai/queue/{queued['generation_id']}").json()
    print(f"queued: {queued['status']}, {queued.get('result_url')}")
