"""docs/outputs.md: every command is accepted, and every block of Python reads what it gives."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3_image.decode.image import Image
from sam3_image.output.files import save
from sam3_image.output.options import Output
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.drawn_instances import disc, instances_of, photo, ring

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PAGE = REPOSITORY / "docs" / "outputs.md"
COMMANDS = re.findall(r"```sh\n(script/predict .*)\n```", PAGE.read_text(encoding="utf-8"))
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

SIZE = (60, 80)
MASKS = [ring(SIZE, (30, 40), 20), disc(SIZE, (10, 10), 8)]
INSIDE = np.any(MASKS, axis=0)
PIXELS = photo(SIZE)


def options(command: str) -> tuple[Output, str]:
    """What a command of the page asks for, and the name that it gives the file."""
    words = shlex.split(command)
    flags = [word for word in words if word.startswith("--")]
    values = dict(pairwise(words))
    output: dict[str, Any] = {}
    for flag in flags:
        name = flag[2:].replace("-", "_")
        if name.startswith("no_"):
            output[name[3:]] = False
        elif name in Output.model_fields:
            is_switch = isinstance(getattr(Output(), name), bool)
            output[name] = True if is_switch else values[flag]
    return Output(**output), values["--output"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file of every command on the page, for two instances drawn by hand."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "new").mkdir()
    found = instances_of(MASKS, concepts=["ring", "star"], prompts=[0, 1])
    for command in COMMANDS:
        output, name = options(command)
        shutil.move(save(Image(PIXELS, "PNG"), found, output, folder / "new"), folder / name)
    return folder


def check(names: dict[str, Any]) -> None:
    """Whatever a block has read is what was drawn."""
    if "masks" in names:
        assert np.array_equal(names["masks"], MASKS)
    if "overlay" in names:
        assert np.array_equal((names["overlay"] != PIXELS).any(axis=2), INSIDE)
    if "labels" in names:
        assert np.array_equal(names["labels"] > 0, INSIDE)
    if "inside" in names:
        assert np.array_equal(names["inside"], INSIDE)
    if "pixels" in names:
        assert np.array_equal(names["pixels"][INSIDE], PIXELS[INSIDE])
    if "detections" in names:
        assert np.array_equal(names["detections"].mask, MASKS)
        assert len(names["detections"].confidence) == len(MASKS)
    if "svg" in names:
        assert names["svg"].count("M") == 2, "the ring and its hole"
        assert names["svg"].count("Z") == 2


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_a_block_of_the_page_reads_its_result(
    results: Path, block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 5, "the page promises five lines"
    monkeypatch.chdir(results)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    check(names)
    if "print" in block:
        assert str(int(MASKS[0].sum())) in capsys.readouterr().out


def test_the_page_shows_every_output_and_its_pictures_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(COMMANDS) == 13
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (PAGE.parent / picture).is_file(), picture
    for link in re.findall(r"[^!]\[[^\]]+\]\((?!http)([^)]+)\)", text):
        assert (PAGE.parent / link).is_file(), link
