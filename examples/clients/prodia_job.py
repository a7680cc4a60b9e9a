"""A job as Prodia's API takes it.

    python examples/clients/prodia_job.py [SERVER [IMAGE]]

Needs `pip install httpx` and a server: SAM3_WEIGHTS=demo script/web
"""

import json
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

job = {"type": "inference.sam3.segment.v1", "config": {"prompt": "red circle"}}
with open(path, "rb") as image:
    files = {
        "job": ("job.json", json.dumps(job), "application/json"),
        "input": (os.path.basename(path), image.read(), "image/png"),
    }
token = os.environ.get("SAM3_TOKEN")
headers = {"Authorization": f"Bearer {token}"} if token else {}

with httpx.Client(base_url=server, headers=headers, timeout=300) as client:
    # In one request: the job and a PNG for each instance, as multipart/form-data.
    answer = client.post("/v2/job", files=files).raise_for_status()
    print(f"/v2/job: {len(answer.content):,} bytes of {answer.headers['content-type'][:19]}")

    # Or started now and fetched later.
    started = client.post("/v2/job/async", files=files).raise_for_status().json()
    here = f"/v2/job/async/{started['id']}"
    while client.get(f"{here}/job.state.current").text == "processing":
        time.sleep(0.1)
    for name in client.get(f"{here}/output").raise_for_status().json():
        content = client.get(f"{here}/output/{name}").raise_for_status().content
        print(f"{name}: {len(content):,} bytes")
