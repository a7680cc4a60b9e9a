"""The page in a real browser: threshold, list, highlights, files, and the copied programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.helpers.browser import FOUR, SHAPES, Visit, answered
from tests.helpers.cog_server import REPOSITORY, pixels
from tests.helpers.web_server import WebServer

WIDTH, HEIGHT = 800, 600


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
    visit.expect_count(0).expect_status("Nothing above 0.95; the best is 0.90")
    assert visit.asked() == asked


def test_below_the_score_that_was_asked_for_it_asks_again(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    with visit.page.expect_request("**/api/segment") as lower:
        visit.find("threshold").fill("0")
    assert lower.value.post_data_json["inputs"]["threshold"] == 0
    expect(visit.find("instance").nth(3)).to_be_visible()
    assert visit.scores()[-1] > 0


def test_nothing_found_is_told_from_nothing_above_the_threshold(visit: Visit) -> None:
    visit.expect_status("Choose an image to begin")
    visit.open().expect_status("Type what to find")
    answered(visit, {}).expect_status("Nothing found for thing")
    expect(visit.find("threshold")).to_be_hidden()
    visit.page.unroute("**/api/segment")
    answered(visit, {(1, 1, 9, 9): 0.2}).expect_status("Nothing above 0.50; the best is 0.20")


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
    timing = visit.find("timing")
    expect(timing.locator("summary")).to_have_text("0.8 s")
    expect(timing.locator("dl")).to_be_hidden()
    timing.locator("summary").click()
    expect(timing.locator("dl")).to_have_text("looking at the image0.5 sfinding0.3 s")


def saved(visit: Visit, kind: str, folder: Path) -> Path:
    with visit.page.expect_download() as started:
        if kind == "masks":
            visit.find("download-zip").click()
        else:
            visit.find("format").select_option(kind)
            visit.find("save").click()
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
    path = saved(visit, "masks", tmp_path)
    assert path.name == "shapes-masks.zip"
    expect(visit.find("save-note")).to_have_text("Saved shapes-masks.zip.")
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
    with zipfile.ZipFile(saved(visit, "masks", tmp_path)) as archive:
        assert len(archive.namelist()) == shown < 3


def test_the_other_files(visit: Visit, tmp_path: Path) -> None:
    visit.open().ask("star").expect_count(1)
    overlay = pixels(saved(visit, "overlay", tmp_path).read_bytes())
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    cutout = pixels(saved(visit, "cutout", tmp_path).read_bytes())
    coco = json.loads(saved(visit, "coco", tmp_path).read_text())
    runs = json.loads(saved(visit, "rle", tmp_path).read_text())
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
            saved(visit, "masks", tmp_path / question)
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


def test_a_copied_command_gives_the_same_result(
    browser: Browser, web: WebServer, tmp_path: Path
) -> None:
    name = "it's mine.png"
    (tmp_path / name).write_bytes(SHAPES.read_bytes())
    (tmp_path / "weights").symlink_to(REPOSITORY / "weights")
    with Visit(browser, web.url) as visit:
        visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        visit.open(tmp_path / name)
        for question in ("words", "click"):
            ask(visit, question)
            expected = saved(visit, "masks", tmp_path).read_bytes()
            command = copied(visit, "copy-command")
            assert command.startswith("SAM3_WEIGHTS=demo script/predict ")
            # What the script does once it is set up.
            run(["bash"], tmp_path, command.replace("script/predict", f"{sys.executable} -m {CLI}"))
            assert (tmp_path / "masks.zip").read_bytes() == expected, question
            visit.page.reload()
            visit.page.evaluate("() => indexedDB.deleteDatabase('sam3-image')")
            visit.page.reload()
            visit.open(tmp_path / name)


CLI = "sam3_image predict"


def copied(visit: Visit, button: str) -> str:
    """What the button puts into the clipboard, which the page shows, too."""
    visit.find(button).click()
    expect(visit.find("save-note")).to_have_text("Copied.")
    text: str = visit.page.evaluate("() => navigator.clipboard.readText()")
    assert text == visit.find("copied").input_value()
    return text


def ask(visit: Visit, question: str) -> None:
    if question == "words":
        visit.ask("red circle\nstar").expect_count(4)
        visit.find("threshold").fill("0.3")
    elif question == "examples":
        visit.mode("example").drag(43, 43, 157, 157).expect_count(3)
    else:
        visit.click(500, 300).expect_count(1)
        if question == "candidates":
            visit.find("more").locator("> summary").click()
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
    expect(visit.find("save-note")).to_contain_text("copy it with Ctrl")
    assert "sam3_image.load" in visit.page.evaluate("() => getSelection().toString()")


def test_a_saved_overlay_looks_like_the_page(visit: Visit, tmp_path: Path) -> None:
    visit.open().ask("red circle").expect_count(3)
    overlay = Image.open(saved(visit, "overlay", tmp_path)).convert("RGB")
    for x, y in ((110, 130), (110, 330), (710, 530)):
        shown, written = visit.pixel(x, y), overlay.getpixel((x, y))
        assert isinstance(written, tuple)
        assert max(abs(a - b) for a, b in zip(shown, written, strict=True)) < 40
