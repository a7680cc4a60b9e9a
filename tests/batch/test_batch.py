"""`script/batch` with the demo checkpoint: what a person types, and what is then in the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageChops
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam3_image.batch import Segment, options
from sam3_image.batch.engine import BatchModel
from sam3_image.batch.job import digest
from sam3_image.batch.schema import metadata_of
from sam3_image.errors import InputError
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings
from tests.helpers.batch_run import rows
from tests.helpers.batch_run import rows as rows_of
from tests.helpers.cog_server import REPOSITORY, pixels
from tests.helpers.second_scenes import arranged, random_picture

PROMPTS = ["red circle", "star"]
GOOD = 9


@dataclass(frozen=True)
class Run:
    """One call of the command."""

    status: int
    output: str
    log: str


def batch(*arguments: object, **environment: str) -> Run:
    done = subprocess.run(
        [sys.executable, "-m", "sam3_image.batch", *map(str, arguments)],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "SAM3_WEIGHTS": "weights/demo",
            "SAM3_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Run(done.returncode, done.stdout.strip(), done.stderr)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures and a damaged one; the first has two red circles and a star."""
    folder = tmp_path_factory.mktemp("batch") / "pictures"
    (folder / "below").mkdir(parents=True)
    arranged(["red circle", "blue star", "red circle"])[0].save(folder / "0.png")
    for number in range(1, GOOD):
        place = folder / "below" if number % 3 == 0 else folder
        random_picture(number)[0].save(place / f"{number}.jpg", quality=90)
    whole = (folder / "1.jpg").read_bytes()
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + whole[:100])
    return folder


@pytest.fixture(scope="module")
def sample(pictures: Path) -> tuple[Path, Run]:
    """The results of a run over three of them, and what it said."""
    out = pictures.parent / "out"
    run = batch(pictures, "--prompts", *PROMPTS, "--out", out, "--limit", 3, "--workers", 1)
    assert len(rows(out)) == 3
    return out, run


@pytest.fixture(scope="module")
def job(pictures: Path, sample: tuple[Path, Run]) -> tuple[Path, Run]:
    """The results of a second run over all, and what it said."""
    out, _ = sample
    options = ("--format", "coco", "--workers", 1)
    return out, batch(pictures, "--prompts", *PROMPTS, "--out", out, *options)


@pytest.fixture(scope="module")
def service() -> Service:
    """What answers `predict()`."""
    environment = {"SAM3_WEIGHTS": str(REPOSITORY / "weights/demo"), "SAM3_DEVICE": "cpu"}
    return Service(Settings.from_environment(environment))


def predicted(service: Service, path: str | Path) -> list[bytes]:
    """The PNGs that `predict()` gives for an image."""
    result = service.run(Path(path), Request.from_inputs(prompts=PROMPTS)).path
    with zipfile.ZipFile(result) as archive:
        return [archive.read(name) for name in archive.namelist()]


def test_every_image_has_one_row_and_the_masks_of_predict(
    job: tuple[Path, Run], pictures: Path, service: Service
) -> None:
    out, run = job
    assert run.status == 0
    found = rows(out)
    assert sorted(found) == sorted(str(path) for path in pictures.rglob("*.*"))
    counts = []
    for uri, row in found.items():
        if row["status"] == "error":
            continue
        masks = predicted(service, uri)
        instances: list[dict] = row["instances"]  # type: ignore[assignment]
        assert len(instances) == len(masks)
        counts.append(len(masks))
        for item, png in zip(instances, masks, strict=True):
            mask = coco_masks.decode(item["rle"])
            assert mask.shape == (row["height"], row["width"])
            np.testing.assert_array_equal(mask * 255, pixels(png))
            assert item["area"] == mask.sum()
            assert item["prompt"] in PROMPTS
    assert len(counts) == GOOD
    assert sum(counts) > 3


def test_a_damaged_image_is_a_row_with_its_error(job: tuple[Path, Run], pictures: Path) -> None:
    out, run = job
    row = rows(out)[str(pictures / "damaged.png")]
    assert row["status"] == "error"
    assert "PNG is cut off or damaged" in str(row["error"])
    assert row["instances"] == []
    assert row["width"] is None
    assert "3 skipped, since they have rows already" in run.log
    assert "6 segmented" in run.log
    assert "1 error\n" in run.log
    assert f"'{pictures}/damaged.png': The PNG is cut off or damaged" in run.log
    assert "slowest stage: " in run.log


