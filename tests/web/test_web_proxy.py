"""Behind a reverse proxy that ends TLS and adds a prefix: the addresses that are given out work."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from sam3_image.web import WebSettings
from sam3_image.web.__main__ import _opened_at
from tests.helpers.browser import Visit
from tests.helpers.cog_server import data_url
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import CIRCLE, SHAPES

PREFIX = "/sam"


class Proxy:
    """HTTPS on this machine: what is below `PREFIX` goes to the server, with or without it."""

    def __init__(self, folder: Path, strips: bool) -> None:
        self.target = ""
        self.strips = strips
        certificate, key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                proxy.forward(self)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.listening.socket = context.wrap_socket(self.listening.socket, server_side=True)
        self.host = f"localhost:{self.listening.server_address[1]}"
        self.trust = ssl.create_default_context(cafile=str(certificate))
        threading.Thread(target=self.listening.serve_forever, daemon=True).start()

    def forward(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        if not path.startswith(f"{PREFIX}/"):
            handler.send_error(404)
            return
        inner = http.client.HTTPConnection(self.target)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        headers = dict(handler.headers.items())
        headers |= {"Host": self.target, "X-Forwarded-Proto": "https"}
        headers["X-Forwarded-Host"] = handler.headers["Host"]
        inner.request(
            handler.command, path.removeprefix(PREFIX) if self.strips else path, body, headers
        )
        answer = inner.getresponse()
        content = answer.read()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("date", "connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)
        inner.close()


@pytest.fixture(scope="module", params=[True, False], ids=["stripped", "kept"])
def proxied(
    request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Proxy, httpx.Client]]:
    folder = tmp_path_factory.mktemp("proxy")
    proxy = Proxy(folder, strips=request.param)
    address = f"https://{proxy.host}{PREFIX}"
    environment = {"SAM3_WEIGHTS": str(weights), "SAM3_PUBLIC_URL": address}
    with WebServer(folder / "own", environment) as own:
        own.ready(f"{address}/")
        proxy.target = own.listens_at()
        with httpx.Client(base_url=address, verify=proxy.trust, timeout=120) as client:
            client.headers["Origin"] = f"https://{proxy.host}"
            yield proxy, client
    proxy.listening.shutdown()


def test_page_upload_and_addresses(proxied: tuple[Proxy, httpx.Client]) -> None:
    proxy, client = proxied
    assert "<html" in client.get("/").text
    assert client.get("/static/main.js").status_code == 200
    known = client.post("/api/pictures", content=SHAPES).json()["id"]
    body: dict[str, Any] = {"picture": known, "inputs": {"prompt": CIRCLE}}
    assert len(client.post("/api/segment", json=body).json()["scores"]) == 3
    body = {"input_image": data_url(SHAPES), "prompt": CIRCLE}
    url = client.post("/api/ai/images/edit", json=body).json()["images"][0]["url"]
    assert url.startswith(f"https://{proxy.host}{PREFIX}/api/ai/results/")
    assert client.get(url).content[1:4] == b"PNG"
    body = {"input": {"image": data_url(SHAPES), "prompt": CIRCLE}}
    made = client.post("/v1/predictions", json=body).json()
    assert made["urls"]["get"] == f"https://{proxy.host}{PREFIX}/v1/predictions/{made['id']}"
    assert client.get(made["urls"]["get"]).status_code == 200
    foreign = client.post("/api/segment", json=body, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403


def test_the_page_works_below_a_prefix(
    proxied: tuple[Proxy, httpx.Client], browser: Browser
) -> None:
    """Its files, its routes and its worker: all addresses are relative to its own."""
    proxy, _ = proxied
    address = f"https://{proxy.host}{PREFIX}/"
    with Visit(browser, address, ignore_https_errors=True) as visit:
        visit.page.get_by_text("Use the example").click()
        visit.find("concepts").fill(CIRCLE)
        visit.find("concepts").press("Enter")
        visit.expect_count(3)


def test_forwarded_headers_count_from_trusted_addresses_alone(web: WebServer) -> None:
    def url(**headers: str) -> str:
        body = {"input": {"image": "data:,x"}}
        answer = web.http.post("/v1/predictions", json=body, headers=headers)
        return str(answer.json()["urls"]["get"])

    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost:9"}
    assert url(**forwarded).startswith("https://localhost:9/v1/")
    # A page that made its own name point here may send any header, but not another Host.
    for headers in (
        {"Host": "evil.example", "X-Forwarded-Host": "localhost"},
        {"X-Forwarded-Host": "evil.example"},
    ):
        assert web.http.get("/", headers=headers).status_code == 421


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (WebSettings(), "http://127.0.0.1:9/"),
        (WebSettings(host="0.0.0.0", token="x"), "http://127.0.0.1:9/"),
        (WebSettings(host="::", token="x"), "http://[::1]:9/"),
        (WebSettings(public_url="https://sam.example/x"), "https://sam.example/x/"),
    ],
)
def test_the_address_that_is_printed_can_be_opened(settings: WebSettings, address: str) -> None:
    class Listening:
        def getsockname(self) -> tuple[str, int]:
            return "", 9

    printed = _opened_at(settings, Listening())  # type: ignore[arg-type]
    assert printed.partition("  (")[0] == address
