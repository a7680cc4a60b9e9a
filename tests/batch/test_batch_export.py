"""Exports of results: fixed while parts arrive, the same over resumes, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow
from pycocotools import mask as coco_masks

from sam3_image.batch import export, results, schema
from sam3_image.batch.reader import Item
from sam3_image.batch.sources import ImageSource
from sam3_image.batch.storage import WORK, ResultFolder
from tests.helpers.cog_server import REPOSITORY

METADATA = {"inputs": {"prompts": ["star"]}}


def publish(
    folder: ResultFolder, first: int, count: int, names: str = "/in/{:03}.png", **more: object
) -> None:
    """A part with images, of which number n has n modulo 3 instances, n pixels wide."""
    rows = []
    for number in range(first, first + count):
        mask = np.zeros((40, 50), dtype=np.uint8, order="F")
        mask[5:20, 3 : 3 + number % 40 + 1] = 1
        code = coco_masks.encode(mask)
        instance = {
            "concept": more.get("concept", "star"),
            "score": 0.9,
            "presence": 0.8,
            "box": [3.0, 5.0, 4.0 + number, 20.0],
            "area": int(mask.sum()),
            "rle": {"size": [40, 50], "counts": code["counts"].decode()},
        }
        document = {"image": {"width": 50, "height": 40}, "instances": [instance] * (number % 3)}
        item = Item(names.format(number), id=number + 1)
        rows.append(schema.row_of(item, schema.ok_result(document, 0.1)))
    results.publish(folder, rows, METADATA)


def coco(folder: ResultFolder) -> dict[str, list[dict]]:
    path = export.export(folder, "coco")
    found: dict[str, list[dict]] = json.loads(Path(path).read_text())
    return found


def widths(document: dict[str, list[dict]]) -> dict[str, list[float]]:
    """The width of each image's instances, by the image's name."""
    names = {image["id"]: image["file_name"] for image in document["images"]}
    found: dict[str, list[float]] = {name: [] for name in names.values()}
    for item in document["annotations"]:
        found[names[item["image_id"]]].append(item["bbox"][2])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    made = ResultFolder(str(tmp_path / "out"))
    for first in range(0, 30, 5):
        publish(made, first, 5)
    return made


def test_parts_that_arrive_meanwhile_are_left_for_the_next_export(
    folder: ResultFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = results.read_part
    arrived = iter(range(100, 400, 5))

    def and_another(*given: object) -> object:
        publish(folder, next(arrived), 5)
        return read(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(results, "read_part", and_another)
    found = widths(coco(folder))
    expected = {f"{n:03}.png": [float(n + 1)] * (n % 3) for n in range(30)}
    assert found == expected


def test_ids_outlive_resumes(folder: ResultFolder) -> None:
    before = coco(folder)
    publish(folder, 30, 5)
    after = coco(folder)
    for kind in ("images", "annotations", "categories"):
        old = {record["id"]: record for record in before[kind]}
        new = {record["id"]: record for record in after[kind]}
        assert len(new) == len(after[kind])
        assert old.items() <= new.items()


def test_categories_are_the_runs_prompts_and_then_those_of_single_images(
    folder: ResultFolder,
) -> None:
    publish(folder, 200, 2, concept="moon")
    publish(folder, 100, 2, concept="sun")
    found = {record["name"]: record["id"] for record in coco(folder)["categories"]}
    assert found == {"star": 1, "sun": 2, "moon": 3}


@pytest.mark.parametrize("wanted", [name for name in export.NAMES if name != "parquet"])
def test_every_format_has_every_image(folder: ResultFolder, wanted: str) -> None:
    path = Path(export.export(folder, wanted))
    if path.is_dir():
        assert len([file for file in path.rglob("*") if file.stem[:2].isdigit()]) == 30
    else:
        assert len(json.loads(path.read_text())["images"]) == 30
    assert not list((path.parent / WORK).glob("*"))


def test_files_are_named_after_their_images_and_lead_nowhere_else(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path / "out"))
    publish(folder, 1, 1, "https://host/../../x{}.png")
    publish(folder, 2, 1, "https://host//x{}.png")
    publish(folder, 3, 1, "https://host/x.png")
    publish(folder, 4, 1, "https://host/x.jpg")
    publish(folder, 5, 1, "https://host/y.jpg")
    path = Path(export.export(folder, "rle"))
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*.json"))
    assert len(names) == 5
    assert {"x.png.json", "x.jpg.json", "y.json"} < set(names)
    assert not [file for file in tmp_path.rglob("*.json") if path not in file.parents]


def local_images(folder: Path) -> ResultFolder:
    """Results beside their images, of which two have equal names but for the ending."""
    for name in ("1.png", "2.png", "below/1.png", "below/1.jpg"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Pillow.new("RGB", (50, 40)).save(path)
    made = ResultFolder(str(folder / "out"))
    publish(made, 1, 2, f"{folder}/{{}}.png")
    publish(made, 1, 1, f"{folder}/below/{{}}.png")
    publish(made, 1, 1, f"{folder}/below/{{}}.jpg")
    return made


def test_a_yolo_export_has_its_images_where_ultralytics_looks(tmp_path: Path) -> None:
    folder = local_images(tmp_path)
    for _ in range(2):  # links that are there stay good
        path = Path(export.export(folder, "yolo"))
    data = yaml.safe_load((path / "data.yaml").read_text())
    images = [one for one in (path / data["train"]).rglob("*") if one.is_file()]
    assert len({image.resolve() for image in images}) == 4
    assert {image.resolve().parent for image in images} == {tmp_path, tmp_path / "below"}
    for image in images:  # ultralytics finds the labels of an image like this
        head, tail = str(image).rsplit("/images/", 1)
        assert Path(f"{head}/labels/{tail.rpartition('.')[0]}.txt").read_text().startswith("0 0.")
    # A source that holds the results is what it was.
    assert len(ImageSource(str(tmp_path)).items) == 4
    (tmp_path / "2.png").unlink()
    assert len(list((Path(export.export(folder, "yolo")) / "labels").rglob("*.txt"))) == 4


def test_labelme_finds_the_image_of_each_of_its_files(tmp_path: Path) -> None:
    path = Path(export.export(local_images(tmp_path), "labelme"))
    files = list(path.rglob("*.json"))
    found = {(one.parent / json.loads(one.read_text())["imagePath"]).resolve() for one in files}
    assert len(found) == len(files) == 4
    assert all(image.is_file() and image.parent != path for image in found)


def test_files_of_an_export_with_another_base_go(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path / "out"))
    publish(folder, 1, 2, "/in/below/{}.png")
    export.export(folder, "zip")
    publish(folder, 3, 2, "/in/{}.png")
    path = Path(export.export(folder, "zip"))
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*.zip"))
    assert names == ["3.png.zip", "4.png.zip", "below/1.png.zip", "below/2.png.zip"]


def test_a_killed_export_leaves_nothing_behind(folder: ResultFolder) -> None:
    for first in range(1000, 6000, 100):
        publish(folder, first, 100)
    before = sorted(Path(folder.address).rglob("*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "sam3_image.batch", "export", folder.address, "--format", "coco"],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    written = 0
    while written < 10_000 and process.poll() is None:  # into its unnamed files
        try:
            opened = os.listdir(f"/proc/{process.pid}/fd")
            links = [f"/proc/{process.pid}/fd/{number}" for number in opened]
            written = sum(os.stat(one).st_size for one in links if "deleted" in os.readlink(one))
        except OSError:
            pass
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert written >= 10_000
    left = {path for path in Path(folder.address).rglob("*")} - set(before)
    assert left <= {Path(folder.address, WORK)}


def test_what_is_no_result_is_said(tmp_path: Path) -> None:
    from sam3_image.errors import InputError

    with pytest.raises(InputError, match="holds no results of script/batch"):
        export.export(ResultFolder(str(tmp_path)), "coco")
