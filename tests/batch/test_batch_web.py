"""Images from the web, as servers are: what happened is said, and dead links end no run."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sam3_image.batch import reader
from sam3_image.batch.reader import ImageReader, Item, UnreachableError
from sam3_image.decode import Limits
from sam3_image.errors import ImageError
from tests.batch.test_batch_deaths import finish, start
from tests.batch.test_batch_sources import png
from tests.helpers.batch_run import rows

DEAD = "http://127.0.0.1:9"
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
HALF = png()[:20]
ANSWERS = {
    "/good.png": OK + b"Content-Length: %d\r\n\r\n" % len(png()) + png(),
    "/short.png": OK + b"Content-Length: %d\r\n\r\n" % len(png()) + HALF,
    "/chunk.png": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(png()) + HALF,
    "/status.png": b"HTTP/1.1 OK fine\r\n\r\n",
    "/nothing.png": b"",
    "/broken.png": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    "/a%20b.png": OK + b"Content-Length: %d\r\n\r\n" % len(png(1)) + png(1),
    "/%C3%BC.png": OK + b"Content-Length: %d\r\n\r\n" % len(png(2)) + png(2),
    "/moved.png": b"HTTP/1.1 302 Found\r\nLocation: /good.png\r\nContent-Length: 0\r\n\r\n",
}
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Site:
    """A server that sends raw bytes; asked: the paths in their order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request and (more := connection.recv(4096)):
                    request += more
                path = request.split(b" ")[1].decode() if b" " in request else ""
                self.asked.append(path)
                connection.sendall(ANSWERS.get(path, MISSING))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.socket.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PAUSE", 0.01)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("short.png", "without sending complete message body"),
        ("chunk.png", "without sending complete message body"),
        ("status.png", "illegal status line"),
        ("nothing.png", "disconnected without sending a response"),
        ("broken.png", "answered with 503 Busy"),
    ],
)
def test_a_bad_answer_is_tried_again_and_then_said(site: Site, name: str, words: str) -> None:
    site.asked.clear()
    with pytest.raises(UnreachableError, match=words):
        ImageReader(Limits()).read(Item(f"{site.url}/{name}"))
    assert site.asked == [f"/{name}"] * reader.TRIES


def test_addresses_as_people_write_them(site: Site) -> None:
    read: Callable[[str], object] = lambda name: ImageReader(Limits()).read(  # noqa: E731
        Item(f"{site.url}/{name}")
    )
    assert read("a b.png") == read("a%20b.png") == png(1)
    assert read("ü.png") == png(2)
    assert read("moved.png") == png()
    with pytest.raises(ImageError, match="is not an address"):
        ImageReader(Limits()).read(Item("http://host:port/a.png"))


def test_dead_links_are_rows_with_errors(site: Site, tmp_path: Path) -> None:
    """Many in a row at the beginning, so that no worker has reached anything before."""
    dead = [f"{DEAD}/{number}.png" for number in range(25)]
    gone = [f"{site.url}/gone-{number}.png" for number in range(5)]
    good = [f"{site.url}/good.png?{number}" for number in range(5)]
    ANSWERS.update({f"/good.png?{number}": ANSWERS["/good.png"] for number in range(5)})
    (tmp_path / "list.txt").write_text("\n".join([*dead, *gone, *good]))
    done = finish(start(tmp_path / "list.txt", tmp_path / "out", "--workers", "1"))
    found = rows(tmp_path / "out")
    assert len(found) == 35
    assert [found[uri]["status"] for uri in good] == ["ok"] * 5
    assert done["failed"] == 30
    assert "answered with 404" in str(found[gone[0]]["error"])
    assert "refused" in str(found[dead[0]]["error"])


def test_a_source_that_is_gone_as_a_whole_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"{DEAD}/{number}.png" for number in range(25)))
    process = start(tmp_path / "list.txt", tmp_path / "out", "--workers", "1")
    _, log = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "10 images in a row could not be fetched, nor could 13 from all over it" in log
