"""Fixtures that several test files share: the weights, the real HTTP servers, a real browser."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sam3_image.decode import silence_libtiff
from tests.helpers import client_scenes
from tests.helpers.browser import Visit, chromium
from tests.helpers.client_scenes import Scene
from tests.helpers.cog_server import REPOSITORY, CogServer
from tests.helpers.roboflow_sdk import SdkProcess
from tests.helpers.web_server import WebServer

DEMO = REPOSITORY / "weights" / "demo"


@pytest.fixture(autouse=True)
def _temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor's setup() moves the process's temporary folder: not beyond one test."""
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="session", autouse=True)
def _silent_libtiff() -> None:
    """As in every process of ours; what the screen shows is compared with nothing."""
    silence_libtiff()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole, tiny checkpoint with random weights: it loads and runs, what it finds is noise."""
    from tests.helpers import tiny_checkpoint

    return tiny_checkpoint.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def weights() -> Path:
    """The demo checkpoint. It ships: without it this is no whole clone, and nothing is skipped."""
    assert list(DEMO.glob("*.safetensors")), f"{DEMO} is missing: git checkout {DEMO}"
    return DEMO


@pytest.fixture(scope="session")
def server(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """Cog's HTTP server with this repository's predictor, ready; one for the whole session."""
    with CogServer(tmp_path_factory.mktemp("server"), {"SAM3_WEIGHTS": str(weights)}) as running:
        yield running.ready()


@pytest.fixture(scope="session")
def web(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """The web server, ready; one for the whole session."""
    with WebServer(tmp_path_factory.mktemp("web"), {"SAM3_WEIGHTS": str(weights)}) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; skips where there is none.

    One for a test file, not for the session: while Playwright runs, its event loop does, and
    other files' tests could not start one of their own in this thread.
    """
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, web: WebServer) -> Iterator[Visit]:
    """A fresh look at the page in a wide window."""
    with Visit(browser, web.url) as looking:
        yield looking


@pytest.fixture(scope="session")
def roboflow() -> Iterator[SdkProcess]:
    """Roboflow's SDK in its own venv; one process for the whole session."""
    running = SdkProcess()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def scenes(server: CogServer) -> list[Scene]:
    """Drawn pictures with the answers of Cog's /predictions."""
    return client_scenes.make(server)


@pytest.fixture(scope="module")
def own(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """A server of the test file's own, which its tests may hurt."""
    with CogServer(tmp_path_factory.mktemp("own"), {"SAM3_WEIGHTS": str(weights)}) as running:
        yield running.ready()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., CogServer]]:
    """Starts a server of one's own: `start_server(SAM3_DTYPE="bfloat16")`, ended after the test."""
    started: list[CogServer] = []

    def start(**environment: str) -> CogServer:
        started.append(CogServer(tmp_path / f"server-{len(started)}", environment))
        return started[-1]

    yield start
    for running in started:
        running.stop()
