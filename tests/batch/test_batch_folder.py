"""The folder of a job's results: whole parts, one run at a time, and what a killed run leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sam3_image.batch import results, schema
from sam3_image.batch.reader import Item
from sam3_image.batch.results import ATTEMPTS, Attempts, Stock, locked, take_stock
from sam3_image.batch.storage import ResultFolder, canonical
from sam3_image.errors import InputError, OutputError, UserError

SETTINGS = {"inputs": {"prompts": ["star"]}, "checkpoint": {"digest": "d"}}


def item(uri: str) -> Item:
    return Item(uri, id=sum(uri.encode()))


def quiet(_: str) -> None:
    pass


def publish(folder: ResultFolder, *uris: str) -> str:
    rows = [schema.row_of(item(uri), schema.error_result("why", 0.0)) for uri in uris]
    return results.publish(folder, rows, SETTINGS)


def uris(path: Path) -> list[str]:
    return sorted(pq.read_table(path).column("uri").to_pylist())


def test_a_part_is_what_a_later_run_finds(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path / "out"))
    name = publish(folder, "a", "b")
    stock = take_stock(folder, SETTINGS, Stock())
    assert stock.prompts == {"a": None, "b": None}
    assert stock.errors == [("a", "why"), ("b", "why")]
    assert stock.parts == {name}
    assert stock.ids == {ord("a"), ord("b")}
    assert uris(tmp_path / "out") == ["a", "b"]


def test_the_same_images_are_the_same_part(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path))
    assert publish(folder, "a", "b") == publish(folder, "a", "b") != publish(folder, "ab")
    assert len(results.parts(folder)) == 2


def test_what_a_lost_worker_published_late_is_dropped(tmp_path: Path) -> None:
    """Its shard was given to others in halves meanwhile."""
    folder = ResultFolder(str(tmp_path))
    publish(folder, "a", "b")
    publish(folder, "c", "d")
    stock = take_stock(folder, SETTINGS, Stock())
    publish(folder, "a", "b", "c", "d")
    stock = take_stock(folder, SETTINGS, stock)
    assert sorted(stock.prompts) == uris(tmp_path) == ["a", "b", "c", "d"]
    publish(folder, "d", "e")
    stock = take_stock(folder, SETTINGS, stock)
    assert sorted(stock.prompts) == uris(tmp_path) == ["a", "b", "c", "d", "e"]
    assert len(stock.errors) == 5
    assert take_stock(folder, SETTINGS, Stock()).parts == stock.parts


def test_other_settings_are_refused_with_both_values(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path))
    publish(folder, "a")
    with pytest.raises(InputError, match=r"prompts=\['star'\].*now prompts is \['ring'\]"):
        take_stock(folder, {**SETTINGS, "inputs": {"prompts": ["ring"]}}, Stock())
    with pytest.raises(InputError, match=r"digest='d'.*'other'"):
        take_stock(folder, {**SETTINGS, "checkpoint": {"digest": "other"}}, Stock())


def test_a_file_that_is_not_a_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-x.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match=r"part-x\.parquet"):
        take_stock(ResultFolder(str(tmp_path)), SETTINGS, Stock())


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path))
    with (
        locked(folder, quiet),
        pytest.raises(OutputError, match="another run is writing"),
        locked(folder, quiet),
    ):
        pass
    with locked(folder, quiet):
        pass


def test_nothing_is_under_the_final_name_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ResultFolder(str(tmp_path))
    monkeypatch.setattr("secrets.token_hex", lambda _: "half")
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work/half.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        publish(folder, "a")
    assert not results.parts(folder)
    assert not list((tmp_path / ".work").iterdir())
    message = str(folder.unwritable(caught.value))
    assert "No space left on device; free some disk space" in message
    assert "what was written stays" in message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = ResultFolder(str(tmp_path / "file/x"))
    with pytest.raises(OutputError, match="Not a directory"), locked(folder, quiet):
        pass


@pytest.mark.parametrize(
    "address", ["ftp://host/out", "https://host/out", "hdfs://x/y", "s3://", "gs:///"]
)
def test_results_go_to_folders_and_buckets_only(address: str) -> None:
    with pytest.raises(InputError, match="local folder, or to an s3:// or gs://"):
        ResultFolder(address)


def test_a_folder_travels_without_credentials(tmp_path: Path) -> None:
    import pickle

    data = pickle.dumps(ResultFolder("s3://bucket/out"))
    assert len(data) < 300
    with pytest.raises(UserError, match="holds credentials") as caught:
        ResultFolder("s3://KEY:SECRET@bucket/out")
    assert "SECRET@" not in str(caught.value)


def test_unfinished_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path))
    (tmp_path / ".work").mkdir()
    for name, age in (("old.tmp", results.STALE_SECONDS + 60), ("new.tmp", 0)):
        (tmp_path / ".work" / name).touch()
        os.utime(tmp_path / ".work" / name, (time.time() - age,) * 2)
    with locked(folder, quiet):
        assert not (tmp_path / ".work/old.tmp").exists()
        assert (tmp_path / ".work/new.tmp").exists()


def test_attempts_are_kept_and_forgotten(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path))
    Attempts([["a", "b"]], {"c": 1}).save(folder)
    assert Attempts.of(folder) == Attempts([["a", "b"]], {"c": 1})
    Attempts().save(folder)
    assert folder.get(ATTEMPTS) is None
    folder.put(ATTEMPTS, b'{"in_hand": [')
    assert Attempts.of(folder) == Attempts()


@pytest.mark.parametrize(
    ("address", "folder", "expected"),
    [
        ("a/./k.jpg", "/in/", "/in/a/k.jpg"),
        ("FILE:///in/k.jpg", "", "/in/k.jpg"),
        ("file://localhost/in/k%231.jpg", "", "/in/k#1.jpg"),
        ("HTTPS://host/a/./b/../k.jpg?x=./y", "", "https://host/a/k.jpg?x=./y"),
        ("s3://bucket/a/./k.jpg", "", "s3://bucket/a/k.jpg"),
        ("k.jpg", "s3://bucket/lists/", "s3://bucket/lists/k.jpg"),
        ("http://host/caf\udce9.jpg", "", "http://host/caf%E9.jpg"),
        ("caf\udce9.jpg", "/in/", "file:///in/caf%E9.jpg"),
        ("s3://anonymous@bucket/k.jpg", "", "s3://anonymous@bucket/k.jpg"),
    ],
)
def test_one_image_has_one_spelling(address: str, folder: str, expected: str) -> None:
    assert canonical(address, folder) == expected
