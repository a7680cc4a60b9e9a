"""A real browser at the page: Debian's Chromium, driven by Playwright, and what people do there.

Every `Visit` checks at its end that the page broke no rule of its own content policy, threw no
error, and asked no other host for anything.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from sam3_image.masks import Mask, rle

SHAPES = Path(__file__).resolve().parents[2] / "examples" / "shapes.png"
WIDE = {"width": 1280, "height": 800}
SECONDS = 30  # the first answer on a busy machine takes its time

Point = tuple[float, float]
Box = tuple[int, int, int, int]
File = Path | dict[str, Any]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test, saying so, where there is none."""
    path = shutil.which("chromium")
    if path is None:
        # CI has one: script/setup --dev installs it there. On a person's own machine nothing is
        # installed unasked, and pip cannot bring a browser; the other tests need none.
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


FOUR = {
    (100, 100, 200, 200): 0.9,
    (300, 100, 400, 200): 0.6,
    (500, 100, 600, 200): 0.5,
    (150, 150, 250, 250): 0.3,
}


def answer_of(boxes: Mapping[Box, float], size: tuple[int, int] = (800, 600)) -> dict[str, Any]:
    """An answer of /api/segment: one rectangle for each box (x0, y0, x1, y1) and its score.

    size: (width, height) of the image.
    """
    instances = []
    for index, (box, score) in enumerate(boxes.items()):
        x0, y0, x1, y1 = box
        mask = Mask(np.ones((y1 - y0, x1 - x0), bool), y0, x0, size[::-1])
        record = {"concept": f"thing {index}", "score": score, "area": mask.area}
        instances.append({**record, "rle": rle.encode(mask)})
    return {
        "annotations": {"instances": instances},
        "scores": list(boxes.values()),
        "metrics": {"timing.encode": 0.5, "timing.find": 0.25, "encoder_cached": 0},
    }


def answered(visit: Visit, boxes: Mapping[Box, float]) -> Visit:
    """The example, asked for "thing", with that answer to every question."""
    answer = answer_of(boxes)
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer))
    visit.open().ask("thing").expect_status("thing")
    return visit


class Visit:
    """One person's fresh look at the page.

    page: Playwright's. requests: the addresses that the page has asked for so far.
    """

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self._context = browser.new_context(**{"viewport": WIDE, **context})
        self._context.set_default_timeout(SECONDS * 1000)
        self.page: Page = self._context.new_page()
        self.url = url
        self.requests: list[str] = []
        self._faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self._faults.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        # A refusal that the page shows is logged by the browser, too, and is no fault.
        if message.type == "error" and "the server responded with a status" not in message.text:
            self._faults.append(message.text)

    def __enter__(self) -> Visit:
        self.page.goto(self.url)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._context.close()
        if kind is None:
            assert self._faults == []
            foreign = [url for url in self.requests if not url.startswith((self.url, "blob:"))]
            assert foreign == []

    def forgive(self, text: str) -> Visit:
        """Take what the browser logged with this text for no fault."""
        self._faults = [fault for fault in self._faults if text not in fault]
        return self

    def find(self, test: str) -> Locator:
        """The elements with this `data-test`."""
        return self.page.locator(f"[data-test={test}]")

    def open(self, file: File | list[File] = SHAPES) -> Visit:
        """Choose an image, or several, and wait until the first is there."""
        names = [
            Path(file["name"] if isinstance(file, dict) else file).name
            for file in (file if isinstance(file, list) else [file])
        ]
        self.find("file").set_input_files(file)
        expect(self.find("image-name")).to_contain_text(f"{names[0]}, ")
        expect(self.find("canvas")).to_be_visible()
        return self

    def ask(self, words: str) -> Visit:
        """Type words and press Enter."""
        self.find("concepts").fill(words)
        self.find("concepts").press("Enter")
        return self

    def expect_count(self, count: int) -> Visit:
        """Wait for a list of that many instances."""
        expect(self.find("instance")).to_have_count(count)
        return self

    def expect_status(self, pattern: str) -> Visit:
        """Wait for a status that contains the pattern."""
        expect(self.find("status")).to_contain_text(re.compile(pattern))
        return self

    def expect_error(self, pattern: str) -> Visit:
        """Wait for an error that contains the pattern."""
        expect(self.find("error")).to_be_visible()
        expect(self.find("error")).to_contain_text(re.compile(pattern))
        return self

    def names(self) -> list[str]:
        """The concepts in the list."""
        return self.page.locator("[data-test=instance] .name").all_inner_texts()

    def scores(self) -> list[float]:
        """The scores in the list."""
        entries = self.find("instance").all()
        return [float(entry.get_attribute("data-score") or "nan") for entry in entries]

    def on_screen(self, point: Point) -> Point:
        """Where on the screen a point of the image is."""
        self.frame()
        area = self.find("canvas").bounding_box()
        assert area
        scale, x, y = self.view()
        return area["x"] + x + point[0] * scale, area["y"] + y + point[1] * scale

    def view(self) -> tuple[float, float, float]:
        """Pixels of the screen to one of the image, and where in the canvas the image begins."""
        scale, x, y = (self.find("canvas").get_attribute("data-view") or "").split()
        return float(scale), float(x), float(y)

    def frame(self) -> Visit:
        """Wait until the canvas shows all that the page knows."""
        self.page.evaluate(
            """async () => {
                const frame = () => new Promise((done) => requestAnimationFrame(done));
                const canvas = document.querySelector("#canvas");
                await frame();
                do await frame(); while (!canvas.hidden && canvas.dataset.drawn !== "true");
            }"""
        )
        return self

    def mode(self, name: str) -> Visit:
        """Choose Words, Example, Object or Everything, as a click does."""
        self.page.locator(f"label:has([data-test=mode-{name}])").click()
        return self

    def expect_mode(self, name: str) -> Visit:
        """Wait until that mode is chosen."""
        expect(self.find(f"mode-{name}")).to_be_checked()
        return self

    def click(self, *point: float, **options: Any) -> Visit:
        """Click the image; options are Playwright's (button=…)."""
        self.page.mouse.click(*self.on_screen((point[0], point[1])), **options)
        return self

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> Visit:
        """Drag on the image, from one point of it to another."""
        self.page.mouse.move(*self.on_screen((x0, y0)))
        self.page.mouse.down()
        self.page.mouse.move(*self.on_screen(((x0 + x1) / 2, y1)), steps=3)
        self.page.mouse.move(*self.on_screen((x1, y1)), steps=3)
        self.page.mouse.up()
        return self

    def pixel(self, *point: float) -> tuple[int, int, int]:
        """The color that the canvas shows at a point of the image."""
        self.frame()
        red, green, blue = self.find("canvas").evaluate(
            """(canvas, point) => {
                const [scale, x, y] = canvas.dataset.view.split(" ").map(Number);
                const [left, top] = [x + point[0] * scale, y + point[1] * scale]
                    .map((value) => Math.floor(value * devicePixelRatio));
                return [...canvas.getContext("2d").getImageData(left, top, 1, 1).data].slice(0, 3);
            }""",
            list(point),
        )
        return red, green, blue

    def asked(self) -> int:
        """How many times a segmentation was asked for."""
        return sum(url.endswith("/api/segment") for url in self.requests)
