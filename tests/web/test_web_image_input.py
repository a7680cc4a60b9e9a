"""Images as programs send them: every form of base64 and of data URLs."""

from __future__ import annotations

import base64
import textwrap
from urllib.parse import quote

import httpx
import pytest

from sam3_image.errors import ImageError
from sam3_image.web.image_input import from_base64, from_data_url
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import CIRCLE, SHAPES

CONTENT = bytes(range(256)) + b"\xfb\xff\xfe"
PLAIN = base64.b64encode(CONTENT + b"x").decode()
URL_SAFE = base64.urlsafe_b64encode(CONTENT + b"x").decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("="),
        URL_SAFE,
        URL_SAFE.rstrip("="),
        "\n".join(textwrap.wrap(PLAIN, 76)),
        "\r\n".join(textwrap.wrap(PLAIN, 64)) + "\r\n",
        f" {PLAIN}\n",
        quote(PLAIN, safe=""),
    ],
)
def test_base64_as_programs_make_it(text: str) -> None:
    assert from_base64(text) == CONTENT + b"x"
    for head in (
        *("data:image/png;base64", "DATA:image/png;base64", "data:image/png;BASE64"),
        *("data:image/png;charset=utf-8;base64", "data:;base64", "data:image/png;base64;x=1"),
        "data:image/png; base64",
    ):
        assert from_data_url(f"{head},{text}") == CONTENT + b"x"
        assert from_base64(f" {head},{text}\n") == CONTENT + b"x"


@pytest.mark.parametrize("text", ["x.png", "", " ", "abcde", "ab=cd", "/etc/passwd.", "é", "a" * 5])
def test_what_is_not_base64_says_so(text: str) -> None:
    with pytest.raises(ImageError, match="which is not base64"):
        from_base64(text)


def test_every_route_takes_every_form(web: WebServer) -> None:
    wrapped = "\n".join(textwrap.wrap(base64.urlsafe_b64encode(SHAPES).decode().rstrip("="), 76))
    url = f"DATA:image/png;charset=utf-8;BASE64,{wrapped}\n"
    image = {"type": "base64", "value": wrapped}
    tasks = [{"id": 1, "data": {"image": url}}]
    view = (
        '<View><Image name="i" value="$image"/><BrushLabels name="t" toName="i">'
        f'<Label value="{CIRCLE}"/></BrushLabels></View>'
    )

    def ask(path: str, body: object, **headers: str) -> httpx.Response:
        answer = web.http.post(path, json=body, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return answer

    ask("/sam3/concept_segment", {"image": image, "prompts": [{"text": CIRCLE}]})
    ask("/cvat/detector", {"image": wrapped, "labels": [CIRCLE]})
    ask("/v1/predict", {"image": url, "params": {"text_prompt": CIRCLE}})
    ask("/api/ai/images/edit", {"input_image": url, "prompt": CIRCLE})
    ask("/label-studio/predict", {"tasks": tasks, "label_config": view})
    made = ask("/v1/predictions", {"input": {"image": url, "prompt": CIRCLE}}, Prefer="wait")
    assert made.json()["status"] == "succeeded"
