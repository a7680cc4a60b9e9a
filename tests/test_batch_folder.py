"""The folder of a job's results: whole parts, one writer at a time, and what is marked."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sam3_image.batch import marks, schema
from sam3_image.batch.folder import Folder, SupersededError, unwritable
from sam3_image.errors import InputError, OutputError

SETTINGS = {"inputs": {"prompts": ["star"]}, "checkpoint": {"digest": "d"}}


def rows(*uris: str) -> list[schema.Row]:
    return [schema.error_row(uri, "why", 0.0) for uri in uris]


def publish(folder: Folder, name: str, *uris: str) -> None:
    mark = folder.begin(name, list(uris), alone=False)
    folder.publish(name, schema.table(rows(*uris), SETTINGS))
    mark.remove()


def test_a_part_is_what_a_later_run_finds(tmp_path: Path) -> None:
    with Folder(tmp_path / "out").driven() as folder:
        publish(folder, "1", "a", "b")
        assert folder.done(SETTINGS) == ({"a", "b"}, 2)
        assert not list(folder.marks.iterdir())
        assert not list(folder.work.glob("*.tmp"))
    assert pq.read_table(tmp_path / "out").column("uri").to_pylist() == ["a", "b"]


def test_other_settings_are_refused_with_both_values(tmp_path: Path) -> None:
    with Folder(tmp_path).driven() as folder:
        publish(folder, "1", "a")
        with pytest.raises(InputError, match=r"prompts=\['star'\].*now prompts is \['ring'\]"):
            folder.done({**SETTINGS, "inputs": {"prompts": ["ring"]}})
        with pytest.raises(InputError, match=r"digest='d'.*'other'"):
            folder.done({**SETTINGS, "checkpoint": {"digest": "other"}})


def test_a_file_that_is_not_a_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-x.parquet").write_bytes(b"PAR1 but no more")
    with Folder(tmp_path).driven() as folder, pytest.raises(InputError, match=r"part-x\.parquet"):
        folder.done(SETTINGS)


def test_two_drivers_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        Folder(tmp_path).driven(),
        pytest.raises(OutputError, match="another run is writing"),
        Folder(tmp_path).driven(),
    ):
        pass


def test_workers_of_a_driver_that_is_gone_publish_nothing(tmp_path: Path) -> None:
    with Folder(tmp_path).driven() as old:
        old.begin("1", ["a"], alone=False)
    with Folder(tmp_path).driven() as new:
        with pytest.raises(SupersededError):
            old.publish("1", schema.table(rows("a"), SETTINGS))
        with pytest.raises(SupersededError):
            old.begin("2", ["b"], alone=False)
        assert not new.parts()
        assert [left.uris for left in marks.leftovers(new.marks)] == [("a",)]


def test_a_worker_that_was_given_up_publishes_nothing(tmp_path: Path) -> None:
    """A node that the network had cut off may come back and go on."""
    with Folder(tmp_path).driven() as folder:
        folder.begin("1", ["a"], alone=False)
        assert not folder.revoke("1")
        with pytest.raises(SupersededError):
            folder.publish("1", schema.table(rows("a"), SETTINGS))
        assert not folder.parts()


def test_a_part_that_was_published_before_its_worker_died_counts(tmp_path: Path) -> None:
    with Folder(tmp_path).driven() as folder:
        publish(folder, "1", "a")
        assert folder.revoke("1")


def test_nothing_is_under_the_final_name_when_the_disk_is_full(tmp_path: Path) -> None:
    with Folder(tmp_path).driven() as folder:
        folder.begin("1", ["a"], alone=False)
        (folder.work / "1.tmp").symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left") as caught:
            folder.publish("1", schema.table(rows("a"), SETTINGS))
        assert not folder.parts()
        message = str(unwritable(folder.path, caught.value))
        assert "No space left on device; free some disk space" in message
        assert "what was written stays" in message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"), Folder(tmp_path / "file/x").driven():
        pass


def test_a_mark_says_what_was_in_hand(tmp_path: Path) -> None:
    mark = marks.Mark(tmp_path / "1", ["a", "b", "c"], alone=False)
    for step in (mark.started, mark.finished):
        step(0)
    mark.started(1)
    left = marks.read(tmp_path / "1")
    assert left
    assert left.suspects == ("b",)
    assert left.uris == ("a", "b", "c")


def test_a_mark_without_a_trace_suspects_all(tmp_path: Path) -> None:
    """The machine went down before the trace was on the disk."""
    marks.Mark(tmp_path / "1", ["a", "b"], alone=False)
    left = marks.read(tmp_path / "1")
    assert left
    assert left.suspects == ("a", "b")
    (tmp_path / "2").write_bytes(b'{"alone": fal')
    assert marks.read(tmp_path / "2") == marks.Leftover(tmp_path / "2", (), (), False)


def test_a_thread_that_is_not_done_writes_into_no_other_file(tmp_path: Path) -> None:
    """A closed file's number is given to the next one that is opened."""
    mark = marks.Mark(tmp_path / "1", ["a"], alone=False)
    mark.remove()
    handle = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    mark.finished(0)
    os.close(handle)
    assert (tmp_path / "other").read_bytes() == b""
