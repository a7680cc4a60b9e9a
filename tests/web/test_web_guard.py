"""Who may ask the web server, and how much: names, origins, token, limits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sam3_image.errors import UserError
from sam3_image.web import WebSettings
from tests.helpers.web_server import WebServer

TOKEN = "correct horse battery staple"
LIMIT = 100_000


@pytest.fixture(scope="module")
def guarded(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A server that others can reach: with a token, and a small limit for uploads."""
    environment = {
        "SAM3_WEIGHTS": str(weights),
        "SAM3_TOKEN": TOKEN,
        "SAM3_WEB_MAX_UPLOAD": str(LIMIT),
        "SAM3_WEB_HOSTS": "sam.example",
    }
    folder = tmp_path_factory.mktemp("guarded")
    with WebServer(folder, environment) as running:
        yield running.ready()


def with_token(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "127.0.0.1:9"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Host": "sam.example"}, 200),
        ({"Host": "SAM.example:80"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:8000"}, 421),
        ({"Host": "10.0.0.1"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ({"Host": "localhost:9", "Origin": "http://localhost:10"}, 403),
        ({"Host": "localhost:9", "Origin": "null"}, 403),
        ({"Host": "localhost:9", "Origin": ""}, 403),
        ({"Host": "localhost:9", "Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        # A link on somebody's page may lead here.
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_names_and_origins(guarded: WebServer, headers: dict[str, str], status: int) -> None:
    answer = guarded.http.get("/", headers=headers)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert_problem(answer, status)


def test_a_form_of_another_site_cannot_navigate_here(guarded: WebServer) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert guarded.http.post("/", headers=headers).status_code == 403


@pytest.mark.parametrize("token", ["x", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü"])
def test_a_wrong_token(guarded: WebServer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode()}
    answer = guarded.http.get("/nothing", headers=headers)  # type: ignore[arg-type]
    assert_problem(answer, 401)
    assert TOKEN not in answer.text


def test_the_token_opens_what_the_page_files_do_not_need(guarded: WebServer) -> None:
    assert guarded.http.get("/nothing").status_code == 401
    assert guarded.http.get("/nothing", headers=with_token()).status_code == 404
    assert guarded.http.get("/").status_code == 200
    assert guarded.http.get("/static/../nothing").status_code == 401
    assert TOKEN not in guarded.log()


def test_every_answer_has_the_headers_that_bind_a_browser(guarded: WebServer) -> None:
    for path in ("/", "/nothing"):
        headers = guarded.http.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/static/%2e%2e/%2e%2e/app.py", 404),
        ("/static/..%2f..%2fapp.py", 404),
        ("/static//etc/passwd", 404),
        ("/static/%00", 404),
        ("/static/", 404),
    ],
)
def test_only_the_files_of_the_page_are_served(guarded: WebServer, path: str, status: int) -> None:
    answer = guarded.http.get(path, headers=with_token())
    assert_problem(answer, status)
    assert "/sam3_image" not in answer.text


def assert_problem(answer: httpx.Response, status: int) -> None:
    """The one body of errors: strings under the names that clients look for."""
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"message", "detail", "title", "status"}
    assert all(isinstance(value, str) and value for value in body.values())
    assert body["message"] == body["detail"]
    assert body["status"] == str(status)
    assert "\n" not in body["message"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "somewhere.example"])
def test_off_loopback_a_token_is_required(host: str) -> None:
    with pytest.raises(UserError, match="set SAM3_TOKEN"):
        WebSettings.from_environment({}, host)
    assert WebSettings.from_environment({"SAM3_TOKEN": "x"}, host).fetch_urls == "off"


def test_settings_of_the_environment() -> None:
    settings = WebSettings.from_environment({"SAM3_TOKEN": TOKEN, "SAM3_WEB_ROUTES": "page, x"})
    assert settings.groups == ("page", "x")
    assert settings.fetch_urls == "public"
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SAM3_WEB_MAX_UPLOAD", "0"),
        ("SAM3_WEB_MAX_UPLOAD", "-1"),
        ("SAM3_WEB_MAX_PICTURES", "many"),
        ("SAM3_WEB_MAX_PICTURE_BYTES", "1e9"),
        ("SAM3_FETCH_URLS", "maybe"),
    ],
)
def test_settings_that_mean_nothing_are_refused(variable: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{variable} is '{value}'"):
        WebSettings.from_environment({variable: value})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_quietly_and_leaves_no_files(
    weights: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with WebServer(tmp_path, {"SAM3_WEIGHTS": str(weights)}) as running:
        running.ready()
        assert running.http.get("/").status_code == 200
        running.process.send_signal(number)
        assert running.process.wait(60) == 0
        assert list(running.temporary.glob("sam3-*")) == []
        assert "Traceback" not in running.log()
