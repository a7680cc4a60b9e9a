"""Twenty images from dropping them to a saved dataset on the page, with every action counted.

python -m tools.page_actions [--kind yolo]

An action is a key that is pressed, a text that is typed, a click, a drop, or a choice in the
browser's own file dialog. Of the twenty images five have one wrong instance, which is discarded.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, FileChooser, expect

from tests.helpers.browser import Visit, answer_of, chromium
from tests.helpers.web_server import WebServer
from tests.page.test_page_session import crop

COUNT = 20
WRONG = range(2, COUNT, 4)  # the images with one wrong instance


def images() -> list[dict[str, Any]]:
    """Files that differ."""
    return [crop(f"image-{index:02}.png", (index, 0, 400 + index, 300)) for index in range(COUNT)]


class Person:
    """Counts what is done."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.count = 0
        # From its first listener on, Playwright takes the dialog's place; not from one moment to
        # the next, so it is told early.
        visit.page.on("filechooser", lambda _: None)

    def press(self, key: str) -> None:
        self.count += 1
        self.visit.page.keyboard.press(key)

    def tab_to(self, name: str) -> None:
        """Press Tab until the focus is there."""
        for _ in range(60):
            if self.visit.page.evaluate("() => document.activeElement?.dataset.test") == name:
                return
            self.press("Tab")
        raise AssertionError(f"no Tab leads to {name}")

    def type(self, text: str) -> None:
        self.count += 1
        self.visit.page.keyboard.type(text)

    def click(self, name: str, index: int = 0) -> None:
        self.count += 1
        self.visit.find(name).nth(index).click()

    def choose(self, chooser: FileChooser) -> None:
        """All files, in the browser's dialog."""
        self.count += 1
        chooser.set_files(images())

    def at(self, index: int) -> None:
        """Wait until that image is shown; nothing is done."""
        expect(self.visit.find("image-name")).to_contain_text(f"image-{index:02}.png")
        self.visit.expect_count(2)


def by_keyboard(person: Person, kind: str) -> zipfile.ZipFile:
    """From the empty page to the saved file by keys."""
    visit = person.visit
    person.tab_to("choose")
    with visit.page.expect_file_chooser() as chooser:
        person.press("Enter")
    person.choose(chooser.value)
    expect(visit.find("concepts")).to_be_focused()  # by the page, once the image is open
    person.tab_to("concepts")
    person.type("thing")
    person.press("Control+Enter")
    expect(visit.find("all-note")).to_have_text(f"{COUNT} images segmented.", timeout=120_000)
    person.press("Tab")
    for index in range(COUNT):
        person.at(index)
        if index in WRONG:
            person.press("k")
            person.press("d")
        if index < COUNT - 1:
            person.press(".")
    person.press("s")
    while visit.find("format").input_value() != kind:
        person.press(kind[0])
    with visit.page.expect_download() as started:
        person.press("Control+Shift+S")
    return zipfile.ZipFile(started.value.path())


def by_mouse(person: Person, kind: str) -> zipfile.ZipFile:
    """The same by clicks; words have to be typed."""
    visit = person.visit
    with visit.page.expect_file_chooser() as chooser:
        person.click("choose")
    person.choose(chooser.value)
    expect(visit.find("canvas")).to_be_visible()
    person.click("concepts")
    person.type("thing")
    person.click("all-run")
    expect(visit.find("all-note")).to_have_text(f"{COUNT} images segmented.", timeout=120_000)
    for index in range(COUNT):
        person.at(index)
        if index in WRONG:
            person.click("discard-one", 1)
        if index < COUNT - 1:
            person.click("next")
    if visit.find("format").input_value() != kind:
        person.count += 2  # opens the menu, and chooses
        visit.find("format").select_option(kind)
    with visit.page.expect_download() as started:
        person.click("save-all")
    return zipfile.ZipFile(started.value.path())


def main() -> None:
    """Print the number of actions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="yolo")
    kind = parser.parse_args().kind
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        WebServer(Path(folder), {"SAM3_WEIGHTS": "weights/demo"}) as web,
    ):
        url = web.ready().url
        for name, way in (("keyboard", by_keyboard), ("mouse", by_mouse)):
            print(f"{name}: {counted(browser, url, way, kind)} actions")


def counted(browser: Browser, url: str, way: Any, kind: str) -> int:
    """The number of actions of one way, whose archive is checked."""
    with Visit(browser, url) as visit:
        answer = answer_of({(10, 10, 90, 90): 0.9, (100, 100, 180, 180): 0.8}, size=(400, 300))
        visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer))
        person = Person(visit)
        with way(person, kind) as archive:
            assert archive.testzip() is None
            files = archive.namelist()
            assert sum(name.startswith("images/") for name in files) == COUNT, files
            if kind == "yolo":
                labels = [archive.read(name) for name in files if name.startswith("labels/")]
                assert len(labels) == COUNT
                assert sum(map(len, map(bytes.splitlines, labels))) == 2 * COUNT - len(WRONG)
                assert b"thing" in archive.read("data.yaml")
        return person.count


if __name__ == "__main__":
    main()
