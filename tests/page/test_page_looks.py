"""The page in a real browser: tiles, finer edges, and examples kept from another picture."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect

from tests.helpers.browser import SHAPES, Visit
from tests.helpers.cog_server import REPOSITORY


def test_tiles_and_finer_edges(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    coarse = visit.find("instance").first.get_attribute("title")
    assert coarse
    with visit.page.expect_request("**/api/segment") as asked:
        visit.find("refine").click()
    assert inputs(asked.value)["refine"] is True
    expect(visit.find("instance").first).not_to_have_attribute("title", coarse)
    expect(visit.find("refine")).to_have_attribute("aria-pressed", "true")
    visit.find("refine").click()
    visit.find("more").locator("> summary").click()
    with visit.page.expect_request("**/api/segment") as asked:
        visit.page.get_by_label("Also look at tiles of").fill("400")
        visit.page.keyboard.press("Tab")
    assert inputs(asked.value)["tile_size"] == 400
    expect(visit.find("timing")).to_contain_text("tiles")
    visit.expect_count(3)


def test_examples_of_one_picture_find_in_another(visit: Visit, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.open(SHAPES).crop((0, 0, 400, 400)).save(other)
    keep = visit.page.get_by_role("button", name="Use these examples on other images")
    visit.open().mode("example").drag(252, 52, 348, 148).expect_count(1)
    visit.find("more").locator("> summary").click()
    keep.click()
    expect(visit.find("reference-name")).to_have_text("1 from shapes.png")
    visit.open(other)
    expect(keep).to_be_disabled()
    with visit.page.expect_response("**/api/segment") as answer:
        visit.find("run").click()
    assert answer.value.status == 200
    sent = inputs(answer.value.request)
    assert all(
        abs(a - b) <= 1
        for a, b in zip(sent["reference_boxes"][0], (252, 52, 348, 148), strict=True)
    )
    visit.expect_status("1 example elsewhere")
    saved_equals_copied(visit, tmp_path)
    visit.find("more").locator("> summary").click()
    visit.page.get_by_role("button", name="Forget them").click()
    visit.expect_status("Type what to find")


def saved_equals_copied(visit: Visit, folder: Path) -> None:
    (folder / "shapes.png").write_bytes(SHAPES.read_bytes())
    (folder / "weights").symlink_to(REPOSITORY / "weights")
    with visit.page.expect_download() as started:
        visit.find("download-zip").click()
    expected = Path(started.value.path()).read_bytes()
    for button, program in (("copy-curl", ["bash"]), ("copy-python", [sys.executable, "-"])):
        visit.find(button).click()
        text = visit.find("copied").input_value()
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SAM3_DEVICE": "cpu"}
        subprocess.run(program, input=text, cwd=folder, env=environment, check=True, text=True)
        assert (folder / "masks.zip").read_bytes() == expected, button
    with zipfile.ZipFile(folder / "masks.zip") as archive:
        assert len(archive.namelist()) == visit.find("instance").count()


def inputs(request: Any) -> dict[str, Any]:
    return request.post_data_json["inputs"]
