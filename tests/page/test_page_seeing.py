"""The page in a real browser: zoom, pan, outlines, colors, badges, and what is hidden or dimmed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, expect

from sam3_image.masks import Mask, rle
from tests.helpers.browser import FOUR, Box, Visit, answer_of, answered
from tests.helpers.web_server import WebServer

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def grid(columns: int, rows: int, side: int = 20) -> dict[Box, float]:
    """So many small squares over the whole example."""
    boxes: dict[Box, float] = {}
    for index in range(columns * rows):
        x = 10 + index % columns * (760 // columns)
        y = 10 + index // columns * (570 // rows)
        boxes[x, y, x + side, y + side] = 0.99 - index / 1000
    return boxes


def test_the_wheel_zooms_around_the_pointer_down_to_single_pixels(visit: Visit) -> None:
    visit.open()
    before, _, _ = visit.view()
    point = (300.0, 300.0)
    place = visit.on_screen(point)
    visit.page.mouse.move(*place)
    for _ in range(30):
        visit.page.mouse.wheel(0, -300)
    scale, _, _ = visit.frame().view()
    assert scale == 64 > before
    assert np.allclose(visit.on_screen(point), place, atol=1), "what is under the pointer stays"
    expect(visit.find("zoom")).to_have_text("6400 %")
    for _ in range(60):
        visit.page.mouse.wheel(0, 300)
    assert visit.frame().view()[0] == 1, "no further out than the whole image, or 1:1"


def test_pixels_are_squares_when_one_looks_closely(visit: Visit) -> None:
    checks = np.indices((40, 60)).sum(axis=0) % 2 * 255
    buffer = io.BytesIO()
    Image.fromarray(checks.astype(np.uint8)).convert("RGB").save(buffer, "PNG")
    visit.open({"name": "checks.png", "mimeType": "", "buffer": buffer.getvalue()})
    visit.find("zoom-in").click()
    for x, y in ((20, 20), (21, 20), (20, 21)):
        value = 255 * ((x + y) % 2)
        for corner in (0.15, 0.85):
            assert visit.pixel(x + corner, y + corner) == (value,) * 3


def test_keys_and_buttons_zoom(visit: Visit) -> None:
    visit.open()
    fitted = visit.view()
    visit.find("run").focus()
    for key, is_larger in (("+", True), ("f", None), ("z", None), ("+", True), ("-", None)):
        visit.page.keyboard.press(key)
        scale = visit.frame().view()[0]
        if is_larger:
            assert scale > fitted[0]
        elif key == "f":
            assert visit.view() == fitted
        else:
            assert abs(scale - 1) < 1e-6, key
    visit.find("zoom-in").click()
    visit.find("actual").click()
    assert visit.frame().view()[0] == 1
    visit.find("fit").click()
    assert visit.frame().view() == fitted


def test_a_drag_moves_the_image_and_the_middle_button_does_everywhere(visit: Visit) -> None:
    visit.open()
    for _ in range(4):
        visit.find("zoom-in").click()
    for mode, button in (("words", "left"), ("object", "middle"), ("example", "middle")):
        visit.mode(mode)
        _, x, y = visit.frame().view()
        visit.page.mouse.move(400, 300)
        visit.page.mouse.down(button=button)
        visit.page.mouse.move(370, 320, steps=4)
        visit.page.mouse.up(button=button)
        _, later_x, later_y = visit.frame().view()
        assert (round(later_x - x), round(later_y - y)) == (-30, 20), mode
    assert visit.asked() == 0


def test_ctrl_and_arrows_move_it_and_it_follows_the_crosshair(visit: Visit) -> None:
    visit.open()
    for _ in range(4):
        visit.find("zoom-in").click()
    visit.find("canvas").focus()
    _, x, _ = visit.frame().view()
    visit.page.keyboard.press("Control+ArrowRight")
    assert visit.frame().view()[1] == x - 80
    for _ in range(60):
        visit.page.keyboard.press("ArrowLeft")
    assert visit.frame().view()[1] > x + 200, "what lies further left came into view"


def test_two_fingers_zoom_and_move(browser: Browser, web: WebServer) -> None:
    with Visit(browser, web.url, **PHONE) as visit:
        visit.open().mode("object")
        before = visit.view()[0]
        finger = visit.page.context.new_cdp_session(visit.page)
        x, y = visit.on_screen((400, 300))

        def touch(kind: str, apart: float, shift: float = 0) -> None:
            points = (
                [{"x": x + side * apart + shift, "y": y, "id": i} for i, side in enumerate((-1, 1))]
                if kind != "touchEnd"
                else []
            )
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 30)
        for apart in (40, 50, 60):
            touch("touchMove", apart)
        touch("touchMove", 60, 20)
        touch("touchEnd", 60)
        scale, _, _ = visit.frame().view()
        assert abs(scale / before - 2) < 0.1
        assert abs(visit.on_screen((400, 300))[0] - x - 20) < 6
        assert visit.asked() == 0, "neither finger marked anything"


def test_outlines_are_exact_at_every_zoom(visit: Visit) -> None:
    """The edge of a mask lies between the same two pixels, however close one looks."""
    answered(visit, {(100, 100, 200, 200): 0.9})
    visit.find("opacity").fill("0")
    for _ in range(3):
        scale = visit.frame().view()[0]
        at = [visit.pixel(100 + offset / scale, 140) for offset in (-10, -6, 0, 6, 10)]
        assert at[0] == at[1], "outside"
        assert at[3] == at[4], "inside"
        assert at[2] not in (at[0], at[4]), "the line between them"
        visit.page.mouse.move(*visit.on_screen((100, 140)))
        for _ in range(5):
            visit.page.mouse.wheel(0, -300)


def test_single_pixels_are_in_or_out(visit: Visit) -> None:
    """Close up, the tint ends where the mask does, pixel by pixel, along a slanted edge too."""
    y, x = np.indices((100, 100))
    inside = np.hypot(x - 50, y - 50) < 45
    mask = Mask(inside, 100, 100, (600, 800))
    record = {"concept": "disc", "score": 0.9, "area": mask.area, "rle": rle.encode(mask)}
    answer = {"annotations": {"instances": [record]}, "scores": [0.9], "metrics": {}}
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer))
    visit.open().ask("disc").expect_count(1)
    visit.find("opacity").fill("0.9")
    visit.page.mouse.move(*visit.on_screen((118.5, 118.5)))
    for _ in range(8):
        visit.page.mouse.wheel(0, -300)
    tinted = visit.pixel(122.5, 122.5)
    for row in range(112, 122):
        for column in range(112, 122):
            shown = distance(visit.pixel(column + 0.5, row + 0.5), tinted) < 30
            assert shown == inside[row - 100, column - 100], (row, column)


def test_opacity_and_a_key_that_hides_the_masks(visit: Visit) -> None:
    visit.open()
    plain = visit.pixel(120, 130)
    answered(visit, {(100, 100, 200, 200): 0.9})
    faint = visit.pixel(120, 130)
    visit.find("opacity").fill("0.9")
    strong = visit.pixel(120, 130)
    assert distance(strong, plain) > distance(faint, plain) > 0
    visit.find("run").focus()
    visit.page.keyboard.press("h")
    assert visit.pixel(120, 130) == plain
    assert visit.pixel(100, 130) == visit.pixel(99, 130), "the outline is gone, too"
    expect(visit.find("hide")).to_have_attribute("aria-pressed", "true")
    visit.find("hide").click()
    assert visit.pixel(120, 130) == strong
    visit.find("opacity").fill("0")
    assert visit.pixel(120, 130) == plain
    assert visit.pixel(100, 130) != plain, "the outline stays"


def test_an_outline_has_a_rim_that_contrasts_with_it(visit: Visit) -> None:
    answered(visit, {(100, 100, 200, 200): 0.9})
    row = [visit.pixel(100 + step / 2, 130) for step in range(-8, 9)]
    lights = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row]
    assert max(lights) - min(lights) > 100


def test_hovering_dims_the_others_a_little_and_not_away(visit: Visit) -> None:
    visit.open()
    plain = visit.pixel(120, 120)
    answered(visit, FOUR)
    shown = visit.pixel(120, 120)
    visit.page.mouse.move(*visit.on_screen((350, 150)))
    dimmed = visit.pixel(120, 120)
    assert 0.2 * distance(shown, plain) < distance(dimmed, plain) < 0.8 * distance(shown, plain)


def test_colors_by_instance_or_by_concept(visit: Visit) -> None:
    visit.open().ask("red circle, star").expect_count(4)
    border = "(entry) => getComputedStyle(entry.firstChild).borderColor"
    colors = [entry.evaluate(border) for entry in visit.find("instance").all()]
    assert len(set(colors)) == 4
    visit.find("coloring").select_option("concept")
    pairs = {
        (name, entry.evaluate(border))
        for name, entry in zip(visit.names(), visit.find("instance").all(), strict=True)
    }
    assert len(pairs) == 2


def badges(visit: Visit) -> int:
    """White pixels of badges on a canvas whose image has none."""
    return int(
        visit.frame()
        .find("canvas")
        .evaluate(
            """(canvas) => { const { data } = canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height); let count = 0;
            for (let at = 0; at < data.length; at += 4)
                count += data[at] === 255 && data[at + 1] === 255 && data[at + 2] === 255;
            return count; }"""
        )
    )


def dark(visit: Visit, answer: dict[str, Any]) -> Visit:
    """A black image, asked for "thing", with that answer."""
    buffer = io.BytesIO()
    Image.new("RGB", (800, 600)).save(buffer, "PNG")
    visit.page.route("**/api/segment", lambda route: route.fulfill(json=answer))
    visit.open({"name": "black.png", "mimeType": "", "buffer": buffer.getvalue()})
    return visit.ask("thing")


def test_badges_move_apart_where_they_would_pile_up(visit: Visit) -> None:
    """Five nested squares have one middle; their five badges are all to be read."""
    one = dark(visit, answer_of({(300, 200, 500, 400): 0.9})).expect_count(1)
    alone = badges(one)
    visit.page.unroute("**/api/segment")
    nested = {(300 + 20 * i, 200 + 20 * i, 500 - 20 * i, 400 - 20 * i): 0.9 for i in range(5)}
    piled = badges(dark(visit, answer_of(nested)).expect_count(5))
    assert piled > 4 * alone


def test_too_many_badges_are_shown_for_the_one_pointed_at(visit: Visit) -> None:
    boxes = grid(12, 10)
    dark(visit, answer_of(boxes)).expect_count(120)
    none = badges(visit)
    visit.page.mouse.move(*visit.on_screen((15, 15)))
    expect(visit.page.locator(".lit")).to_have_count(1)
    assert badges(visit) > none + 50


def distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
