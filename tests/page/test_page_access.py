"""The page in a real browser: by keyboard, on a phone, in the dark, and read aloud."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.helpers.browser import Visit
from tests.helpers.web_server import WebServer


def test_from_an_empty_page_to_a_zip_by_keyboard_alone(visit: Visit, tmp_path: Path) -> None:
    keys = visit.page.keyboard
    tab_to(visit, "Use the example")
    keys.press("Enter")
    expect(visit.find("canvas")).to_be_visible()
    expect(visit.find("concepts")).to_be_focused()
    keys.type("red circle")
    keys.press("Enter")
    visit.expect_count(3)
    with visit.page.expect_download() as started:
        keys.press("Control+s")
    assert started.value.suggested_filename == "shapes-masks.zip"
    tab_to(visit, "Masks (ZIP)")
    with visit.page.expect_download():
        keys.press("Enter")


def tab_to(visit: Visit, name: str) -> None:
    """Press Tab until the focus is on what has this name."""
    for _ in range(30):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate(
            """(name) => { const it = document.activeElement;
            const label = it.labels?.[0]?.textContent ?? it.textContent;
            return label.trim().startsWith(name); }""",
            name,
        ):
            return
    raise AssertionError(f"no Tab leads to {name}")


def test_marks_by_keyboard(visit: Visit) -> None:
    visit.open()
    visit.find("canvas").focus()
    keys = visit.page.keyboard
    for _ in range(6):
        keys.press("ArrowLeft")
    with visit.page.expect_request("**/api/segment") as asked:
        keys.press("Enter")
    inputs = asked.value.post_data_json["inputs"]
    assert inputs["points"] == [[310.5, 300.5]]  # from the middle, six steps of 15
    visit.expect_count(1)
    keys.press("Shift+ArrowLeft")
    with visit.page.expect_request("**/api/segment") as asked:
        keys.press("Shift+Enter")
    inputs = asked.value.post_data_json["inputs"]
    assert inputs["points"][1] == [309.5, 300.5]
    assert inputs["point_labels"] == [1, 0]


def test_a_box_by_keyboard(visit: Visit) -> None:
    visit.open()
    visit.find("canvas").focus()
    keys = visit.page.keyboard
    for _ in range(12):
        keys.press("ArrowLeft")
    for _ in range(5):
        keys.press("ArrowUp")
    keys.press("b")
    for _ in range(8):
        keys.press("ArrowRight")
    for _ in range(8):
        keys.press("ArrowDown")
    with visit.page.expect_request("**/api/segment") as asked:
        keys.press("b")
    inputs = asked.value.post_data_json["inputs"]
    assert inputs["boxes"] == [[220, 225, 341, 346]]
    assert inputs["box_labels"] == [1]


def test_keys_and_their_list(visit: Visit) -> None:
    keys = visit.page.keyboard
    keys.press("?")
    dialog = visit.find("keys")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("raise the threshold")
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    visit.open()
    visit.find("run").focus()
    keys.press("2")
    visit.expect_mode("example")
    keys.press("3")
    visit.expect_mode("object")
    keys.press("4")
    visit.expect_mode("everything")
    keys.press("1")
    visit.expect_mode("words")
    keys.press("x")
    expect(visit.find("off")).to_have_attribute("aria-pressed", "true")
    keys.press("x")
    expect(visit.find("off")).to_have_attribute("aria-pressed", "false")
    visit.ask("red circle").expect_count(3)
    visit.find("run").focus()
    keys.press("]")
    expect(visit.find("threshold-value")).to_have_text("0.55")
    keys.press("[")
    keys.press("[")
    expect(visit.find("threshold-value")).to_have_text("0.45")
    with visit.page.expect_download():
        keys.press("Control+s")
    keys.press("3")
    visit.click(300, 300).expect_count(4)
    keys.press("Escape")
    visit.expect_count(3)


def test_letters_in_words_are_letters_and_keys_can_be_turned_off(visit: Visit) -> None:
    visit.open()
    visit.find("concepts").press_sequentially("x12?")
    assert visit.find("concepts").input_value() == "x12?"
    expect(visit.find("keys")).to_be_hidden()
    visit.find("keys-open").click()
    visit.page.get_by_label("keys of one letter are on").uncheck()
    visit.page.get_by_role("button", name="Close").click()
    visit.find("run").focus()
    visit.page.keyboard.press("2")
    visit.expect_mode("words")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(browser: Browser, web: WebServer, scheme: str) -> None:
    with Visit(browser, web.url, color_scheme=scheme) as visit:
        visit.open().ask("red circle").expect_count(3)
        for selector in (
            "body",
            "#status",
            "#timing summary",
            "#model",
            "#run",
            "#copy-curl",
            "#mode-note",
        ):
            ratio = visit.page.locator(selector).first.evaluate(CONTRAST)
            assert ratio >= 4.5, selector
        dark = visit.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(23, 22, 21)") == (scheme == "dark")


# Of an element's text with the first opaque ground below it, as WCAG computes it.
CONTRAST = """(element) => {
    const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
        const value = part / 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    }).reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
        ground = ground.parentElement;
    const [one, other] = [getComputedStyle(element).color,
        getComputedStyle(ground).backgroundColor].map(light);
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}"""


def test_on_a_narrow_screen_nothing_sticks_out(browser: Browser, web: WebServer) -> None:
    with Visit(browser, web.url, viewport={"width": 390, "height": 800}) as visit:
        visit.open().ask("red circle").expect_count(3)
        visit.find("copy-curl").click()
        width = visit.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 390
        for test in ("canvas", "concepts", "run", "threshold", "download-zip"):
            area = visit.find(test).bounding_box()
            assert area
            assert area["x"] >= 0
            assert area["x"] + area["width"] <= 390
        visit.page.mouse.move(*visit.on_screen((110, 110)))
        expect(visit.page.locator(".lit")).to_have_count(1)
        canvas = visit.find("canvas").bounding_box()
        assert canvas
        assert canvas["y"] >= 0, "the list, far below, does not pull the image away"


def test_what_a_screen_reader_is_told(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    page = visit.page
    expect(page.get_by_role("status")).to_have_text(
        re.compile(r"^3 instances of red circle above 0\.50(; \d+ weaker)?\.$")
    )
    expect(page.get_by_role("textbox", name="Words, one concept")).to_be_visible()
    expect(page.get_by_role("slider", name="Scores above")).to_be_visible()
    expect(page.get_by_role("group", name="What to segment by")).to_be_visible()
    listed = page.get_by_role("list", name="Instances")
    expect(listed.get_by_role("button", name="1 red circle")).to_be_visible()
    expect(listed.get_by_role("button", name="Discard number 1")).to_be_visible()
    expect(page.get_by_role("application", name="Arrow keys move a crosshair")).to_be_visible()
    visit.ask(",".join(["x"] * 17))
    expect(page.get_by_role("alert")).to_contain_text("prompts has 17 entries")
