"""The replicate client against the web server."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.version import Versions

from tests.helpers.client_scenes import Scene
from tests.helpers.cog_server import REPOSITORY, CogServer, data_url
from tests.helpers.web_server import WebServer

SHAPES = REPOSITORY / "examples" / "shapes.png"
REF = "mattsays/sam3-image:d73db077"
CIRCLE = {"prompt": "red circle"}


@pytest.fixture(scope="module")
def client(web: WebServer) -> replicate.Client:
    made = replicate.Client(base_url=web.url, api_token="unused")
    made.poll_interval = 0.02
    return made


def test_20_scenes_equal_predictions(client: replicate.Client, scenes: list[Scene]) -> None:
    for scene in scenes:
        image = io.BytesIO(scene.image)
        image.name = "scene.png"
        inputs = {"image": image, "prompt": scene.names[0], "apply_mask": True}
        assert client.run(REF, input=inputs).read() == scene.result


@pytest.mark.parametrize("ref", [REF, "mattsays/sam3-image"])
@pytest.mark.parametrize("wait", [True, 5, False])
def test_run_in_both_forms_waiting_or_polling(
    client: replicate.Client, server: CogServer, ref: str, wait: bool | int
) -> None:
    with SHAPES.open("rb") as image:
        inputs = {"image": image, "save_overlay": True, "mask_color": "blue", **CIRCLE}
        output = client.run(ref, input=inputs, wait=wait)
    wanted = server.predict(image=SHAPES, save_overlay=True, mask_color="blue", **CIRCLE)
    assert output.read() == wanted.content


def test_a_picture_instead_of_a_zip_and_a_data_url(client: replicate.Client) -> None:
    inputs = {"image": SHAPES, "return_zip": False, "output_format": "jpg", **CIRCLE}
    output = client.run(REF, input=inputs, file_encoding_strategy="base64")
    assert output.url.startswith("data:image/jpeg;base64,")
    assert output.read()[:3] == b"\xff\xd8\xff"


def test_the_inputs_mean_what_they_mean_to_cog(client: replicate.Client, server: CogServer) -> None:
    """Cog fills in defaults, so that the default prompt beside boxes means the boxes alone."""
    for inputs in (
        {"prompt": "person", "boxes": "[[43,43,157,157]]"},
        {"task": "visual", "points": "[[500,300]]", "threshold": 0.5},
        {"prompts": ["red circle", "star"], "unknown": 1},
        {"reference_image": url_of(SHAPES), "reference_boxes": "[[43,43,157,157]]"},
    ):
        output = client.run(REF, input={"image": SHAPES, **inputs})
        assert output.read() == server.predict(image=SHAPES, **inputs).content


def test_create_read_list_and_cancel(client: replicate.Client) -> None:
    made = client.predictions.create(version="v1", input={"image": url_of(SHAPES), **CIRCLE})
    assert made.status in ("starting", "processing")
    made.wait()
    assert made.status == "succeeded"
    assert made.error is None
    assert made.version == "v1"
    assert made.input["prompt"] == "red circle"
    assert len(made.input["image"]) < 100, "the image itself is not given back"
    assert made.metrics["predict_time"] > 0
    assert made.created_at <= made.started_at <= made.completed_at
    assert made.urls["get"].endswith(f"/v1/predictions/{made.id}")
    again = client.predictions.get(made.id)
    assert again.output == made.output
    listed = client.predictions.list()
    assert made.id in [one.id for one in listed.results]
    assert listed.next is None
    made.cancel()
    assert made.status == "succeeded", "a finished prediction stays as it is"


def test_a_canceled_prediction(client: replicate.Client) -> None:
    """The last of a line, each with work for a while, is canceled before its turn comes."""
    made = [
        client.predictions.create(
            version="v",
            input={"image": url_of(SHAPES), "prompts": [f"thing {n} {m}" for m in range(16)]},
        )
        for n in range(6)
    ]
    made[-1].cancel()
    assert made[-1].status == "canceled"
    assert client.predictions.get(made[-1].id).status == "canceled"
    for one in made[:-1]:
        one.wait()
        assert one.status == "succeeded"
    assert client.predictions.get(made[-1].id).output is None


def test_models_versions_and_deployments(client: replicate.Client) -> None:
    version = Versions(client, model=("mattsays", "sam3-image")).get("abc")
    assert version.id == "abc"
    inputs = version.openapi_schema["components"]["schemas"]["Input"]
    assert inputs["properties"]["threshold"]["maximum"] == 1
    assert inputs["required"] == ["image"]
    model = client.models.get("mattsays/sam3-image")
    assert (model.owner, model.name) == ("mattsays", "sam3-image")
    made = client.deployments.predictions.create(
        "mine/deployed", input={"image": url_of(SHAPES), **CIRCLE}
    )
    made.wait()
    assert made.status == "succeeded"


def test_files(client: replicate.Client) -> None:
    file = client.files.create(SHAPES, metadata={"about": "shapes"})
    assert (file.name, file.content_type) == (SHAPES.name, "image/png")
    assert file.size == SHAPES.stat().st_size
    assert file.metadata == {"about": "shapes"}
    assert client.files.get(file.id).checksums == file.checksums
    assert file.id in [one.id for one in client.files.list()]
    output = client.run(REF, input={"image": file.urls["get"], **CIRCLE})
    assert zipfile.is_zipfile(io.BytesIO(output.read()))
    assert client.files.delete(file.id)
    with pytest.raises(ReplicateError, match="No file"):
        client.files.get(file.id)


def test_the_asynchronous_client(web: WebServer) -> None:
    async def run() -> bytes:
        client = replicate.Client(base_url=web.url)
        output = await client.async_run(REF, input={"image": SHAPES, **CIRCLE})
        content: bytes = await output.aread()
        return content

    assert zipfile.is_zipfile(io.BytesIO(asyncio.run(run())))


@pytest.mark.parametrize(
    ("inputs", "detail"),
    [
        ({"threshold": 2}, "threshold is 2; give a number from 0 to 1."),
        ({"prompt": " "}, "prompt is blank (' ')"),
        ({"prompts": ["a"] * 17}, "prompts has 17 entries; give 1 to 16"),
        ({"mask_color": "octarine"}, "mask_color is 'octarine'; choose one of"),
        ({"image": None}, "image is None; give a URL"),
        ({"reference_image": 1, "reference_boxes": "[]"}, "reference_image is 1; give a URL"),
        ({"image": "/etc/passwd"}, "image is '/etc/passwd', which is not a URL"),
    ],
)
def test_what_is_refused_before_the_image_is_read(
    client: replicate.Client, inputs: dict[str, Any], detail: str
) -> None:
    with pytest.raises((ReplicateError, ModelError)) as caught:
        client.run(REF, input={"image": url_of(SHAPES), **inputs})
    assert detail in str(caught.value)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("data:image/png;base64,aGVsbG8=", "accepted are JPEG, PNG, WebP"),
        ("http://127.0.0.1:1/x.png", "leads to 127.0.0.1, which is not an address of the public"),
        ("file:///etc/passwd", "which is not a URL"),
    ],
)
def test_an_image_that_cannot_be_used_fails_the_prediction(
    client: replicate.Client, image: str, error: str
) -> None:
    with pytest.raises(ModelError, match=error) as caught:
        client.run(REF, input={"image": image, **CIRCLE})
    assert caught.value.prediction.status == "failed"


def test_what_is_not_there(client: replicate.Client) -> None:
    with pytest.raises(ReplicateError) as caught:
        client.predictions.get("abc")
    assert caught.value.status == 404
    assert "No job 'abc' is kept here" in (caught.value.detail or "")


@pytest.fixture
def hook() -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """A webhook on this machine: its address and what it got."""
    got: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/hook", got
        listening.shutdown()


def test_webhooks(
    weights: Path, tmp_path: Path, hook: tuple[str, queue.Queue[dict[str, Any]]]
) -> None:
    address, got = hook
    environment = {"SAM3_WEIGHTS": str(weights), "SAM3_FETCH_URLS": "private"}
    with WebServer(tmp_path, environment) as own:
        client = replicate.Client(base_url=own.ready().url)
        made = client.predictions.create(
            version="v", input={"image": url_of(SHAPES), **CIRCLE}, webhook=address
        )
        events = [got.get(timeout=60), got.get(timeout=60)]
        assert [event["status"] for event in events] == ["processing", "succeeded"]
        assert {event["id"] for event in events} == {made.id}
        assert events[1]["output"].startswith("data:application/zip;base64,")
        client.predictions.create(
            version="v",
            input={"image": "data:,x", **CIRCLE},
            webhook=address,
            webhook_events_filter=["completed"],
        )
        assert got.get(timeout=60)["status"] == "failed"
        assert got.empty()


def test_a_webhook_inside_is_refused(client: replicate.Client, web: WebServer) -> None:
    with pytest.raises(ReplicateError, match=r"must be an http\(s\)"):
        client.predictions.create(
            version="v", input={"image": url_of(SHAPES)}, webhook="file:///tmp/x"
        )
    made = client.predictions.create(
        version="v", input={"image": url_of(SHAPES), **CIRCLE}, webhook="http://127.0.0.1:1/"
    )
    made.wait()
    end = time.monotonic() + 20
    while "leads to 127.0.0.1" not in web.log() and time.monotonic() < end:
        time.sleep(0.05)
    assert "webhook, attempt 1 of 3: 'http://127.0.0.1:1/' leads to 127.0.0.1" in web.log()


def url_of(path: Path) -> str:
    return data_url(path.read_bytes())
