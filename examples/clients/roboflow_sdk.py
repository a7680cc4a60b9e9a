"""Roboflow's SDK against this server.

    python examples/clients/roboflow_sdk.py [SERVER [IMAGE]]

Needs `pip install inference-sdk` (in an environment of its own: it pins older NumPy and Pillow)
and a server: SAM3_WEIGHTS=demo script/web
"""

import os
import sys
from pathlib import Path

import cv2
import requests
import supervision as sv
from inference_sdk import InferenceHTTPClient

SHAPES = Path(__file__).resolve().parent.parent / "shapes.png"
server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
path = sys.argv[2] if len(sys.argv) > 2 else str(SHAPES)

try:
    requests.get(server, timeout=10)
except requests.ConnectionError as error:
    sys.exit(f"{server} cannot be reached ({error}); start one: SAM3_WEIGHTS=demo script/web")

client = InferenceHTTPClient(api_url=server, api_key=os.environ.get("SAM3_TOKEN"))
answer = client.sam3_concept_segment(
    path,
    prompts=[
        {"type": "text", "text": "red circle"},
        {"type": "text", "text": "square", "output_prob_thresh": 0.3},
    ],
)
for result in answer["prompt_results"]:
    scores = [f"{found['confidence']:.2f}" for found in result["predictions"]]
    print(f"{result['echo']['text']}: {len(scores)} found, {', '.join(scores)}")

height, width = cv2.imread(path).shape[:2]
detections = sv.Detections.from_sam3(answer, resolution_wh=(width, height))
print(f"as supervision.Detections: {len(detections)} masks of {width}×{height} pixels")
