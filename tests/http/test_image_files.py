"""Exactly the files that the container image holds, in an empty folder: all of them run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.cog_server import REPOSITORY, CogServer

EXAMPLE = REPOSITORY / "examples" / "shapes.png"
TOPS = {".cog", "LICENSE", "cog.yaml", "predict.py", "requirements.txt", "sam3_image", "weights"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that .dockerignore lets through."""
    folder = tmp_path_factory.mktemp("image") / "src"
    for name in kept(tmp_path_factory.mktemp("matcher"), tracked()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)
    return folder


def run(image: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the folder, which sees nothing else of the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=image,
        env={"PATH": os.environ["PATH"], "SAM3_WEIGHTS": "weights/demo", "SAM3_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_what_a_prediction_needs_and_no_more(tmp_path: Path) -> None:
    extra = [".cog/tmp/x", "weights/sam3/a.safetensors"]
    found = kept(tmp_path, [*tracked(), *extra])
    assert ".cog/tmp/x" in found, "cog build refuses to run when .cog is ignored"
    assert "weights/sam3/a.safetensors" in found
    assert {name.partition("/")[0] for name in found} <= TOPS
    assert not [
        name
        for name in found
        if name.startswith(("sam3_image/web", "sam3_image/batch", "sam3_image/fleet"))
    ]


def test_every_module_imports(image: Path) -> None:
    names = [
        ".".join(path.relative_to(image).with_suffix("").parts)
        for path in sorted((image / "sam3_image").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    assert len(names) > 30
    done = run(image, "-c", "\n".join(f"import {name}" for name in ["predict", *names]))
    assert done.returncode == 0, done.stderr


def test_the_command_line_runs(image: Path, tmp_path: Path) -> None:
    result = tmp_path / "masks.zip"
    options = ["--prompt", "red circle", "--output", str(result)]
    done = run(image, "-m", "sam3_image", "predict", str(EXAMPLE), *options)
    assert done.returncode == 0, done.stderr
    assert result.is_file()


def test_the_server_answers(image: Path, tmp_path: Path) -> None:
    with CogServer(tmp_path, {"SAM3_WEIGHTS": "weights/demo"}, image) as server:
        masks = server.ready().predict(image=EXAMPLE, prompt="red circle").masks()
    assert len(masks) == 3
    assert all(np.any(mask) for mask in masks)


def kept(folder: Path, names: list[str], rules: str = ".dockerignore") -> set[str]:
    """Those of the names that the file `rules` lets through; its rules are git's in what we use."""
    shutil.copy(REPOSITORY / rules, folder / ".gitignore")
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    found = subprocess.run(
        [*git, "check-ignore", "--no-index", "--stdin"],
        input="\n".join(names),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    return set(names) - set(found.stdout.splitlines())


def tracked() -> list[str]:
    """The files that git knows."""
    found = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files"], capture_output=True, text=True, check=True
    )
    return found.stdout.splitlines()
