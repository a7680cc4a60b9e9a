"""The page in a real browser: keep, discard, rename, correct, undo; files hold what is kept."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Route, expect

from tests.helpers.browser import FOUR, Visit, answer_of, answered


def rows(visit: Visit) -> list[Locator]:
    return visit.find("instance").all()


def discarded(visit: Visit) -> list[bool]:
    """Of each instance in the list, whether it is discarded."""
    return [
        "discarded" in (entry.get_attribute("class") or "")
        for entry in visit.page.locator("#instances li").all()
    ]


def selected(visit: Visit) -> list[int]:
    """Positions in the list of what is selected."""
    pressed = [row.get_attribute("aria-pressed") for row in rows(visit)]
    return [index for index, value in enumerate(pressed) if value == "true"]


def sent(visit: Visit) -> dict[str, Any]:
    """What the page sends to save a file."""
    with visit.page.expect_request("**/api/file") as asked:
        visit.find("download-zip").click()
    body: dict[str, Any] = asked.value.post_data_json
    return body


def test_what_is_saved_is_what_is_kept(visit: Visit, tmp_path: Path) -> None:
    visit.open().ask("red circle").expect_count(3)
    visit.page.get_by_role("button", name="Discard number 2").click()
    assert discarded(visit) == [False, True, False]
    visit.expect_status("1 discarded")
    with visit.page.expect_download() as started:
        visit.find("download-zip").click()
    started.value.save_as(tmp_path / "masks.zip")
    assert len(zipfile.ZipFile(tmp_path / "masks.zip").namelist()) == 2
    visit.find("format").select_option("coco")
    with visit.page.expect_download() as started:
        visit.find("save").click()
    assert len(json.loads(Path(started.value.path()).read_text())["annotations"]) == 2
    visit.page.get_by_role("button", name="Take back number 2").click()
    assert len(sent(visit)["instances"]) == 3


def test_a_discarded_instance_is_not_drawn(visit: Visit) -> None:
    visit.open()
    plain = visit.pixel(120, 120)
    answered(visit, FOUR)
    assert visit.pixel(120, 120) != plain
    visit.find("discard-one").first.click()
    visit.page.mouse.move(*visit.on_screen((700, 550)))
    visit.find("concepts").focus()
    assert visit.pixel(120, 120) == plain


def test_click_select_and_discard_by_key(visit: Visit) -> None:
    answered(visit, FOUR)
    visit.click(120, 120)
    assert selected(visit) == [0]
    visit.page.keyboard.press("Delete")
    assert discarded(visit) == [True, False]
    visit.page.keyboard.press("d")
    assert discarded(visit) == [False, False]
    visit.click(700, 550)
    assert selected(visit) == []


def test_several_are_selected_by_ctrl_shift_and_all(visit: Visit) -> None:
    answered(visit, FOUR)
    visit.find("threshold").fill("0.1")
    visit.expect_count(4)
    rows(visit)[0].click()
    rows(visit)[2].click(modifiers=["Control"])
    assert selected(visit) == [0, 2]
    rows(visit)[3].click(modifiers=["Shift"])
    assert selected(visit) == [2, 3]
    visit.page.keyboard.press("Control+a")
    assert selected(visit) == [0, 1, 2, 3]
    visit.page.keyboard.press("Escape")
    assert selected(visit) == []
    visit.page.keyboard.press("j")
    visit.page.keyboard.press("j")
    assert selected(visit) == [1]
    visit.page.keyboard.press("k")
    visit.page.keyboard.press("o")
    assert discarded(visit) == [False, True, True, True]


def test_a_concept_is_renamed(visit: Visit) -> None:
    answered(visit, FOUR)
    rows(visit)[0].click()
    visit.page.keyboard.press("r")
    expect(visit.find("name")).to_be_focused()
    visit.find("name").fill("wheel")
    visit.page.keyboard.press("Enter")
    assert visit.names() == ["wheel", "thing 1"]
    assert [one["concept"] for one in sent(visit)["instances"]] == ["wheel", "thing 1"]
    visit.page.keyboard.press("Control+a")
    visit.find("name").fill("tyre")
    visit.find("rename").click()
    assert visit.names() == ["tyre", "tyre"]


def test_undo_and_redo_go_over_all_of_it(visit: Visit) -> None:
    answered(visit, FOUR)
    rows(visit)[0].click()
    visit.find("name").fill("wheel")
    visit.find("rename").click()
    visit.find("discard-one").nth(1).click()
    rows(visit)[0].click()  # no longer selected: the click picks another object
    visit.mode("object").click(600, 400)
    visit.expect_count(6)
    visit.find("run").focus()
    states = []
    for _ in range(3):
        visit.page.keyboard.press("Control+z")
        visit.frame()
        states.append((visit.names(), discarded(visit)))
    assert states == [
        (["wheel", "thing 1"], [False, True]),
        (["wheel", "thing 1"], [False, False]),
        (["thing 0", "thing 1"], [False, False]),
    ]
    asked = visit.asked()
    for _ in range(3):
        visit.page.keyboard.press("Control+y")
    visit.expect_count(6)
    assert discarded(visit)[:2] == [False, True]
    assert visit.asked() == asked, "going back and forth asks nothing"


def test_picked_objects_add_to_what_was_found(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    visit.mode("object").click(300, 300).expect_count(4)
    visit.page.keyboard.press("n")
    visit.click(500, 300).expect_count(5)
    assert visit.names() == ["red circle"] * 5, "a missed one gets the name that is asked for"
    assert len(sent(visit)["instances"]) == 5
    visit.find("concepts").fill("star")
    visit.find("concepts").press("Enter")
    visit.expect_count(3)


def test_words_add_to_what_was_kept(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    visit.find("hold").click()
    visit.expect_status("3 instances kept")
    visit.ask("star").expect_count(4)
    body = sent(visit)
    assert sorted(one["concept"] for one in body["instances"]) == ["red circle"] * 3 + ["star"]
    assert body["concepts"] == ["star", "red circle"]


def test_a_found_instance_is_corrected(visit: Visit) -> None:
    answered(visit, FOUR)
    rows(visit)[1].click()
    visit.mode("object")
    visit.page.unroute("**/api/segment")
    better = answer_of({(300, 100, 440, 200): 0.95})
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=better))
    with visit.page.expect_request("**/api/segment") as asked:
        visit.click(430, 150)
    inputs = asked.value.post_data_json["inputs"]
    assert set(inputs["mask_image"]) == {"size", "counts"}
    assert inputs["point_labels"] == [1]
    expect(visit.find("mode-note")).to_contain_text("Correcting number 2")
    visit.expect_count(2)
    expect(rows(visit)[1]).to_have_attribute("data-score", "0.95")
    assert visit.names() == ["thing 0", "thing 1"]
    assert [one["rle"]["counts"] for one in sent(visit)["instances"]][1] == (
        better["annotations"]["instances"][0]["rle"]["counts"]
    )


def test_everything_is_asked_for_without_a_prompt(visit: Visit) -> None:
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer_of(FOUR)))
    visit.open().mode("everything")
    with visit.page.expect_request("**/api/segment") as asked:
        visit.find("run").click()
    assert asked.value.post_data_json["inputs"] == {"task": "everything"}
    visit.expect_count(2).expect_status("instances of the whole image")


def test_the_best_is_shown_where_nothing_passes(visit: Visit) -> None:
    answered(visit, {(1, 1, 90, 90): 0.31, (100, 100, 200, 200): 0.2})
    visit.expect_status("Nothing above 0.50; the best is 0.31")
    visit.find("show-best").click()
    visit.expect_count(1)
    expect(visit.find("show-best")).to_be_hidden()


def test_the_best_is_asked_for_where_the_server_gave_nothing(visit: Visit) -> None:
    def reply(route: Route) -> None:
        is_low = route.request.post_data_json["inputs"]["threshold"] == 0
        route.fulfill(json=answer_of({(1, 1, 90, 90): 0.012} if is_low else {}))

    visit.page.route("**/api/segment", reply)
    visit.open().ask("thing").expect_status("Nothing found for thing")
    visit.find("show-best").click()
    visit.expect_count(1)
    expect(visit.find("threshold-value")).to_have_text("0.01")
