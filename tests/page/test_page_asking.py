"""The page in a real browser: words, clicks, boxes, and that only the newest answer counts."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, Route, expect

from tests.helpers.browser import Visit
from tests.helpers.web_server import WebServer

RED_CIRCLES = [(100, 100), (100, 300), (700, 500)]  # in examples/shapes.png
BLUE_SQUARE, HEART, RING = (300, 100), (300, 300), (70, 460)
NEAR = 12  # a tint moves a color further than this


def far(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) > NEAR


def test_words_find_every_instance_and_tint_it(visit: Visit) -> None:
    visit.open()
    places = [*RED_CIRCLES, BLUE_SQUARE]
    # Beside the middle, where the number is.
    before = [visit.pixel(x + 30, y + 30) for x, y in places]
    visit.ask("red circle").expect_count(3).expect_status("3 instances of red circle")
    after = [visit.pixel(x + 30, y + 30) for x, y in places]
    changed = [far(old, new) for old, new in zip(before, after, strict=True)]
    assert changed == [True, True, True, False]
    assert visit.names() == ["red circle"] * 3
    assert visit.scores() == sorted(visit.scores(), reverse=True)
    assert min(visit.scores()) > 0.5


def test_several_concepts_one_per_line_or_comma(visit: Visit) -> None:
    visit.open()
    words = visit.find("concepts")
    words.fill("red circle, star")
    words.press("Shift+Enter")
    words.press_sequentially("purple heart")
    assert visit.asked() == 0, "Shift+Enter begins a line and asks nothing"
    words.press("Enter")
    visit.expect_count(5)
    assert sorted(set(visit.names())) == ["purple heart", "red circle", "star"]


def test_the_button_asks_as_enter_does(visit: Visit) -> None:
    visit.open()
    visit.find("concepts").fill("blue square")
    visit.find("run").click()
    visit.expect_count(1)


def test_a_click_picks_the_object_under_it(visit: Visit) -> None:
    visit.open()
    before = visit.pixel(280, 280), visit.pixel(110, 110)
    visit.click(*HEART).expect_count(1).expect_status("1 object from 1 point")
    assert far(visit.pixel(280, 280), before[0])
    assert not far(visit.pixel(110, 110), before[1])
    visit.expect_mode("object")


def test_shift_and_the_right_button_mean_off_it(visit: Visit) -> None:
    visit.open()
    with visit.page.expect_request("**/api/segment") as first:
        visit.click(*RING)
    assert inputs(first.value)["point_labels"] == [1]
    with visit.page.expect_request("**/api/segment") as second:
        visit.click(100, 500, button="right")
    assert inputs(second.value)["point_labels"] == [1, 0]
    with visit.page.expect_request("**/api/segment") as third:
        visit.page.keyboard.down("Shift")
        visit.click(200, 500)
        visit.page.keyboard.up("Shift")
    assert inputs(third.value)["point_labels"] == [1, 0, 0]
    x, y = inputs(second.value)["points"][1]
    assert abs(x - 100) <= 1
    assert abs(y - 500) <= 1
    visit.expect_count(1).expect_status("from 3 points")


PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def test_a_finger_draws_a_box_and_does_not_scroll(browser: Browser, web: WebServer) -> None:
    with Visit(browser, web.url, **PHONE) as visit:
        visit.open().mode("example")
        finger = visit.page.context.new_cdp_session(visit.page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            touches = [{"x": x, "y": y} for x, y in map(visit.on_screen, points)]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        with visit.page.expect_request("**/api/segment") as asked:
            touch("touchStart", (43, 557))
            for y in (500, 400, 300, 150, 43):
                touch("touchMove", (157, y))
            touch("touchEnd")
        sent = inputs(asked.value)["boxes"][0]
        assert all(abs(a - b) <= 3 for a, b in zip(sent, (43, 43, 157, 557), strict=True))
        assert visit.page.evaluate("() => scrollY") == 0


def test_touch_has_a_switch_for_not_this(browser: Browser, web: WebServer) -> None:
    with Visit(browser, web.url, **PHONE) as visit:
        visit.open()
        visit.page.touchscreen.tap(*visit.on_screen(RING))
        visit.expect_count(1)
        visit.find("off").click()
        with visit.page.expect_request("**/api/segment") as asked:
            visit.page.touchscreen.tap(*visit.on_screen((100, 500)))
        assert inputs(asked.value)["point_labels"] == [1, 0]


def test_a_drag_finds_all_that_look_like_it(visit: Visit) -> None:
    visit.open().mode("example").drag(43, 43, 157, 157).expect_count(3)
    visit.expect_status("3 instances of 1 example")
    assert visit.names() == ["example"] * 3


def test_a_drag_means_this_object_by_a_visible_switch(visit: Visit) -> None:
    visit.open().mode("object")
    visit.drag(43, 43, 157, 157).expect_count(1).expect_status("1 object from a box")
    visit.mode("example").drag(43, 43, 157, 157).expect_status("3 instances of 1 example")
    visit.expect_count(4)


def test_words_and_examples_together(visit: Visit) -> None:
    visit.open().ask("circle")
    visit.expect_status("circle")
    visit.mode("example")
    with visit.page.expect_request("**/api/segment") as asked:
        visit.drag(43, 43, 157, 157)
    visit.find("off").click()
    with visit.page.expect_request("**/api/segment") as asked:
        visit.drag(243, 443, 357, 557)
    sent = inputs(asked.value)
    assert sent["prompts"] == ["circle"]
    assert sent["box_labels"] == [1, 0]
    assert [abs(a - b) <= 1 for a, b in zip(sent["boxes"][1], (243, 443, 357, 557), strict=True)]
    visit.expect_count(3).expect_status("circle and 2 examples")


def test_words_after_a_click_search_again(visit: Visit) -> None:
    """A click adds one object to what the words found; Enter in the words asks for them."""
    visit.open().ask("red circle").expect_count(3)
    visit.mode("object").click(*HEART).expect_count(4).expect_status("1 object from 1 point")
    visit.find("concepts").fill("star")
    visit.find("concepts").press("Enter")
    visit.expect_mode("words").expect_status("1 instance of star").expect_count(2)


def test_undo_and_clear(visit: Visit) -> None:
    visit.open().click(*RING).expect_count(1)
    visit.click(100, 500, button="right").expect_status("from 2 points")
    visit.find("undo").click()
    visit.expect_status("from 1 point")
    visit.find("run").focus()
    visit.page.keyboard.press("Control+z")
    visit.expect_count(0).expect_status("Type what to find")
    visit.click(*HEART).expect_count(1)
    visit.find("clear").click()
    visit.expect_count(0)
    expect(visit.find("clear")).to_be_disabled()
    visit.find("undo").click()
    visit.expect_count(1)
    visit.find("redo").click()
    visit.expect_count(0)


def test_three_candidates_of_a_click(visit: Visit) -> None:
    visit.open().click(500, 300).expect_count(1)
    visit.find("more").locator("> summary").click()
    visit.page.get_by_label("three candidates of a click").check()
    visit.expect_count(3).expect_status("3 candidates from 1 point")
    shown = canvas_content(visit)
    visit.find("instance").nth(2).click()
    assert canvas_content(visit) != shown, "another candidate looks different"
    visit.find("run").focus()
    visit.page.keyboard.press("Escape")
    expect(visit.find("instance").nth(2)).to_have_attribute("aria-pressed", "false")
    visit.page.keyboard.press("Escape")
    visit.expect_count(0).expect_status("Type what to find")


def test_a_second_question_wins_over_a_slow_first(visit: Visit) -> None:
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    visit.page.route("**/api/segment", hold_the_first)
    visit.open().ask("red circle").ask("blue square").expect_count(1)
    held[0].fulfill(json=EMPTY)  # too late
    visit.page.evaluate("() => new Promise((done) => setTimeout(done, 200))")
    assert visit.names() == ["blue square"]
    visit.expect_status("blue square")


def test_it_is_busy_only_when_one_has_to_wait(visit: Visit) -> None:
    visit.open()
    held: list[Route] = []
    visit.page.route("**/api/segment", lambda route: held.append(route))
    visit.ask("red circle").expect_status("Segmenting")
    expect(visit.page.locator("#view")).to_have_attribute("aria-busy", "true")
    expect(visit.find("busy")).to_be_visible()
    held[0].continue_()
    visit.expect_count(3)
    expect(visit.find("busy")).to_be_hidden()
    expect(visit.page.locator("#view")).to_have_attribute("aria-busy", "false")


def test_a_quick_answer_does_not_flicker(visit: Visit) -> None:
    visit.open()
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=EMPTY))
    visit.page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => window.seen.push(
            document.querySelector("#status").textContent))
            .observe(document.querySelector("#status"), {childList: true}); }"""
    )
    visit.ask("red circle").expect_status("Nothing found for red circle")
    assert visit.page.evaluate("() => window.seen") == ["Nothing found for red circle."]


EMPTY: dict[str, Any] = {"annotations": {"instances": []}, "scores": [], "metrics": {}}


def test_the_servers_sentence_is_shown_and_goes_with_the_next_answer(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    visit.ask(",".join(["x"] * 17)).expect_error("prompts has 17 entries")
    visit.expect_count(0)
    visit.ask("red circle").expect_count(3)
    expect(visit.find("error")).to_be_hidden()


def test_the_demo_says_what_it_knows(visit: Visit) -> None:
    expect(visit.find("model")).to_be_visible()
    expect(visit.find("model")).to_contain_text(re.compile("Demo.*drawn shapes"))


def inputs(request: Any) -> dict[str, Any]:
    return request.post_data_json["inputs"]


def canvas_content(visit: Visit) -> str:
    return visit.frame().find("canvas").evaluate("(canvas) => canvas.toDataURL()")