def test_parts_say_what_made_them(job: tuple[Path, Run]) -> None:
    out, _ = job
    for part in out.glob("*.parquet"):
        found = metadata_of(pq.read_schema(part))
        assert found
        assert found["inputs"] == {"prompts": PROMPTS}
        assert found["checkpoint"]["digest"] == digest(REPOSITORY / "weights/demo")


def test_pandas_and_others_read_the_folder(job: tuple[Path, Run]) -> None:
    """Exports and marks lie in it under names that readers of Parquet leave out."""
    assert pq.read_table(job[0]).num_rows == GOOD + 1


def test_coco_evaluates(job: tuple[Path, Run]) -> None:
    out, run = job
    assert run.output == str(out / "_coco.json")
    coco = COCO(run.output)
    assert [category["name"] for category in coco.dataset["categories"]] == PROMPTS
    assert len(coco.imgs) == GOOD
    names = {image["file_name"] for image in coco.dataset["images"]}
    assert {"0.png", "below/3.jpg"} < names
    results = coco.loadRes([dict(item) for item in coco.dataset["annotations"]])
    evaluation = COCOeval(coco, results, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_run_again_there_is_nothing_to_do(job: tuple[Path, Run], pictures: Path) -> None:
    out, _ = job
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    again = batch(pictures, "--prompts", *PROMPTS, "--out", out)
    assert again.status == 0
    assert f"'{pictures}/damaged.png': The PNG is cut off" in again.log
    assert "10 skipped, since they have rows already; nothing to do" in again.log
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before
    strict = batch(pictures, "--prompts", *PROMPTS, "--out", out, "--strict")
    assert strict.status == 1


def test_other_settings_are_refused(job: tuple[Path, Run], pictures: Path) -> None:
    out, _ = job
    other = batch(pictures, "--prompts", *PROMPTS, "--threshold", 0.25, "--out", out)
    assert other.status == 2
    assert "holds results with threshold=None, and now threshold is 0.25" in other.log
    other = batch(pictures, "--prompts", *PROMPTS, "--out", out, SAM3_DTYPE="bfloat16")
    assert "now SAM3_DTYPE is 'bfloat16'" in other.log


def test_zips_are_those_of_predict(job: tuple[Path, Run], pictures: Path, service: Service) -> None:
    out, _ = job
    done = batch("export", out, "--format", "zip")
    assert done.status == 0
    assert done.output == str(out / "_zip")
    with zipfile.ZipFile(out / "_zip" / "0.png.zip") as archive:
        masks = [pixels(archive.read(name)) for name in archive.namelist()]
    assert len(masks) == 3
    for mask, png in zip(masks, predicted(service, pictures / "0.png"), strict=True):
        np.testing.assert_array_equal(mask, pixels(png))
    assert len(list((out / "_zip").rglob("*.zip"))) == GOOD


def test_the_first_lines_say_what_is_done(sample: tuple[Path, Run], pictures: Path) -> None:
    _, run = sample
    first, second, third = run.log.splitlines()[:3]
    assert first.startswith(
        "batch: prompts: 'red circle', 'star'; threshold: 0.5; value_range: auto"
    )
    assert first.endswith("weights/demo (the demo checkpoint: drawn shapes only)")
    assert second == f"batch: 10 images in {pictures}"
    assert third == "batch: 1 worker on cpu"


def test_every_row_may_have_its_own_prompts(pictures: Path, tmp_path: Path) -> None:
    """Also: overlays, a comma in a prompt, a part of the source that cannot be listed."""
    table = tmp_path / "in" / "table.csv"
    table.parent.mkdir()
    rows = [f'{pictures / "0.png"},"blue star"', f"{pictures / '1.jpg'},", "nowhere.png,star"]
    table.write_text("\n".join(["path,prompts", *rows]))
    options = ("--prompts", "red circle, star", "--overlays", "--format", "rle", "--workers", 1)
    run = batch(table, "--out", tmp_path / "out", *options)
    assert run.status == 0
    assert (
        "'red circle, star' is searched as one prompt, comma and all; for several, say "
        '--prompts "red circle" "star"\n'
    ) in run.log
    found = {Path(uri).name: row for uri, row in rows_of(tmp_path / "out").items()}
    assert {item["prompt"] for item in found["0.png"]["instances"]} == {"blue star"}
    assert [row["prompts"] for row in found.values()] == [["blue star"], None, ["star"]]
    assert [row["id"] for row in found.values()] == [1, 2, 3]
    assert f"'{table.parent}/nowhere.png': The image" in run.log
    overlays = sorted((tmp_path / "out/_overlays").iterdir())
    assert [path.name[:6] for path in overlays] == ["0.png-", "1.jpg-"]
    with Image.open(overlays[0]) as overlay, Image.open(pictures / "0.png") as image:
        assert overlay.format == "JPEG"
        assert overlay.size == image.size
        assert ImageChops.difference(overlay, image.convert("RGB")).getbbox()
    document = json.loads((Path(run.output) / "0.json").read_text())
    assert {item["concept"] for item in document["instances"]} == {"blue star"}
    table.write_text(table.read_text().replace("blue star", "red star"))
    other = batch(table, "--out", tmp_path / "out", *options)
    assert other.status == 2
    assert "has a row with prompts=['blue star'], and now they are ('red star',)" in other.log


def test_what_cannot_be_listed_is_an_error_each_time(job: tuple[Path, Run], pictures: Path) -> None:
    out, _ = job
    (pictures / "cut.tar").write_bytes(b"no tar")
    run = batch(pictures, "--prompts", *PROMPTS, "--out", out)
    (pictures / "cut.tar").unlink()
    assert run.status == 1
    assert "nothing to do" in run.log
    assert f"'{pictures}/cut.tar': '{pictures}/cut.tar' cannot be listed from byte 0" in run.log


def test_a_reference_image_is_decoded_once_in_each_worker(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"SAM3_WEIGHTS": str(REPOSITORY / "weights/demo"), "SAM3_DEVICE": "cpu"}
    opened = []
    open_ = Service.open
    monkeypatch.setattr(Service, "open", lambda s, *data: opened.append(data) or open_(s, *data))
    reference = (pictures / "0.png").read_bytes()
    boxes = "[[20,20,120,120]]"
    model = BatchModel({"reference_image": reference, "reference_boxes": boxes}, environment)
    image = model.decode(pictures / "1.jpg")
    request = Request.from_inputs(reference_image=reference, reference_boxes=boxes)
    expected = model._service.segment(image, request).annotations("rle")
    for _ in range(2):
        assert model.segment(image).annotations("rle") == expected
    assert len(opened) == 2, "the reference and the image"


def test_everything_is_found_in_many_images_and_visual_is_refused(pictures: Path) -> None:
    environment = {"SAM3_WEIGHTS": str(REPOSITORY / "weights/demo"), "SAM3_DEVICE": "cpu"}
    model = BatchModel({"task": "everything", "points_per_side": 8}, environment)
    found = model.segment(model.decode(pictures / "0.png"))
    assert len(found) == 3
    assert set(found.concepts) == {"object"}
    with pytest.raises(InputError, match="task is 'visual', which picks an object of one image"):
        options.check({"task": "visual"})


def test_a_limit_says_what_all_would_take(sample: tuple[Path, Run]) -> None:
    _, run = sample
    assert run.status == 0
    assert "1 worker on cpu" in run.log
    assert "estimate from 3 images: all 10 take about" in run.log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to look for in"),
        (["--boxes", "[[1,2,3,4]]"], "unrecognized arguments: --boxes"),
        (["--threshold", "2", "--prompts", "star"], "threshold is 2.0; give a number from 0 to 1"),
        (["--prompts", " "], "blank"),
        (["--workers", "0"], "--workers is 0; give a number of at least 1"),
        (["--prompt", "word " * 40], "tokens"),
        (["--format", "xml"], "xml"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_before_anything_starts(
    pictures: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    run = batch(pictures, "--out", tmp_path / "out", "--workers", 1, *arguments)
    assert run.status == 2
    last = run.log.splitlines()[-1]
    assert last.startswith("batch: ")
    assert words in last
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_step_of_somebodys_own_pipeline(pictures: Path, service: Service) -> None:
    """Ray Data gives batches as tables; a table is all that it takes to call it."""
    step = Segment(column="where", weights=str(REPOSITORY / "weights/demo"), prompts=PROMPTS)
    first = (pictures / "0.png").read_bytes()
    table = step(pa.table({"id": [1, 2, 3], "where": [first, b"junk", None]}))
    assert table.column("id").to_pylist() == [1, 2, 3]
    assert table.column("status").to_pylist() == ["ok", "error", "error"]
    masks = [coco_masks.decode(item["rle"]) for item in table.column("instances")[0].as_py()]
    for mask, png in zip(masks, predicted(service, pictures / "0.png"), strict=True):
        np.testing.assert_array_equal(mask * 255, pixels(png))
