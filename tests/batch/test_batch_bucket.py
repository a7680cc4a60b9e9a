"""Images in a bucket, results in a bucket: kills, resumes, two runs at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pyarrow.fs as arrow_fs
import pytest
from PIL import Image

from sam3_image.batch import results, schema
from sam3_image.batch.results import Stock, locked
from sam3_image.batch.sources import ImageSource
from sam3_image.batch.storage import ResultFolder
from sam3_image.errors import InputError, OutputError
from tests.batch.test_batch_deaths import SECONDS, finish, start, wait_for
from tests.batch.test_batch_folder import SETTINGS, item
from tests.helpers.batch_bucket import BUCKET, bucket  # noqa: F401 - a fixture
from tests.helpers.batch_run import rows

pytestmark = pytest.mark.usefixtures("bucket")
IMAGES = 300
BEAT = ("--beat", "2")


def quiet(_: str) -> None:
    pass


def upload(system: arrow_fs.FileSystem, folder: str, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        with system.open_output_stream(f"{BUCKET}/{folder}/{name}") as stream:
            stream.write(data)
    return f"s3://{BUCKET}/{folder}"


def png(tmp_path: Path) -> bytes:
    Image.new("RGB", (20, 10)).save(tmp_path / "x.png")
    return (tmp_path / "x.png").read_bytes()


def parts(out: str) -> list[str]:
    return results.parts(ResultFolder(out))


def test_killed_twice_and_resumed(
    bucket: arrow_fs.FileSystem,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = upload(bucket, "in", {f"{n:03}.png": png(tmp_path) for n in range(IMAGES)})
    out = f"s3://{BUCKET}/out"
    for kill in (1, 2):
        before = len(parts(out))
        process = start(source, out, "--engine", "Slow", *BEAT)
        wait_for(lambda: len(parts(out)) > before + 1)  # noqa: B023 - it is called at once
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert 0 < len(rows(out)) < IMAGES, f"kill {kill}"
    kept = len(rows(out))
    done = finish(start(source, out, *BEAT))
    assert done["skipped"] == kept
    assert done["rows"] == IMAGES - kept
    assert sorted(rows(out)) == [f"{source}/{n:03}.png" for n in range(IMAGES)]
    # What a killed worker had half written goes once it is too old to be another run's.
    monkeypatch.setattr(results, "STALE_SECONDS", -SECONDS)
    with locked(ResultFolder(out), quiet):
        assert [
            name for name in ResultFolder(out).files(results.WORK) if name.endswith(".tmp")
        ] == []
    assert list(ResultFolder(out).files(results.WORK)) == []


def test_a_second_run_at_the_same_time_is_refused(
    bucket: arrow_fs.FileSystem,  # noqa: F811
    tmp_path: Path,
) -> None:
    source = upload(bucket, "twice", {f"{n:03}.png": png(tmp_path) for n in range(IMAGES)})
    out = f"s3://{BUCKET}/once"
    first = start(source, out, "--engine", "Slow", *BEAT)
    wait_for(lambda: parts(out))
    second = start(source, out, *BEAT)
    _, log = second.communicate(timeout=100)
    assert second.returncode == 2
    assert "another run is writing to" in log
    assert finish(first)["rows"] == IMAGES
    assert len(rows(out)) == IMAGES


def test_other_settings_are_refused() -> None:
    folder = ResultFolder(f"s3://{BUCKET}/settings")
    row = schema.row_of(item("a"), schema.error_result("why", 0))
    results.publish(folder, [row], SETTINGS)
    with pytest.raises(InputError, match=r"now prompts is \['ring'\]"):
        results.take_stock(folder, {**SETTINGS, "inputs": {"prompts": ["ring"]}}, Stock())


def test_a_run_that_was_overtaken_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "BEAT", 0.1)
    folder = ResultFolder(f"s3://{BUCKET}/lock")
    with locked(folder, quiet) as lock:
        lock.require_held()
        folder.put(results.LEASE, b"another")
        wait_for(lambda: lock._lost)  # type: ignore[attr-defined]
        with pytest.raises(OutputError, match="another run is writing"):
            lock.require_held()
    assert folder.get(results.LEASE) == b"another"


def test_a_run_that_is_gone_is_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "BEAT", 0.1)
    folder = ResultFolder(f"s3://{BUCKET}/gone")
    folder.put(results.LEASE, b"gone 7")
    with locked(folder, quiet) as lock:
        lock.require_held()
    assert folder.get(results.LEASE) is None


def test_a_bucket_that_is_not_there() -> None:
    folder = ResultFolder("s3://no-such-bucket/out")
    with pytest.raises(OutputError, match=r"cannot write to.*bucket"), locked(folder, quiet):
        pass


def test_lists_tables_and_wildcards_in_a_bucket(
    bucket: arrow_fs.FileSystem,  # noqa: F811
    tmp_path: Path,
) -> None:
    files = {"a b#1.png": png(tmp_path), "below/b.png": png(tmp_path), "notes.md": b"x"}
    source = upload(bucket, "names", {**files, "list.txt": b"below/b.png\n./below/b.png\n"})
    found = ImageSource(source)
    assert list(found.items) == [f"{source}/a b#1.png", f"{source}/below/b.png"]
    assert found.others == 2
    assert list(ImageSource(f"{source}/*/b.*").items) == [f"{source}/below/b.png"]
    listed = ImageSource(f"{source}/list.txt")
    assert list(listed.items) == [f"{source}/below/b.png"]
    assert listed.repeated == 1
