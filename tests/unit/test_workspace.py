"""The folder of downloads and results: what stays, what goes, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3_image.errors import OutputError
from sam3_image.serving.workspace import Workspace


def test_results_stay_for_their_time_and_go_then(place: Callable[..., Workspace]) -> None:
    work = place(grace=0.3)
    with work.result_folder() as folder:
        (folder / "masks.zip").touch()
        work.sweep()
    work.sweep()
    assert (folder / "masks.zip").exists()
    time.sleep(0.4)
    work.sweep()
    assert not folder.exists()


def test_half_a_result_goes_at_once(place: Callable[..., Workspace]) -> None:
    work = place()

    def fail() -> None:
        with work.result_folder() as folder:
            (folder / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(work.folder.iterdir()) == []


def test_only_what_nobody_uses_and_nobody_writes_is_swept(
    place: Callable[..., Workspace],
) -> None:
    work = place()
    stale, waiting, growing = (work.folder / name for name in ("stale", "waiting", "growing"))
    old_folder = work.folder / "left by another"
    old_folder.mkdir()
    (old_folder / "file").touch()
    link = work.folder / "link"
    link.symlink_to(work.folder.parent)
    with work.result_folder() as result:
        (result / "masks.zip").touch()
    for path in (stale, waiting, growing):
        path.touch()
    for path in (stale, waiting, result, old_folder, link):
        os.utime(path, (1, 1), follow_symlinks=False)
    work.hold([waiting])
    work.sweep()
    assert set(work.folder.iterdir()) == {waiting, growing, result}
    assert work.folder.parent.is_dir()
    work.release([waiting])
    work.sweep()
    assert set(work.folder.iterdir()) == {growing, result}


def test_a_complete_download_waits_while_another_goes_on(
    place: Callable[..., Workspace],
) -> None:
    """A request may have two; what a cancel left behind goes as soon as nothing is coming."""
    work = place(grace=60, orphaned=300)
    first, second = (work.folder / name for name in ("first", "second"))

    def aged(**seconds: float) -> set[Path]:
        for name, age in seconds.items():
            path = work.folder / name
            path.touch()
            os.utime(path, (time.time() - age,) * 2)
        work.sweep()
        return set(work.folder.iterdir())

    assert aged(first=70, second=5, forgotten=310) == {first, second}
    assert aged(first=70, second=14) == {first, second}
    assert aged(first=70, second=16) == {second}
    assert aged(second=61) == set()


def test_the_folder_goes_with_its_owner(place: Callable[..., Workspace]) -> None:
    folder = place().folder
    assert not folder.exists()
    work = place()
    work.close()
    assert not work.folder.exists()
    assert work.usable()  # made again, should anyone still need it


def test_a_workspace_without_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match=r"missing.*No such file.*TMPDIR") as caught:
        Workspace()
    assert "\n" not in str(caught.value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workspace]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Workspace
