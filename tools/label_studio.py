"""A real Label Studio against this server, by hand: it installs 800 MB, so no test does it.

    python3.11 -m venv /tmp/label-studio && /tmp/label-studio/bin/pip install label-studio==1.23.2
    .venv/bin/python -m tools.label_studio /tmp/label-studio

It starts both servers, makes a project for brushes and one for polygons, uploads pictures,
connects the backend with a token, asks for batch predictions and for interactive ones, and
compares every mask with what the Roboflow route gives for the same question. Label Studio's own
SDK decodes the brush.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.helpers.client_scenes import decoded
from tests.helpers.cog_server import REPOSITORY, free_port, png
from tests.helpers.second_scenes import arranged
from tests.helpers.web_server import WebServer

NAMES = ["red circle", "blue square", "red circle", "green star"]
LABELS = ["red circle", "blue square", "green star", "purple heart"]
TOKEN = secrets.token_hex(16)
PASSWORD = secrets.token_hex(8)
USER = "somebody@example.com"
DECODE = """
import json, sys
from label_studio_sdk.converter.brush import decode_rle
print(json.dumps([int(v) for v in decode_rle(json.load(sys.stdin))]))
"""


def main(folder: str) -> None:
    """Run everything; the first difference is an AssertionError."""
    python = Path(folder) / "bin" / "python"
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        port = free_port()
        studio = start_label_studio(Path(folder), temporary, port)
        try:
            client = sign_in(f"http://127.0.0.1:{port}")
            personal = client.post("/api/token/").raise_for_status().json()["token"]
            environment = {
                "SAM3_WEIGHTS": str(REPOSITORY / "weights" / "demo"),
                "SAM3_TOKEN": TOKEN,
                "SAM3_FETCH_URLS": "off",
                "SAM3_LABEL_STUDIO_URL": f"http://127.0.0.1:{port}",
                "SAM3_LABEL_STUDIO_TOKEN": personal,
            }
            with WebServer(temporary / "web", environment) as web:
                web.ready()
                for tag in ("BrushLabels", "PolygonLabels"):
                    check_project(client, web, tag, python)
                say("the personal token is in no log", personal not in web.log())
        finally:
            studio.send_signal(signal.SIGTERM)
            studio.wait(30)


def say(what: str, holds: bool) -> None:
    """Print a line of the report; stops at the first that does not hold."""
    print(f"{'ok' if holds else 'NOT'}: {what}", flush=True)
    assert holds, what


def start_label_studio(folder: Path, temporary: Path, port: int) -> subprocess.Popen[bytes]:
    """Label Studio on SQLite, allowed to call an address of this machine."""
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(folder / "bin" / "label-studio", "start", "--no-browser", "--port", str(port)),
            *("--data-dir", temporary / "studio", "--username", USER, "--password", PASSWORD),
        ],
        env={**os.environ, "USE_DEFAULT_BANNED_SUBNETS": "false", "COLLECT_ANALYTICS": "false"},
        stdout=(temporary / "studio.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    while time.monotonic() - began < 900:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                print(f"Label Studio is up after {time.monotonic() - began:.0f} s", flush=True)
                return process
        except httpx.TransportError:
            time.sleep(0.5)
    process.kill()
    raise AssertionError((temporary / "studio.log").read_text()[-3000:])


def sign_in(address: str) -> httpx.Client:
    """A client with the session of the user, as a browser has it."""
    client = httpx.Client(base_url=address, timeout=120, follow_redirects=True)
    page = client.get("/user/login/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    form = {"email": USER, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    client.post("/user/login/", data=form).raise_for_status()
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
    return client


def check_project(client: httpx.Client, web: WebServer, tag: str, python: Path) -> None:
    """One project whose answers go to `tag`."""
    print(f"-- {tag}", flush=True)
    images = [png(arranged(NAMES, (640 - 40 * n, 480))[0]) for n in range(3)]
    project = client.post("/api/projects", json={"title": tag, "label_config": config(tag)})
    number = project.raise_for_status().json()["id"]
    for index, image in enumerate(images):
        files = {"file": (f"picture-{index}.png", image, "image/png")}
        client.post(f"/api/projects/{number}/import", files=files).raise_for_status()
    backend = {
        "url": f"{web.url}/label-studio",
        "project": number,
        "title": "sam3-image",
        "is_interactive": True,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "sam3",
    }
    refused = client.post("/api/ml/", json={**backend, "basic_auth_pass": "wrong"})
    say(f"a wrong token is refused: {refused.status_code}", refused.status_code == 400)
    connected = client.post("/api/ml/", json={**backend, "basic_auth_pass": TOKEN})
    say(f"the backend is connected: {connected.status_code}", connected.status_code == 201)
    tasks = client.get("/api/tasks", params={"project": number}).json()["tasks"]
    say(f"{len(tasks)} pictures are uploaded", len(tasks) == len(images))

    action = client.post(
        "/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": number},
        json={"selectedItems": {"all": True, "excluded": []}, "project": number},
    )
    say(f"batch predictions: {action.status_code}", action.status_code == 200)
    for task in sorted(tasks, key=lambda task: task["id"]):
        image = images[int(re.search(r"picture-(\d)", task["data"]["image"])[1])]  # type: ignore[index]
        check_batch(client, web, task["id"], image, python)
        check_clicks(client, web, connected.json()["id"], task["id"], image, python)


def check_batch(
    client: httpx.Client, web: WebServer, task: int, image: bytes, python: Path
) -> None:
    """The stored predictions of one task against the Roboflow route."""
    (stored,) = client.get("/api/predictions", params={"task": task}).json()
    say(f"task {task}: model_version is {stored['model_version']}", bool(stored["model_version"]))
    prompts = [{"text": label} for label in LABELS]
    expected = sam3(web, "concept_segment", image, prompts=prompts)["prompt_results"]
    wanted = {
        label: [decoded(found["masks"]) for found in result["predictions"]]
        for label, result in zip(LABELS, expected, strict=True)
    }
    compare(f"task {task}", stored["result"], wanted, python)


def check_clicks(
    client: httpx.Client, web: WebServer, backend: int, task: int, image: bytes, python: Path
) -> None:
    """Interactive: two points, then a box, then an error."""
    width, height = (int.from_bytes(image[16 + n : 20 + n], "big") for n in (0, 4))
    _, drawn = arranged(NAMES, (width, height))
    x0, y0, x1, y1 = drawn[1].box
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    corner = (3.0, 3.0)
    points = [
        keypoint(point, (width, height), positive)
        for point, positive in ((middle, True), (corner, False))
    ]
    box = {
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "value": {
            **{"x": x0 / width * 100, "y": y0 / height * 100, "rotation": 0},
            **{"width": (x1 - x0) / width * 100, "height": (y1 - y0) / height * 100},
            "rectanglelabels": [LABELS[1]],
        },
    }
    clicks = [{"x": x, "y": y, "positive": on} for (x, y), on in ((middle, True), (corner, False))]
    center = {"x": middle[0], "y": middle[1], "width": x1 - x0, "height": y1 - y0}
    for name, regions, prompt in (
        ("points", points, {"points": clicks}),
        ("box", [box], {"box": center}),
    ):
        answer = client.post(
            f"/api/ml/{backend}/interactive-annotating",
            json={"task": task, "context": {"result": regions}},
        )
        assert answer.status_code == 200, answer.text
        result = answer.json()["data"]["result"]
        (wanted,) = sam3(
            web, "visual_segment", image, prompts={"prompts": [prompt]}, multimask_output=False
        )["predictions"]
        compare(f"task {task}, {name}", result, {LABELS[1]: [decoded(wanted["masks"])]}, python)
    outside = client.post(
        f"/api/ml/{backend}/interactive-annotating",
        json={"task": task, "context": {"result": [keypoint((-50, 5), (width, height), True)]}},
    )
    print(f"   a point outside: {outside.status_code} {outside.text[:160]}", flush=True)


def compare(
    where: str, regions: list[dict[str, Any]], wanted: dict[str, list[np.ndarray]], python: Path
) -> None:
    """Whether the regions of each label are the masks that are wanted."""
    count = sum(len(masks) for masks in wanted.values())
    brush = [region for region in regions if region["type"] == "brushlabels"]
    if not brush:
        parts = {tuple(region["value"]["polygonlabels"]) for region in regions}
        holds = len(regions) >= count and parts == {(k,) for k, v in wanted.items() if v}
        say(f"{where}: {len(regions)} polygons for {count} masks of {sorted(parts)}", holds)
        return
    got: dict[str, list[np.ndarray]] = {label: [] for label in wanted}
    for region in brush:
        size = (region["original_height"], region["original_width"])
        (label,) = region["value"]["brushlabels"]
        got[label].append(brush_mask(region["value"]["rle"], size, python))
    equal = all(
        len(got[label]) == len(masks)
        and all(np.array_equal(a, b) for a, b in zip(got[label], masks, strict=True))
        for label, masks in wanted.items()
    )
    say(f"{where}: {len(brush)} brushes decode to exactly the {count} masks", equal)


def brush_mask(rle: list[int], size: tuple[int, int], python: Path) -> np.ndarray:
    """What Label Studio's own SDK makes of a brush: alpha over a half."""
    done = subprocess.run(
        [python, "-c", DECODE], input=json.dumps(rle), capture_output=True, text=True, check=True
    )
    values = np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.uint8)
    return values.reshape(*size, 4)[:, :, 3] > 127


