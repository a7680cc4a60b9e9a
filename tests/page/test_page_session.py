"""The page in a real browser: several images, all of them at once, and what survives a reload."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from tests.helpers.browser import FOUR, SHAPES, Visit, answer_of
from tests.helpers.web_server import WebServer


def crop(name: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
    """A part of the example as a file of its own."""
    buffer = io.BytesIO()
    Image.open(SHAPES).convert("RGB").crop(box).save(buffer, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def three() -> list[dict[str, Any]]:
    """Images with 3, 2 and 0 red circles."""
    return [
        crop("whole.png", (0, 0, 800, 600)),
        crop("left.png", (0, 0, 200, 400)),
        crop("middle.png", (220, 20, 600, 380)),
    ]


def counts(visit: Visit) -> list[str]:
    """What the strip says of each image."""
    return visit.page.locator("[data-test=thumbnail] span").all_text_contents()


def test_a_strip_of_thumbnails_and_keys_go_from_image_to_image(visit: Visit) -> None:
    visit.open(three())
    thumbnails = visit.find("thumbnail")
    expect(thumbnails).to_have_count(3)
    for index in range(3):
        expect(thumbnails.nth(index).locator("img")).to_have_js_property("complete", True)
        assert thumbnails.nth(index).locator("img").evaluate("(image) => image.naturalWidth") > 0
    visit.ask("red circle").expect_count(3)
    visit.find("run").focus()
    visit.page.keyboard.press(".")
    expect(visit.find("image-name")).to_contain_text("left.png")
    visit.expect_count(0)
    assert visit.find("concepts").input_value() == "red circle", "words stay"
    visit.find("run").click()
    visit.expect_count(2)
    visit.find("run").focus()
    visit.page.keyboard.press(",")
    visit.expect_count(3)
    thumbnails.nth(2).click()
    expect(visit.find("image-name")).to_contain_text("middle.png")
    expect(thumbnails.nth(2)).to_have_attribute("aria-current", "true")
    expect(visit.find("next")).to_be_disabled()
    visit.find("previous").click()
    visit.expect_count(2)
    asked = visit.asked()
    visit.find("previous").click()
    visit.expect_count(3)
    assert visit.asked() == asked, "an answer is not asked for twice"


def test_keys_stay_keys_from_image_to_image(visit: Visit) -> None:
    """The row that had the focus goes with its image; the next key is no letter in the words."""
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer_of(FOUR)))
    visit.open(three()).ask("thing").expect_count(2)
    visit.find("run").focus()
    visit.page.keyboard.press("j")
    for name in ("left.png", "middle.png"):
        visit.page.keyboard.press(".")
        expect(visit.find("image-name")).to_contain_text(name)
    assert visit.find("concepts").input_value() == "thing"


def test_words_entered_while_an_image_opens_are_asked_then(visit: Visit) -> None:
    held: list[Route] = []
    visit.page.route("**/api/pictures", lambda route: held.append(route))
    visit.find("file").set_input_files(three()[0])
    visit.ask("red circle").expect_status("Opening the image")
    held[0].continue_()
    visit.expect_count(3)


def test_a_refused_file_leaves_the_others_as_they_were(visit: Visit) -> None:
    visit.open(three()[:2]).ask("red circle").expect_count(3)
    visit.find("file").set_input_files({"name": "x.png", "mimeType": "", "buffer": b"no image"})
    visit.expect_error("x.png: This file cannot be opened as an image")
    expect(visit.find("thumbnail")).to_have_count(2)
    expect(visit.find("image-name")).to_contain_text("left.png")
    visit.expect_error("x.png")


def test_all_images_are_segmented_with_progress(visit: Visit) -> None:
    visit.open(three())
    visit.find("concepts").fill("red circle")
    visit.page.keyboard.press("Control+Enter")
    expect(visit.find("all-note")).to_have_text("3 images segmented.")
    assert counts(visit) == ["3", "2", "0"]
    assert visit.asked() == 3
    visit.find("all-run").click()
    expect(visit.find("all-note")).to_have_text("0 images segmented.")
    assert visit.asked() == 3, "what has answered these words is not asked again"


def test_all_can_be_canceled(visit: Visit) -> None:
    visit.open(three())
    held: list[Route] = []
    visit.page.route("**/api/segment", lambda route: held.append(route))
    visit.find("concepts").fill("red circle")
    visit.find("all-run").click()
    expect(visit.find("all-progress")).to_be_visible()
    expect(visit.find("all-note")).to_have_text("0 of 3")
    visit.find("all-cancel").click()
    expect(visit.find("all-note")).to_have_text("Canceled.")
    expect(visit.find("all-progress")).to_be_hidden()
    assert len(held) == 1
    assert counts(visit) == ["", "", ""]


def test_without_words_there_is_nothing_to_ask_of_all(visit: Visit) -> None:
    visit.open(three())
    visit.find("all-run").click()
    expect(visit.find("all-note")).to_have_text("Type what to find first.")
    assert visit.asked() == 0


def test_one_that_fails_is_marked_and_the_others_go_on(visit: Visit) -> None:
    visit.open(three()[:1])
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
    visit.find("file").set_input_files([three()[1], broken, three()[2]])
    expect(visit.find("thumbnail")).to_have_count(4)
    visit.find("concepts").fill("red circle")
    visit.find("all-run").click()
    expect(visit.find("all-note")).to_have_text("3 images segmented. 1 failed.")
    assert counts(visit) == ["3", "2", "!", "0"]


def test_a_session_survives_a_reload_and_can_be_cleared(visit: Visit) -> None:
    visit.open(three()).ask("red circle").expect_count(3)
    visit.find("threshold").fill("0.4")
    visit.find("discard-one").nth(1).click()
    visit.find("thumbnail").nth(1).click()
    expect(visit.find("image-name")).to_contain_text("left.png")
    visit.ask("red circle").expect_count(2)
    visit.page.wait_for_timeout(500)
    visit.page.reload()
    expect(visit.find("image-name")).to_contain_text("left.png")
    visit.expect_count(2)
    expect(visit.find("thumbnail")).to_have_count(3)
    assert visit.find("concepts").input_value() == "red circle"
    expect(visit.find("threshold-value")).to_have_text("0.40")
    visit.find("previous").click()
    visit.expect_count(3)
    assert visit.page.locator("#instances .discarded").count() == 1
    asked = visit.asked()
    assert asked == 2, "nothing was asked anew"
    visit.find("session-menu").locator("summary").click()
    visit.find("clear-session").click()
    visit.find("clear-yes").click()
    expect(visit.find("empty")).to_be_visible()
    expect(visit.find("strip")).to_be_hidden()
    visit.page.wait_for_timeout(300)
    visit.page.reload()
    expect(visit.find("empty")).to_be_visible()
    assert visit.find("concepts").input_value() == ""


def test_a_kept_image_that_the_server_forgot_is_sent_again(
    browser: Browser, web: WebServer
) -> None:
    with Visit(browser, web.url) as visit:
        visit.open(three()[1]).ask("red circle").expect_count(2)
        visit.page.wait_for_timeout(500)
        visit.page.reload()
        visit.expect_count(2)
        visit.page.route("**/api/segment", lambda route: gone_once(route))
        uploads = sum(url.endswith("/api/pictures") for url in visit.requests)
        visit.ask("star").expect_status("Nothing found for star|0 instances|Nothing above")
        assert sum(url.endswith("/api/pictures") for url in visit.requests) == uploads + 1


GONE: list[bool] = []


def gone_once(route: Route) -> None:
    if GONE:
        route.continue_()
        return
    GONE.append(True)
    route.fulfill(status=410, json={"message": "not known any more: send it again"})


def test_an_image_is_removed(visit: Visit) -> None:
    visit.open(three())
    visit.find("session-menu").locator("summary").click()
    visit.find("remove").click()
    expect(visit.find("image-name")).to_contain_text("left.png")
    expect(visit.find("thumbnail")).to_have_count(2)


def archive(visit: Visit, kind: str, folder: Path) -> zipfile.ZipFile:
    """All images, saved in one ZIP."""
    visit.find("format").select_option(kind)
    with visit.page.expect_download() as started:
        visit.find("save-all").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    opened = zipfile.ZipFile(path)
    assert opened.testzip() is None
    return opened


def test_all_images_are_saved_as_one(visit: Visit, tmp_path: Path) -> None:
    same_name = crop("whole.png", (100, 0, 800, 600))
    visit.open([*three()[:2], same_name])
    visit.find("concepts").fill("red circle, star")
    visit.find("all-run").click()
    expect(visit.find("all-note")).to_have_text("3 images segmented.")
    with archive(visit, "coco", tmp_path) as saved:
        images = ["images/whole.png", "images/left.png", "images/whole-2.png"]
        assert saved.namelist() == [*images, "annotations.json"]
        assert saved.read("images/whole-2.png") == same_name["buffer"]
        coco = json.loads(saved.read("annotations.json"))
    assert [image["file_name"] for image in coco["images"]] == [name[7:] for name in images]
    assert [category["name"] for category in coco["categories"]] == ["red circle", "star"]
    ids = [record["id"] for record in coco["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    per_image = [
        sum(record["image_id"] == number for record in coco["annotations"]) for number in (1, 2, 3)
    ]
    assert per_image[:2] == [4, 2]
    with archive(visit, "rle", tmp_path) as saved:
        assert saved.namelist() == ["whole-rle.json", "left-rle.json", "whole-2-rle.json"]
    with archive(visit, "masks", tmp_path) as saved:
        inner = zipfile.ZipFile(io.BytesIO(saved.read("whole-masks.zip")))
        assert len(inner.namelist()) == 4


def test_those_that_were_not_segmented_are_left_out_and_counted(
    visit: Visit, tmp_path: Path
) -> None:
    visit.open(three()).ask("red circle").expect_count(3)
    with archive(visit, "coco", tmp_path) as saved:
        assert saved.namelist() == ["images/whole.png", "annotations.json"]
    expect(visit.find("save-note")).to_contain_text("2 images not segmented yet: left out")


def test_formats_are_those_that_the_server_offers(visit: Visit, tmp_path: Path) -> None:
    def offer(route: Route) -> None:
        about = route.fetch().json()
        about["formats"] = ["coco", "yolo", "newest"]
        about["label_maps"] = ["instance"]
        route.fulfill(json=about)

    visit.page.route("**/api/about", offer)
    visit.page.reload()
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer_of(FOUR)))
    visit.page.route("**/api/file", yolo)
    visit.open(three()[:2])
    options = visit.find("format").locator("option").all_inner_texts()
    assert options == [
        "Masks (ZIP)",
        "Overlay",
        "Cut-out",
        "COCO",
        "YOLO",
        "newest",
        "Label image, by instance",
    ]
    visit.find("concepts").fill('say "thing"')
    visit.find("all-run").click()
    expect(visit.find("all-note")).to_have_text("2 images segmented.")
    with archive(visit, "yolo", tmp_path) as saved:
        assert saved.namelist() == [
            "images/whole.png",
            "images/left.png",
            "labels/whole.txt",
            "labels/left.txt",
            "data.yaml",
        ]
        assert saved.read("labels/left.txt").decode() == LINE
        data = yaml.safe_load(saved.read("data.yaml"))
        assert data["names"][0] == 'say "thing"'
        assert data["train"] == data["val"] == "images"


LINE = "0 0.1 0.1 0.2 0.2 0.1 0.2\n"


def yolo(route: Route) -> None:
    """One image's dataset, as a server makes it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels/image.txt", LINE)
        archive.writestr("data.yaml", "train: images\nnames: {}\n")
    route.fulfill(
        body=content.getvalue(),
        headers={"Content-Disposition": 'attachment; filename="yolo.zip"'},
    )
