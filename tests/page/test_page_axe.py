"""axe-core over every state of the page, light and dark, on a screen and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.helpers.browser import FOUR, Box, Visit, answered
from tests.helpers.web_server import WebServer
from tests.page.test_page_session import three

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def empty(_: Visit) -> None:
    """Nothing was done yet."""


def some(visit: Visit) -> None:
    answered(visit, FOUR).expect_count(2)
    visit.find("instance").first.click()
    visit.find("discard-one").nth(1).click()


def many(visit: Visit) -> None:
    boxes: dict[Box, float] = {
        (10 + 38 * (i % 20), 10 + 55 * (i // 20), 40 + 38 * (i % 20), 50 + 55 * (i // 20)): 0.9
        for i in range(200)
    }
    answered(visit, boxes).expect_count(200)


def nothing(visit: Visit) -> None:
    answered(visit, {(1, 1, 90, 90): 0.2}).expect_count(0)


def error(visit: Visit) -> None:
    visit.open().ask(",".join(["x"] * 17)).expect_error("17 entries")


def several(visit: Visit) -> None:
    visit.open(three())
    visit.ask("red circle").expect_count(3)


def more(visit: Visit) -> None:
    answered(visit, FOUR)
    visit.find("more").locator("> summary").click()
    visit.find("cleaning").locator("summary").click()


def timing(visit: Visit) -> None:
    answered(visit, FOUR)
    visit.find("timing").locator("summary").click()


def session(visit: Visit) -> None:
    answered(visit, FOUR)
    visit.find("session-menu").locator("summary").click()


def clearing(visit: Visit) -> None:
    session(visit)
    visit.find("clear-session").click()


def keys(visit: Visit) -> None:
    visit.page.keyboard.press("?")


def marks(visit: Visit) -> None:
    visit.open().mode("object").click(300, 300).expect_count(1)


STATES: list[Callable[[Visit], None]] = [
    empty,
    some,
    many,
    nothing,
    error,
    several,
    more,
    timing,
    session,
    clearing,
    keys,
    marks,
]


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core."""
    package = pytest.importorskip("axe_playwright_python", reason="pip install -r requirements-dev")
    return (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_is_broken(
    browser: Browser, web: WebServer, axe: str, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 800 if width > 800 else 844}
    broken = []
    for state in STATES:
        with Visit(browser, web.url, color_scheme=scheme, viewport=size) as visit:
            state(visit)
            broken += [(state.__name__, *rule) for rule in violations(visit, axe)]
    assert broken == []


def violations(visit: Visit, axe: str) -> list[tuple[str, str]]:
    """The rules that the page breaks by now, each with the elements that do."""
    visit.page.evaluate(axe)
    found = visit.page.evaluate("(tags) => axe.run({runOnly: tags})", RULES)
    return [
        (rule["id"], node["html"][:200]) for rule in found["violations"] for node in rule["nodes"]
    ]