def keypoint(point: tuple[float, float], size: tuple[int, int], positive: bool) -> dict[str, Any]:
    """A smart keypoint as Label Studio's interface sends it."""
    return {
        "type": "keypointlabels",
        "from_name": "point",
        "to_name": "image",
        "original_width": size[0],
        "original_height": size[1],
        "is_positive": positive,
        "value": {
            **{"x": point[0] / size[0] * 100, "y": point[1] / size[1] * 100, "width": 0.5},
            "keypointlabels": [LABELS[1]],
        },
    }


def sam3(web: WebServer, route: str, image: bytes, **question: Any) -> dict[str, Any]:
    """The answer of the Roboflow route, as run lengths."""
    body = {"image": {"type": "base64", "value": base64.b64encode(image).decode()}, **question}
    answer = web.http.post(
        f"/sam3/{route}",
        json={**body, "format": "rle"},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def config(tag: str) -> str:
    """A labeling configuration whose masks go to `tag`."""
    labels = "".join(f'<Label value="{label}"/>' for label in LABELS)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<{tag} name="tag" toName="image">{labels}</{tag}>'
        f'<KeyPointLabels name="point" toName="image" smart="true">{labels}</KeyPointLabels>'
        f'<RectangleLabels name="box" toName="image" smart="true">{labels}</RectangleLabels></View>'
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
