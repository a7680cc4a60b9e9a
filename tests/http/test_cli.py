"""The command line: the inputs of predict(), one path on stdout, one line for an error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3_image.cli import main
from sam3_image.request import Request
from tests.helpers.cog_server import REPOSITORY, CogServer, pixels

EXAMPLE = REPOSITORY / "examples" / "shapes.png"


@pytest.fixture
def ready(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder of one's own, with weights and temporary files; returns the folder."""
    monkeypatch.setenv("SAM3_WEIGHTS", str(weights))
    monkeypatch.setenv("SAM3_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def test_prints_only_the_path_of_the_result(
    ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(EXAMPLE), "--prompt", "red circle", "--threshold", "0"]) == 0
    said = capsys.readouterr()
    path = Path(said.out.removesuffix("\n"))
    assert path == Path("out/shapes-masks.zip")
    assert path.is_file()
    assert "800×600" in said.err  # the log
    assert list((ready / "temporary").glob("sam3-image-*")) == []


def test_gives_what_the_server_gives(ready: Path, server: CogServer) -> None:
    inputs = {"prompt": "blue square", "threshold": 0.25, "save_overlay": True}
    options = ["--prompt", "blue square", "--threshold", "0.25", "--save-overlay"]
    assert main(["predict", str(EXAMPLE), *options, "--output", "new/folder/here.zip"]) == 0
    over_http = server.predict(image=EXAMPLE, **inputs)
    assert Path("new/folder/here.zip").read_bytes() == over_http.content


def test_options_reach_the_predictor(ready: Path) -> None:
    options = ["--no-return-zip", "--mask-color", "blue", "--mask-opacity", "1", "--threshold", "0"]
    assert main(["predict", str(EXAMPLE), *options, "--output", "picture.png"]) == 0
    changed = np.any(pixels(Path("picture.png").read_bytes()) != pixels(EXAMPLE.read_bytes()), -1)
    assert changed.any()
    assert np.all(pixels(Path("picture.png").read_bytes())[changed] == (0, 0, 255))


def test_list_option(ready: Path) -> None:
    options = ["--prompts", "red circle", "blue square", "--threshold", "0", "--max-instances", "3"]
    assert main(["predict", str(EXAMPLE), *options, "--output", "masks.zip"]) == 0
    with zipfile.ZipFile("masks.zip") as archive:
        assert len(archive.namelist()) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "1.5"], ["threshold", "1.5", "from 0 to 1"]),
        (["--threshold", "nan"], ["threshold", "nan", "from 0 to 1"]),
        (["--threshold", "half"], ["--threshold", "'half'", "number"]),
        (["--max-instances", "0"], ["max_instances", "0", "at least 1"]),
        (["--max-instances", "1.5"], ["--max-instances", "'1.5'", "whole number"]),
        (["--mask-color", "mauve"], ["mauve", "green", "magenta"]),
        (["--prompt", "x" * 501], ["prompt", "501", "500"]),
        (["--prompt", " "], ["prompt"]),
        (["--colour", "red"], ["--colour", "--help"]),
        (["--thresh", "0.5"], ["--thresh", "--help"]),
    ],
)
def test_bad_option_is_one_line_and_status_2(
    ready: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    assert main(["predict", str(EXAMPLE), *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    complaint = said.err.splitlines()[-1]
    assert complaint.startswith("predict: ")
    assert all(word in complaint for word in words), complaint
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", ["missing.png", "folder", "text.png"])
def test_bad_image_is_one_line_and_status_2(
    ready: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    Path("folder").mkdir()
    Path("text.png").write_text("no picture")
    assert main(["predict", name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("predict: ")
    assert "Traceback" not in said.err


def test_result_that_cannot_be_written(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert main(["predict", str(EXAMPLE), "--output", "file/below.zip"]) == 2
    assert "file/below.zip" in capsys.readouterr().err.splitlines()[-1]
    assert list((ready / "temporary").glob("sam3-image-*")) == []


def test_options_without_an_image(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--prompt", "red circle"]) == 2
    assert "without an image" in capsys.readouterr().err


def test_help_lists_every_input_without_loading_torch() -> None:
    code = (
        "import sys, sam3_image.cli\n"
        "try: sam3_image.cli.main(['predict', '--help'])\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in Request.inputs():
        assert "--" + name.replace("_", "-") in found.stdout


def test_without_arguments_it_shows_an_example(tmp_path: Path) -> None:
    """The README's first command, from another folder that has a predict.py of its own."""
    (tmp_path / "predict.py").write_text("raise SystemExit('the wrong predict.py')")
    found = subprocess.run(
        [REPOSITORY / "script" / "predict"],
        cwd=tmp_path,
        env={**os.environ, "SAM3_DEVICE": "cpu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "demo checkpoint" in found.stderr
    (line,) = found.stdout.splitlines()
    result = (tmp_path / line).read_bytes()
    with Image.open(io.BytesIO(result)) as picture, Image.open(EXAMPLE) as example:
        assert picture.size == example.size
        assert picture.tobytes() != example.convert("RGB").tobytes(), "nothing was found"
