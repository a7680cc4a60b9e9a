"""The page in a real browser: what is in sight, on a screen and on a phone, and what it says."""

from __future__ import annotations

from playwright.sync_api import Browser, Locator, expect

from tests.helpers.browser import FOUR, Box, Visit, answered
from tests.helpers.web_server import WebServer

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def eight() -> dict[Box, float]:
    return {(10 + 90 * i, 100, 80 + 90 * i, 200): 0.9 - i / 100 for i in range(8)}


def in_sight(locator: Locator, visit: Visit) -> bool:
    """Whether all of it is on the screen."""
    area = locator.bounding_box()
    size = visit.page.viewport_size
    assert area
    assert size
    return (
        area["x"] >= 0
        and area["y"] >= 0
        and area["x"] + area["width"] <= size["width"]
        and area["y"] + area["height"] <= size["height"]
    )


def test_nothing_scrolls_at_1280_by_800(visit: Visit) -> None:
    answered(visit, eight()).expect_count(8)
    marks = (
        "canvas",
        "concepts",
        "run",
        "threshold",
        "download-zip",
        "save",
        "copy-python",
        "mode-words",
        "discard",
        "undo",
        "hide",
    )
    for name in marks:
        assert in_sight(visit.find(name), visit), name
    for index in range(8):
        assert in_sight(visit.find("instance").nth(index), visit), index
    for selector in ("html", "aside", "#tools"):
        height, seen = visit.page.locator(selector).evaluate(
            "(element) => [element.scrollHeight, element.clientHeight]"
        )
        assert height <= seen, selector
    canvas = visit.find("canvas").bounding_box()
    assert canvas
    assert canvas["width"] * canvas["height"] > 0.6 * 1280 * 800, "the image fills the window"


def test_the_first_screen_has_a_place_to_drop_images(visit: Visit) -> None:
    area = visit.find("empty").bounding_box()
    assert area
    assert area["width"] > 500
    assert area["height"] > 400
    expect(visit.find("empty")).to_contain_text("Drop images here")
    with visit.page.expect_file_chooser() as chooser:
        visit.find("choose").click()
    assert chooser.value.is_multiple()


def test_on_a_phone_the_image_stays_in_sight_with_the_threshold(
    browser: Browser, web: WebServer
) -> None:
    with Visit(browser, web.url, **PHONE) as visit:
        answered(visit, FOUR)
        visit.find("threshold").scroll_into_view_if_needed()
        for name in ("canvas", "threshold"):
            assert in_sight(visit.find(name), visit), name
        canvas = visit.find("canvas").bounding_box()
        assert canvas
        assert canvas["height"] > 250
        before = visit.pixel(240, 230)
        visit.find("threshold").fill("0.2")
        visit.expect_count(4)
        assert visit.pixel(240, 230) != before, "one sees what the slider does"
        visit.find("download-zip").scroll_into_view_if_needed()
        assert in_sight(visit.find("canvas"), visit)


def test_texts_name_the_gestures_of_the_device(browser: Browser, web: WebServer) -> None:
    for options, has, lacks in ((PHONE, "Tap", "lick"), ({}, "Click", "Tap")):
        with Visit(browser, web.url, **options) as visit:
            visit.open()
            for mode in ("words", "object"):
                visit.mode(mode)
                expect(visit.find("mode-note")).to_contain_text(has)
                expect(visit.find("mode-note")).not_to_contain_text(lacks)


def test_details_are_folded_and_the_refinement_is_one_click(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    expect(visit.find("tile-size")).to_be_hidden()
    expect(visit.find("refine")).to_be_visible()


def test_an_error_is_in_plain_words_with_the_servers_sentence_below(visit: Visit) -> None:
    visit.open().ask(",".join(["x"] * 17))
    visit.expect_error("prompts has 17 entries")
    title = visit.page.locator("#error-title")
    expect(title).to_have_text("The server does not accept this question.")
    assert "prompts" not in title.inner_text()


def test_a_server_that_is_gone_is_said_to_be(visit: Visit) -> None:
    visit.open()
    visit.page.route("**/api/segment", lambda route: route.abort())
    visit.find("concepts").fill("star")
    visit.find("concepts").press("Enter")
    visit.expect_error("The server cannot be reached")
    visit.forgive("net::ERR_FAILED")
