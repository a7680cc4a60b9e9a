"""What Label Studio asks a backend.

Run it to see that the backend answers before you connect a project to SERVER/label-studio:

    python examples/clients/label_studio_backend.py [SERVER [IMAGE]]

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

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="tag" toName="image">
    <Label value="red circle"/><Label value="star"/>
  </BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="star"/></KeyPointLabels>
</View>"""

with open(path, "rb") as file:
    image = "data:image/png;base64," + base64.b64encode(file.read()).decode()
batch = {"tasks": [{"id": 1, "data": {"image": image}}], "label_config": CONFIG}
click = {
    "type": "keypointlabels",
    "value": {"x": 62.5, "y": 50, "width": 0.5, "keypointlabels": ["star"]},
    "is_positive": True,
}
token = os.environ.get("SAM3_TOKEN")
headers = {"Authorization": f"Bearer {token}"} if token else {}

with httpx.Client(base_url=f"{server}/label-studio", headers=headers, timeout=300) as client:
    print("health:", client.get("/health").raise_for_status().json()["status"])
    print("setup:", client.post("/setup", json={}).raise_for_status().json())
    answer = client.post("/predict", json=batch).raise_for_status().json()
    for region in answer["results"][0]["result"]:
        size = len(region["value"]["rle"])
        print(f"batch: {region['value']['brushlabels']}, {size} bytes, {region['score']:.2f}")
    interactive = {**batch, "params": {"context": {"result": [click]}}}
    answer = client.post("/predict", json=interactive).raise_for_status().json()
    print("click:", answer["results"][0]["result"][0]["value"]["brushlabels"])
