"""The page in a real browser: cleaned masks, and images of more than 8 bits."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tests.helpers.browser import FOUR, SECONDS, Visit, answered


def unfold(visit: Visit) -> None:
    """Open More, and what is folded in it."""
    visit.find("more").locator("> summary").click()
    if not visit.find("min-area").is_visible():
        visit.find("cleaning").locator("summary").click()


def more(visit: Visit, name: str, value: str) -> None:
    """Type a setting under More, as a person does."""
    unfold(visit)
    visit.find(name).fill(value)
    visit.find(name).press("Enter")
    visit.page.keyboard.press("Escape")


def copied(visit: Visit) -> str:
    """The question as a program in Python."""
    visit.page.evaluate(
        "() => Object.defineProperty(navigator, 'clipboard', {value: undefined, writable: true})"
    )
    visit.find("copy-python").click()
    return visit.find("copied").input_value()


def test_masks_are_cleaned_as_asked(visit: Visit) -> None:
    asked: list[dict[str, Any]] = []
    visit.page.on(
        "request",
        lambda request: (
            asked.append(json.loads(request.post_data or "{}")["inputs"])
            if request.url.endswith("/api/segment")
            else None
        ),
    )
    visit.open().ask("red circle").expect_count(3)
    more(visit, "fill-holes", "20")
    visit.expect_count(3)
    unfold(visit)
    visit.find("keep-largest").check()
    visit.page.keyboard.press("Escape")
    more(visit, "min-area", "400000")
    visit.expect_count(0)
    cleaning = {"fill_holes": 20, "keep_parts": "largest", "min_area": 400000}
    assert cleaning.items() <= asked[-1].items()
    assert all(text in copied(visit) for text in ("min_area=400000", 'keep_parts="largest"'))
    visit.page.reload()
    expect(visit.find("canvas")).to_be_visible()
    assert visit.find("min-area").input_value() == "400000", "settings outlive a reload"
    more(visit, "min-area", "")
    visit.expect_count(3)
    assert "min_area" not in asked[-1]
    assert asked[-1]["fill_holes"] == 20


def test_a_key_and_a_letter_choose_the_file_to_save(visit: Visit) -> None:
    answered(visit, FOUR)
    visit.find("run").focus()
    visit.page.keyboard.press("s")
    expect(visit.find("format")).to_be_focused()
    visit.page.keyboard.press("y")
    expect(visit.find("format")).to_have_value("yolo")
    with visit.page.expect_download() as started:
        visit.find("save").click()
    assert started.value.suggested_filename == "shapes-yolo.zip"


def deep() -> dict[str, Any]:
    """A 16-bit PNG, 1000 on the left and 3000 on the right: black to a browser."""
    values = np.full((60, 80), 1000, dtype=np.uint16)
    values[:, 40:] = 3000
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return {"name": "deep.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_an_image_of_16_bits_is_shown_as_the_model_sees_it(visit: Visit) -> None:
    def levels() -> tuple[int, int]:
        return visit.pixel(20, 30)[0], visit.pixel(60, 30)[0]

    visit.open(deep())
    left, right = levels()
    assert left < 20
    assert right > 235, "the range that the values need"
    with visit.page.expect_response("**/preview"):
        more(visit, "value-range", "0,4000")
    deadline = time.monotonic() + SECONDS
    while not np.allclose(levels(), (64, 191), atol=3):
        assert time.monotonic() < deadline, levels()
    assert any("value_range=0%2C4000" in url for url in visit.requests)
    visit.ask("star").expect_status("star")
    assert 'value_range="0,4000"' in copied(visit)
    sent = len(visit.requests)
    more(visit, "value-range", "9,1")
    assert len(visit.requests) == sent, "what cannot be is not sent"
    assert visit.find("value-range").evaluate("(input) => input.validationMessage")
    expect(visit.find("image-name")).to_contain_text("deep.png")
