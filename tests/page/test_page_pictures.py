"""The page in a real browser: how a picture comes to it, and what it refuses."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.helpers.browser import SHAPES, Visit
from tests.helpers.web_server import WebServer

LIMIT = 200_000


@pytest.fixture(scope="module")
def small(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A server that asks for a token, accepts little, and remembers one picture."""
    environment = {
        "SAM3_WEIGHTS": str(weights),
        "SAM3_TOKEN": "sesame",
        "SAM3_WEB_MAX_UPLOAD": str(LIMIT),
        "SAM3_WEB_MAX_PICTURES": "1",
    }
    with WebServer(tmp_path_factory.mktemp("small"), environment) as running:
        yield running.ready()


def saved(form: str, image: Image.Image | None = None, **options: Any) -> dict[str, Any]:
    """A picture file as Playwright's file input takes it."""
    buffer = io.BytesIO()
    picture = image or Image.open(SHAPES).convert("RGB")
    if form == "HEIF":
        pillow_heif.from_pillow(picture).save(buffer, quality=95)
    else:
        picture.save(buffer, form, **options)
    return {"name": f"shapes.{form.lower()}", "mimeType": "", "buffer": buffer.getvalue()}


def test_the_example(visit: Visit) -> None:
    visit.expect_status("Choose an image")
    expect(visit.find("run")).to_be_disabled()
    visit.find("example").click()
    expect(visit.find("canvas")).to_be_visible()
    visit.expect_status("Type what to find")
    visit.ask("red circle").expect_count(3)


def test_a_drop(visit: Visit) -> None:
    send_file(visit, "drop", "dataTransfer")
    expect(visit.find("canvas")).to_be_visible()
    visit.ask("red circle").expect_count(3)


def test_a_paste(visit: Visit) -> None:
    send_file(visit, "paste", "clipboardData")
    expect(visit.find("canvas")).to_be_visible()
    visit.click(300, 300).expect_count(1)


def test_a_dropped_link_is_refused(visit: Visit) -> None:
    visit.page.evaluate(
        """() => { const given = new DataTransfer(); given.setData("text/uri-list", "http://x/y.png");
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true})); }"""
    )
    visit.expect_error("Only files can be dropped here")


@pytest.mark.parametrize("form", ["TIFF", "HEIF"])
def test_a_format_that_the_browser_cannot_show(visit: Visit, form: str) -> None:
    visit.open(saved(form))
    red, green, blue = visit.pixel(110, 110)
    assert red > 180
    assert green < 80
    assert blue < 80
    visit.ask("red circle").expect_count(3)
    assert any(url.endswith("/preview") for url in visit.requests)


def test_it_stands_upright_as_exif_says(visit: Visit) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it
    turned = Image.open(SHAPES).convert("RGB").rotate(90, expand=True)
    visit.open(saved("JPEG", turned, exif=exif, quality=95))
    expect(visit.find("image-name")).to_contain_text("800 × 600")
    red, green, blue = visit.pixel(300, 100)
    assert blue > 150 > red + green, "the blue square is where it is in the upright picture"
    visit.click(300, 100).expect_count(1)
    assert visit.pixel(280, 80) != (red, green, blue)


def test_transparency_lies_on_white(visit: Visit) -> None:
    visit.open(saved("PNG", Image.new("RGBA", (80, 60), (0, 0, 0, 0))))
    assert visit.pixel(40, 30) == (255, 255, 255)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ({"name": "x.png", "mimeType": "", "buffer": b"no picture"}, "accepted are JPEG, PNG"),
        ({"name": "x.png", "mimeType": "", "buffer": b""}, "accepted are JPEG, PNG"),
        ({"name": "x.svg", "mimeType": "image/svg+xml", "buffer": b"<svg></svg>"}, "SVG"),
        ({"name": "x.png", "mimeType": "", "buffer": SHAPES.read_bytes()[:2000]}, "cut off"),
    ],
)
def test_what_is_refused_says_why(visit: Visit, file: dict[str, Any], sentence: str) -> None:
    visit.find("file").set_input_files(file)
    visit.expect_error(sentence)
    expect(visit.find("canvas")).to_be_hidden()
    visit.open().ask("red circle").expect_count(3)
    expect(visit.find("error")).to_be_hidden()


def test_another_picture_forgets_the_first(visit: Visit) -> None:
    visit.open().click(300, 300).expect_count(1)
    visit.open(saved("PNG", Image.new("RGB", (400, 300), "gray")))
    visit.expect_count(0).expect_status("Type what to find")
    expect(visit.find("clear")).to_be_disabled()


def test_an_upload_is_sent_once_and_known_from_then_on(visit: Visit) -> None:
    visit.open().ask("red circle").expect_count(3)
    visit.mode("object").click(300, 300).expect_count(4)
    assert sum(url.endswith("/api/pictures") for url in visit.requests) == 1
    visit.find("timing").click()
    expect(visit.find("timing")).to_contain_text("skipped: it saw this image before")
    expect(visit.find("timing")).to_contain_text("picking")


def test_over_the_limit_and_with_a_token(browser: Browser, small: WebServer) -> None:
    with Visit(browser, small.url + "/#token=sesame") as visit:
        visit.url = small.url
        visit.find("file").set_input_files(
            {"name": "big.png", "mimeType": "", "buffer": b"x" * (LIMIT + 1)}
        )
        visit.expect_error(f"larger than the {LIMIT:,} bytes")
        visit.open().ask("red circle").expect_count(3)
        assert not any("sesame" in url for url in visit.requests if "#" not in url)
        assert "sesame" not in visit.page.url, "the token leaves the address bar"
        visit.page.reload()
        visit.expect_count(3)


def test_without_the_token(browser: Browser, small: WebServer) -> None:
    with Visit(browser, small.url) as visit:
        visit.expect_error("asks for a token")
        field = visit.find("token")
        assert field.get_attribute("type") == "password"
        field.fill("wrong")
        field.press("Enter")
        visit.expect_error("asks for a token")
        field.fill("sesame")
        field.press("Enter")
        expect(visit.find("error")).to_be_hidden()
        visit.open().ask("red circle").expect_count(3)
        assert not any("sesame" in url for url in [*visit.requests, visit.page.url])


def test_a_picture_that_the_server_let_go_is_sent_again(browser: Browser, small: WebServer) -> None:
    with Visit(browser, small.url + "/#token=sesame") as visit:
        visit.url = small.url
        visit.open().ask("red circle").expect_count(3)
        other = saved("PNG", Image.new("RGB", (40, 30)))["buffer"]
        answer = small.http.post(
            "/api/pictures", content=other, headers={"Authorization": "Bearer sesame"}
        )
        assert answer.status_code == 201
        visit.ask("star").expect_status("1 instance of star")
        assert sum(url.endswith("/api/pictures") for url in visit.requests) == 2


def send_file(visit: Visit, event: str, carrier: str) -> None:
    """Drop or paste the example as the browser would hand it over."""
    visit.page.evaluate(
        """([event, carrier, content]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const given = new DataTransfer();
            given.items.add(new File([bytes], "shapes.png", {type: "image/png"}));
            const kind = event === "drop" ? DragEvent : ClipboardEvent;
            document.dispatchEvent(new kind(event, {[carrier]: given, bubbles: true,
                cancelable: true}));
        }""",
        [event, carrier, base64.b64encode(SHAPES.read_bytes()).decode()],
    )
