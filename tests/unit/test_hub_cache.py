"""Weights from the hub where its cache is missing, cannot be written, or is all there is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.cog_server import REPOSITORY
from tests.helpers.hub import Hub
from tests.helpers.nobody import UID, as_nobody, environment

CODE = """
import os
from sam3_image.errors import UserError
from sam3_image.model.weights.source import WeightsSource, locate
from sam3_image.settings import Settings
try:
    print(locate(WeightsSource.of(Settings.from_environment(os.environ))))
except UserError as error:
    print(error)
"""
Locate = Callable[..., str]


@pytest.fixture(scope="module")
def hub(tiny_weights: Path) -> Iterator[Hub]:
    with Hub(tiny_weights) as hub:
        yield hub


@pytest.fixture
def locate(hub: Hub, tmp_path: Path) -> Locate:
    """The folder of the weights, or the sentence why there is none, under variables."""

    def run(**variables: str) -> str:
        done = subprocess.run(
            as_nobody([sys.executable, "-c", CODE]),
            env={**environment(tmp_path, REPOSITORY), "HF_ENDPOINT": hub.url, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        return line

    return run


def own_folder(path: Path, mode: int = 0o700) -> Path:
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, UID, UID)
    path.chmod(mode)
    return path


def test_without_a_home_it_says_what_to_set(locate: Locate) -> None:
    for variables in ({"HF_TOKEN": "hf_right"}, {"SAM3_WEIGHTS": "facebook/sam3"}):
        said = locate(**variables)
        assert "no home folder" in said
        assert "set HF_HOME" in said
    assert "neither 'demo'" in locate(SAM3_WEIGHTS="~/weights")
    assert "There are no weights" in locate()


def test_a_cache_that_cannot_be_written_is_named(locate: Locate, tmp_path: Path) -> None:
    home = own_folder(tmp_path / "cache", 0o500)
    said = locate(SAM3_WEIGHTS="facebook/sam3", HF_HOME=str(home))
    assert f"{home / 'hub'} cannot be written to (Permission denied)" in said
    assert "set HF_HOME" in said


def test_offline_takes_the_cache_and_says_what_it_lacks(
    hub: Hub, locate: Locate, tmp_path: Path
) -> None:
    home = own_folder(tmp_path / "cache")
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    for variables in (offline, {**offline, "SAM3_WEIGHTS": "facebook/sam3"}):
        said = locate(**variables)
        assert "HF_HUB_OFFLINE is set" in said
        assert f"{home / 'hub'} does not hold all of it" in said
    online = locate(SAM3_WEIGHTS="facebook/sam3", HF_HOME=str(home))
    assert Path(online, "config.json").is_file()
    hub.requests.clear()
    home.chmod(0o500)
    assert locate(**offline) == online  # without a token, and nothing is written
    (Path(online) / "config.json").unlink()
    assert "HF_HUB_OFFLINE is set" in locate(**offline)
    assert not hub.requests
