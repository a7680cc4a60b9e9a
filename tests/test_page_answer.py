"""The page in a real browser: threshold, list, highlights, files, and the copied programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, expect

from sam3_image.masks import Mask, rle
from tests.browser import SHAPES, Visit
from tests.cog_server import REPOSITORY, pixels
from tests.web_server import WebServer

WIDTH, HEIGHT = 800, 600


def answered(visit: Visit, boxes: dict[tuple[int, int, int, int], float]) -> Visit:
    """The example, with an answer of one rectangle for each box (x0, y0, x1, y1) and its score."""
    instances = []
    for index, (box, score) in enumerate(boxes.items()):
        x0, y0, x1, y1 = box
        mask = Mask(np.ones((y1 - y0, x1 - x0), bool), y0, x0, (HEIGHT, WIDTH))
        record = {"concept": f"thing {index}", "score": score, "area": mask.area}
        instances.append({**record, "rle": rle.encode(mask)})
    answer = {
        "annotations": {"instances": instances},
        "scores": list(boxes.values()),
        "metrics": {"timing.encode": 0.5, "timing.find": 0.25, "encoder_cached": 0},
    }
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer))
    visit.open().ask("thing").expect_status("thing")
    return visit


FOUR = {
    (100, 100, 200, 200): 0.9,
    (300, 100, 400, 200): 0.6,
    (500, 100, 600, 200): 0.5,
    (150, 150, 250, 250): 0.3,
}


def test_the_threshold_filters_without_a_request(visit: Visit) -> None:
    answered(visit, FOUR).expect_count(2)  # 0.5 is not above 0.5
    asked = visit.asked()
    weak = visit.pixel(240, 230)
    for value, count in (("0.49", 3), ("0.29", 4), ("0.6", 1), ("0.59", 2), ("0.2", 4)):
        visit.find("threshold").fill(value)
        visit.expect_count(count)
    assert visit.pixel(240, 230) != weak, "what the slider lets in is drawn"
    visit.find("threshold").fill("0.5")
    visit.expect_count(2).expect_status("2 instances of thing above 0.50; 2 weaker")
    assert visit.pixel(240, 230) == weak
    visit.find("threshold").fill("0.95")
    visit.expect_count(0).expect_status("Nothing above 0.95; the best score is 0.900")
    assert visit.asked() == asked


def test_below_the_score_that_was_asked_for_it_asks_again(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    with visit.page.expect_request("**/api/segment") as lower:
        visit.find("threshold").fill("0")
    assert lower.value.post_data_json["inputs"]["threshold"] == 0
    expect(visit.find("instance").nth(3)).to_be_visible()
    assert visit.scores()[-1] > 0


def test_nothing_found_is_told_from_nothing_above_the_threshold(visit: Visit) -> None:
    visit.expect_status("Choose a picture to begin")
    visit.open().expect_status("Type what to find")
    answered(visit, {}).expect_status("Nothing found for thing")
    expect(visit.find("threshold")).to_be_hidden()
    visit.page.unroute("**/api/segment")
    answered(visit, {(1, 1, 9, 9): 0.2}).expect_status("Nothing above 0.50; the best score is 0.2")


def test_list_and_picture_light_up_together(visit: Visit) -> None:
    answered(visit, FOUR)
    tinted = visit.pixel(120, 120)
    first, second = visit.find("instance").first, visit.find("instance").nth(1)

    second.hover()
    assert visit.pixel(120, 120) != tinted, "the others step back"
    visit.page.mouse.move(*visit.on_screen((700, 500)))
    assert visit.pixel(120, 120) == tinted

    visit.page.mouse.move(*visit.on_screen((120, 120)))
    expect(first).to_have_class("lit")
    expect(second).not_to_have_class("lit")

    second.focus()
    expect(second).to_have_class("lit")
    assert visit.pixel(120, 120) != tinted
    visit.find("concepts").focus()
    assert visit.pixel(120, 120) == tinted

    second.click()
    visit.page.mouse.move(*visit.on_screen((700, 500)))
    visit.find("concepts").focus()
    expect(second).to_have_attribute("aria-pressed", "true")
    assert visit.pixel(120, 120) != tinted, "a chosen one stays lit"
    second.click()
    expect(second).to_have_attribute("aria-pressed", "false")


def test_a_filtered_entry_takes_its_highlight_along(visit: Visit) -> None:
    answered(visit, FOUR)
    tinted = visit.pixel(120, 120)
    visit.find("instance").nth(1).hover()
    assert visit.pixel(120, 120) != tinted
    visit.find("threshold").evaluate(
        "(slider) => { slider.value = 0.7; slider.dispatchEvent(new Event('input')); }"
    )
    visit.expect_count(1)
    assert visit.pixel(120, 120) == tinted


def test_each_instance_has_its_color_outline_and_number(visit: Visit) -> None:
    answered(visit, FOUR)
    colors = [
        entry.evaluate("(button) => getComputedStyle(button.firstChild).borderColor")
        for entry in visit.find("instance").all()
    ]
    assert len(set(colors)) == 2
    outline = visit.pixel(100.6, 120)
    assert f"rgb({', '.join(map(str, outline))})" == colors[0], "solid, whatever lies below"
    assert visit.pixel(120, 120) != outline, "inside it is a tint"
    middle = [visit.pixel(x, 150) for x in range(135, 165)]
    assert (255, 255, 255) in middle
    assert min(sum(color) for color in middle) < 150, "a dark number on white"


def test_times_of_the_stages(visit: Visit) -> None:
    answered(visit, FOUR)
    timing = visit.page.locator("#timing")
    expect(timing).to_have_text("encode 0.500 s · find 0.250 s")


def saved(visit: Visit, button: str, folder: Path) -> Path:
    with visit.page.expect_download() as started:
        visit.page.get_by_role("button", name=button, exact=True).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def from_server(web: WebServer, **inputs: Any) -> bytes:
    """What the server gives to a program that asks for the same."""
    answer = web.http.post(
        "/api/file",
        files={"image": SHAPES.read_bytes()},
        data={"inputs": json.dumps(inputs)},
    )
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_zip_opens_and_equals_the_servers(visit: Visit, web: WebServer, tmp_path: Path) -> None:
    visit.open().ask("red circle, star").expect_count(4)
    visit.find("threshold").fill("0.9995")
    visit.find("threshold").fill("0.4")
    path = saved(visit, "Masks (ZIP)", tmp_path)
    assert path.name == "shapes-masks.zip"
    visit.expect_status("Saved shapes-masks.zip")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert names == [f"mask_{index:03}.png" for index in range(4)]
        masks = [pixels(archive.read(name)) for name in names]
    assert all(mask.shape == (HEIGHT, WIDTH) for mask in masks)
    expected = from_server(web, prompts=["red circle", "star"], threshold=0.4)
    assert path.read_bytes() == expected


def test_the_zip_holds_what_the_slider_left(visit: Visit, tmp_path: Path) -> None:
    visit.open().ask("red circle").expect_count(3)
    between = sum(visit.scores()[:2]) / 2
    visit.find("threshold").evaluate(
        """(slider, value) => { slider.step = "any"; slider.value = value;
        slider.dispatchEvent(new Event("input")); }""",
        between,
    )
    shown = visit.find("instance").count()
    with zipfile.ZipFile(saved(visit, "Masks (ZIP)", tmp_path)) as archive:
        assert len(archive.namelist()) == shown < 3


def test_the_other_files(visit: Visit, tmp_path: Path) -> None:
    visit.open().ask("star").expect_count(1)
    overlay = pixels(saved(visit, "Overlay", tmp_path).read_bytes())
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    cutout = pixels(saved(visit, "Cut-out", tmp_path).read_bytes())
    coco = json.loads(saved(visit, "COCO", tmp_path).read_text())
    runs = json.loads(saved(visit, "RLE", tmp_path).read_text())
    assert [record["name"] for record in coco["categories"]] == ["star"]
    assert coco["annotations"][0]["area"] == runs["instances"][0]["area"]
    assert int((cutout[..., 3] == 255).sum()) == runs["instances"][0]["area"]


QUESTIONS = ("words", "examples", "click", "candidates")


def test_copied_programs_give_the_same_result(
    browser: Browser, web: WebServer, tmp_path: Path
) -> None:
    """All Python programs run in one process: importing torch takes seconds."""
    name = 'it\'s "mine"; 1.png'  # a name that a shell could stumble over
    for question in QUESTIONS:
        for program in ("curl", "python"):
            (tmp_path / question / program).mkdir(parents=True)
            (tmp_path / question / program / name).write_bytes(SHAPES.read_bytes())
        (tmp_path / question / "python" / "weights").symlink_to(REPOSITORY / "weights")
        with Visit(browser, web.url) as visit:
            visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            visit.open(tmp_path / question / "curl" / name)
            ask(visit, question)
            saved(visit, "Masks (ZIP)", tmp_path / question)
            curl = copied(visit, "copy-curl")
            (tmp_path / question / "python" / "copied.py").write_text(copied(visit, "copy-python"))
        run(["bash"], tmp_path / question / "curl", curl)
    run_all = "import os, runpy, sys\nfor folder in sys.argv[1:]:\n"
    run_all += "    os.chdir(folder); runpy.run_path('copied.py')"
    folders = [str(tmp_path / question / "python") for question in QUESTIONS]
    run([sys.executable, "-c", run_all, *folders], tmp_path)
    for question in QUESTIONS:
        (expected,) = (tmp_path / question).glob("*.zip")
        for program in ("curl", "python"):
            made = tmp_path / question / program / "masks.zip"
            assert made.read_bytes() == expected.read_bytes(), (question, program)


def copied(visit: Visit, button: str) -> str:
    """What the button puts into the clipboard, which the page shows, too."""
    visit.find(button).click()
    visit.expect_status("Copied")
    text: str = visit.page.evaluate("() => navigator.clipboard.readText()")
    assert text == visit.page.locator("#copied").input_value()
    return text


def ask(visit: Visit, question: str) -> None:
    if question == "words":
        visit.ask("red circle\nstar").expect_count(4)
        visit.find("threshold").fill("0.3")
    elif question == "examples":
        visit.drag(43, 43, 157, 157).expect_count(3)
    else:
        visit.click(500, 300).expect_count(1)
        if question == "candidates":
            visit.page.get_by_label("three candidates").check()
            visit.expect_count(3)


def run(program: list[str], folder: Path, text: str = "") -> None:
    done = subprocess.run(
        program,
        input=text,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SAM3_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_clipboard_the_text_can_be_taken(visit: Visit) -> None:
    visit.page.add_init_script("delete Navigator.prototype.clipboard")
    visit.page.reload()
    visit.open().ask("star").expect_count(1)
    visit.find("copy-python").click()
    visit.expect_status("copy it with Ctrl")
    assert "sam3_image.load" in visit.page.evaluate("() => getSelection().toString()")


def test_a_saved_overlay_looks_like_the_page(visit: Visit, tmp_path: Path) -> None:
    visit.open().ask("red circle").expect_count(3)
    overlay = Image.open(saved(visit, "Overlay", tmp_path)).convert("RGB")
    for x, y in ((110, 130), (110, 330), (710, 530)):
        shown, written = visit.pixel(x, y), overlay.getpixel((x, y))
        assert isinstance(written, tuple)
        assert max(abs(a - b) for a, b in zip(shown, written, strict=True)) < 40
