"""A real browser at the page: Debian's Chromium, driven by Playwright, and what people do there.

Every `Visit` checks at its end that the page broke no rule of its own content policy, threw no
error, and asked no other host for anything.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

SHAPES = Path(__file__).resolve().parent.parent / "examples" / "shapes.png"
WIDE = {"width": 1280, "height": 900}
SECONDS = 30  # the first answer on a busy machine takes its time

Point = tuple[float, float]


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

    def find(self, test: str) -> Locator:
        """The elements with this `data-test`."""
        return self.page.locator(f"[data-test={test}]")

    def open(self, file: Path | dict[str, Any] = SHAPES) -> Visit:
        """Choose a picture, and wait until it is there."""
        self.find("file").set_input_files(file)
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

    def on_screen(self, point: Point, size: Point = (800, 600)) -> Point:
        """Where on the screen a point of the picture (width, height = size) is."""
        self.find("canvas").scroll_into_view_if_needed()
        area = self.find("canvas").bounding_box()
        assert area
        return (
            area["x"] + point[0] / size[0] * area["width"],
            area["y"] + point[1] / size[1] * area["height"],
        )

    def click(self, *point: float, size: Point = (800, 600), **options: Any) -> Visit:
        """Click the picture; options are Playwright's (button=…)."""
        self.page.mouse.click(*self.on_screen((point[0], point[1]), size), **options)
        return self

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> Visit:
        """Drag a box on the picture."""
        self.page.mouse.move(*self.on_screen((x0, y0)))
        self.page.mouse.down()
        self.page.mouse.move(*self.on_screen(((x0 + x1) / 2, y1)), steps=3)
        self.page.mouse.move(*self.on_screen((x1, y1)), steps=3)
        self.page.mouse.up()
        return self

    def pixel(self, *point: float, size: Point = (800, 600)) -> tuple[int, int, int]:
        """The color that the canvas shows at a point of the picture."""
        red, green, blue = self.find("canvas").evaluate(
            """(canvas, [x, y]) => [...canvas.getContext("2d").getImageData(
                Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data]
                .slice(0, 3)""",
            [point[0] / size[0], point[1] / size[1]],
        )
        return red, green, blue

    def asked(self) -> int:
        """How many times a segmentation was asked for."""
        return sum(url.endswith("/api/segment") for url in self.requests)
