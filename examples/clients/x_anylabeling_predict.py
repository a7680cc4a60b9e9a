"""What X-AnyLabeling asks a server.

    python examples/clients/x_anylabeling_predict.py [SERVER [IMAGE]]

Needs `pip install httpx` and a server: SAM3_WEIGHTS=demo script/web
"""

import base64
import os
import sys
from pathlib import Path

import httpx

SHAPES = Path(__file__).resolve().parent.parent / "shapes.png"
server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
path = sys.argv[2] if len(sys.argv) > 2 else str(SHAPES)

try:
    httpx.get(server, timeout=10)
except httpx.TransportError as error:
    sys.exit(f"{server} cannot be reached ({error}); start one: SAM3_WEIGHTS=demo script/web")

with open(path, "rb") as file:
    image = "data:image/png;base64," + base64.b64encode(file.read()).decode()
headers = {"Token": os.environ.get("SAM3_TOKEN", "")}

with httpx.Client(base_url=server, headers=headers, timeout=300) as client:
    (model,) = client.get("/v1/models").raise_for_status().json()["data"]
    for params in (
        {"text_prompt": "red circle, star", "conf_threshold": 0.5},
        {"marks": [{"type": "point", "data": [500, 300], "label": 1}]},
    ):
        body = {"model": model, "image": image, "params": params}
        answer = client.post("/v1/predict", json=body).raise_for_status().json()
        for shape in answer["data"]["shapes"]:
            print(f"{shape['label']}: {len(shape['points'])} points, score {shape['score']:.2f}")
