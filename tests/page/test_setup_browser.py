"""script/setup --dev and the browser that the page's tests need."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cog_server import REPOSITORY

TOOLS = ("bash", "env", "dirname", "cmp", "cat", "cp", "mkdir", "rm")
# What these tests ask for happens only where script/setup may call apt-get. Its two conditions
# cannot be played: bash sets EUID itself, and /etc/os-release is the machine's. CI meets both.
AS_CI_DOES = pytest.mark.skipif(
    os.geteuid() != 0 or platform.freedesktop_os_release().get("ID") != "debian",
    reason="setup installs a browser as root on Debian only",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which all packages are installed, and a PATH beside it without a browser."""
    folder, path = tmp_path / "clone", tmp_path / "bin"
    shutil.copytree(REPOSITORY / "script", folder / "script")
    installed = folder / ".venv" / ".installed"
    sdk = folder / ".tools" / "inference-sdk"
    for each in (installed, sdk, folder / ".venv" / "bin", path):
        each.mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for file in REPOSITORY.glob("requirements*.txt"):
        shutil.copy(file, folder)
        shutil.copy(file, installed)
    shutil.copy(REPOSITORY / "requirements-roboflow.txt", sdk / ".installed")
    for name in TOOLS:
        (path / name).symlink_to(shutil.which(name) or name)
    return folder


def setup(clone: Path, **environment: str) -> str:
    """What script/setup --dev says, called with that PATH and nothing else."""
    path = clone.parent / "bin"
    done = subprocess.run(
        [clone / "script" / "setup", "--dev"],
        env={"PATH": str(path), "HOME": str(path), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def apt(clone: Path, status: int) -> Path:
    """Put an apt-get into the PATH that writes down what it was asked for."""
    asked = clone.parent / "asked"
    program = clone.parent / "bin" / "apt-get"
    program.write_text(f'#!/usr/bin/env bash\necho "$@" >>{asked}\nexit {status}\n')
    program.chmod(0o755)
    return asked


def test_nothing_is_installed_for_a_person(clone: Path) -> None:
    asked = apt(clone, 0)
    assert setup(clone) == ""
    assert not asked.exists()


@AS_CI_DOES
def test_ci_gets_chromium_from_apt(clone: Path) -> None:
    asked = apt(clone, 0)
    assert "installing chromium" in setup(clone, CI="true")
    assert asked.read_text().splitlines() == [
        "update",
        "install --yes --no-install-recommends chromium",
    ]


@AS_CI_DOES
def test_without_packages_to_fetch_the_tests_are_skipped(clone: Path) -> None:
    apt(clone, 100)
    assert "so the page's tests are skipped" in setup(clone, CI="true")


def test_a_browser_that_is_there_is_enough(clone: Path) -> None:
    (clone.parent / "bin" / "chromium").symlink_to(shutil.which("cat") or "cat")
    asked = apt(clone, 0)
    assert setup(clone, CI="true") == ""
    assert not asked.exists()
