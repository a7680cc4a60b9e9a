"""URLs in requests: what is fetched, what is refused, and that no trick leads inside."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest

from sam3_image.settings import OFF, PRIVATE, PUBLIC
from sam3_image.web.fetch import Fetcher, FetchError, connect, is_public

PUBLIC_ADDRESS = "93.184.215.14"
HANGING = "http://images.test/hang"


class Handler(BaseHTTPRequestHandler):
    """What the tests ask for by path; remembers the headers it was sent."""

    seen: dict[str, str]
    dripped = 0

    def do_GET(self) -> None:
        type(self).seen = {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/large":
            self.answer(b"x" * 3000)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(40):
                self.wfile.write(b"x")
                type(self).dripped += 1
                time.sleep(0.05)
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.answer(b"image of " + self.path.encode())

    def do_POST(self) -> None:
        if self.path == "/hang":
            time.sleep(60)
        type(self).seen = {"body": self.rfile.read(int(self.headers["Content-Length"])).decode()}
        self.answer(b"thanks")

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture
def internet(port: int) -> Callable[..., Fetcher]:
    """A fetcher for which some names are public; what it connects to is the local server."""
    names = {
        "images.test": [PUBLIC_ADDRESS],
        "other.test": [PUBLIC_ADDRESS],
        "xn--bcher-kva.test": [PUBLIC_ADDRESS],
        "inside.test": ["10.0.0.7"],
        "metadata.test": ["169.254.169.254"],
        "both.test": [PUBLIC_ADDRESS, "192.168.1.1"],
        "mapped.test": ["::ffff:127.0.0.1"],
    }

    def resolve(host: str, _port: int) -> list[str]:
        return names.get(host) or [host.strip("[]")]

    async def to_local(
        address: str, _port: int, seconds: float | None
    ) -> httpcore.AsyncNetworkStream:
        assert address == PUBLIC_ADDRESS, f"connected to {address}"
        return await connect("127.0.0.1", port, seconds)

    return lambda **options: Fetcher(
        **{"policy": PUBLIC, "resolve": resolve, "connect": to_local, **options}
    )


def get(fetcher: Fetcher, url: str, authorization: str | None = None) -> bytes:
    return asyncio.run(fetcher.fetch(url, authorization))


def test_a_public_address_is_fetched(internet: Callable[..., Fetcher]) -> None:
    assert get(internet(), "http://images.test/a.png?x=1") == b"image of /a.png?x=1"
    assert Handler.seen["host"] == "images.test"
    assert get(internet(), "http://images.test/to/http://other.test/b") == b"image of /b"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1"),
        *("fec0::1", "192.0.0.8", "192.88.99.1", "3fff::1", "5f00::1", "100::1", "2001::7f00:1"),
        *("::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC_ADDRESS, "8.8.8.8", "2606:2800:220:1::1"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        ("http://127.0.0.1/x", "127.0.0.1"),
        ("http://[::1]/x", "::1"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("http://inside.test/", "10.0.0.7"),
        ("http://metadata.test/", "169.254.169.254"),
        ("http://both.test/", "192.168.1.1"),
        ("http://mapped.test/", "::ffff:127.0.0.1"),
        ("http://images.test/to/http://127.0.0.1/", "127.0.0.1"),
        ("http://images.test/to/http://metadata.test/", "169.254.169.254"),
        ("http://images.test/to/http://images.test/to/http://inside.test/", "10.0.0.7"),
    ],
)
def test_what_leads_inside_is_refused(
    internet: Callable[..., Fetcher], url: str, leads_to: str
) -> None:
    with pytest.raises(FetchError, match=f"leads to {leads_to}, which is not an address of the"):
        get(internet(), url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "0"])
def test_real_names_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises(FetchError, match=r"leads to (127\.0\.0\.1|::1|0\.0\.0\.0)"):
        get(Fetcher(PUBLIC), f"http://{host}:9/")


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://images.test/x", "gopher://images.test/", "/etc/passwd"),
        *("http://", "http:///x", "http://images.test:0/", "http://images.test:99999/"),
        *("http://images .test/", "http://images.test/\r\nX-Evil: 1", "http://[::1/"),
        "http://images.test/to/file:///etc/passwd",
    ],
)
def test_what_is_not_a_web_address_is_refused(internet: Callable[..., Fetcher], url: str) -> None:
    with pytest.raises(FetchError, match=r"must be an http\(s\) or data URL"):
        get(internet(), url)


def test_a_url_with_a_password_is_refused_without_repeating_it(
    internet: Callable[..., Fetcher],
) -> None:
    with pytest.raises(FetchError, match="a user name or a password") as caught:
        get(internet(), "http://me:secret@images.test/")
    assert "secret" not in str(caught.value)


def test_nothing_is_fetched_when_off(internet: Callable[..., Fetcher]) -> None:
    with pytest.raises(FetchError, match="SAM3_FETCH_URLS=off"):
        get(internet(policy=OFF), "http://images.test/")


def test_private_addresses_when_allowed(port: int) -> None:
    assert get(Fetcher(PRIVATE), f"http://localhost:{port}/x") == b"image of /x"


@pytest.mark.parametrize(
    ("url", "path", "host"),
    [
        ("http://images.test/peñoles.png", "/pe%C3%B1oles.png", "images.test"),
        ("http://images.test/a b.png?c=d é&e=%20", "/a%20b.png?c=d%20%C3%A9&e=%20", "images.test"),
        ("HTTP://Images.Test/A%20b", "/A%20b", "images.test"),
        ("http://bücher.test/x", "/x", "xn--bcher-kva.test"),
        ("http://images.test/to/http://images.test/ñ", "/%C3%B1", "images.test"),
    ],
)
def test_addresses_as_people_write_them(
    internet: Callable[..., Fetcher], url: str, path: str, host: str
) -> None:
    get(internet(), url)
    assert (Handler.seen["path"], Handler.seen["host"]) == (path, host)


def test_webhooks_that_nobody_answers_do_not_keep_images_waiting(
    internet: Callable[..., Fetcher],
) -> None:
    """Sixteen posts wait; a fetch is answered, and canceling the posts ends them at once."""

    async def run() -> float:
        fetcher = internet(max_seconds=30)
        posts = [asyncio.ensure_future(fetcher.post(HANGING, b"{}")) for _ in range(16)]
        await asyncio.sleep(0.2)
        begin = time.monotonic()
        assert await fetcher.fetch("http://images.test/x") == b"image of /x"
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        return time.monotonic() - begin

    assert asyncio.run(run()) < 10


def test_the_time_runs_from_the_moment_of_asking(internet: Callable[..., Fetcher]) -> None:
    async def run() -> list[BaseException | bytes]:
        fetcher = internet(max_seconds=1)
        posts = [fetcher.post(HANGING, b"{}") for _ in range(17)]
        return await asyncio.gather(*posts, return_exceptions=True)

    begin = time.monotonic()
    assert all(isinstance(one, FetchError) for one in asyncio.run(run()))
    assert time.monotonic() - begin < 15  # one after the other, they would take longer


@pytest.mark.parametrize("policy", [OFF, PUBLIC])
def test_the_server_that_the_operator_named(port: int, policy: str) -> None:
    fetcher = Fetcher(policy, trusted=f"http://localhost:{port}/labels")
    assert get(fetcher, f"http://localhost:{port}/x", "Bearer abc") == b"image of /x"
    assert Handler.seen["authorization"] == "Bearer abc"
    with pytest.raises(FetchError):
        get(fetcher, f"http://localhost:{port + 1}/x")
    with pytest.raises(FetchError):  # a redirect away from it is judged like any other address
        get(fetcher, f"http://localhost:{port}/to/http://127.0.0.1:{port}/x")


def test_a_secret_does_not_follow_a_redirect_to_another_server(
    internet: Callable[..., Fetcher],
) -> None:
    get(internet(), "http://images.test/to/http://other.test/b", "Bearer abc")
    assert Handler.seen["host"] == "other.test"
    assert "authorization" not in Handler.seen


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/large", {"max_bytes": 2999}, "holds more than 2,999 bytes"),
        ("/cut", {}, "cannot be fetched"),
        ("/missing", {}, "answered 404"),
        ("/to//to//to//to//to//to//x", {}, "redirects more than 4 times"),
    ],
)
def test_limits(
    internet: Callable[..., Fetcher], path: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(FetchError, match=message):
        get(internet(**options), f"http://images.test{path}")


def test_a_slow_answer_is_not_waited_for(internet: Callable[..., Fetcher]) -> None:
    Handler.dripped = 0
    with pytest.raises(FetchError, match=r"took more than 0\.2 s"):
        get(internet(max_seconds=0.2), "http://images.test/drip")
    assert Handler.dripped < 40  # which is all of it


def test_exactly_the_limit_is_accepted(internet: Callable[..., Fetcher]) -> None:
    assert len(get(internet(max_bytes=3000), "http://images.test/large")) == 3000


def test_webhooks_follow_the_same_rules(internet: Callable[..., Fetcher]) -> None:
    assert asyncio.run(internet().post("http://images.test/hook", b'{"id": 1}')) == b"thanks"
    assert Handler.seen == {"body": '{"id": 1}'}
    with pytest.raises(FetchError, match=r"leads to 10\.0\.0\.7"):
        asyncio.run(internet().post("http://inside.test/hook", b"{}"))
