"""`Instances` from Python: indexed as a sequence, shown, saved by its ending, exported, pickled."""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import sam3_image
from sam3_image.decode import Image as DecodedImage
from sam3_image.instances import NOTEBOOK_ROWS, NOTEBOOK_SIDE, Instance, Instances
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.drawn_instances import instances_of, many_masks

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = REPOSITORY / "examples" / "shapes.png"
FIRST_BYTES = {
    ".zip": b"PK",
    ".png": b"\x89PNG",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".webp": b"RIFF",
    ".json": b"{",
}


def result(count: int, seed: int, size: tuple[int, int] = (60, 80)) -> Instances:
    """A drawn result of that many instances, with doubled concepts among them."""
    rng = np.random.default_rng(seed)
    masks = many_masks(count, size, seed=seed)[:count] if count else []
    prompts = [int(value) for value in rng.integers(0, 3, count)]
    concepts = [("cat", "a <b>", "cat")[prompt] for prompt in prompts]
    detections = instances_of(masks, size, concepts, prompts)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return Instances(DecodedImage(pixels, "array"), detections, {"timing.find": 0.5})


@pytest.fixture(scope="module")
def found(weights: Path) -> Instances:
    with sam3_image.load(weights, device="cpu") as sam:
        return sam.find(SHAPES, ["red circle", "star"])


def same(one: Instance, other: Instance) -> bool:
    facts = ("score", "box", "concept", "prompt", "presence", "candidate", "area")
    equal = all(getattr(one, name) == getattr(other, name) for name in facts)
    return equal and np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [0, 1, 7])
def test_it_is_indexed_as_a_list_and_as_an_array(count: int, seed: int) -> None:
    found, rng = result(count, seed), np.random.default_rng(seed)
    ones, masks = list(found), found.masks()
    assert len(ones) == len(found) == count
    for index, one in enumerate(ones):
        assert same(found[index], one)
        assert same(found[index - count], one)
        assert same(found[np.int64(index)], one)
        assert np.array_equal(one.mask, masks[index])
        assert one.mask.shape == found.size
        assert one.area == masks[index].sum()
        assert one.score == found.scores[index]
        assert one.box == tuple(found.boxes[index])
        assert one.concept == found.concepts[index]
    start, stop = rng.integers(-9, 10, 2)
    chosen = rng.integers(-count, count, 5) if count else np.zeros(0, dtype=np.int64)
    kept = rng.random(count) < 0.5
    keys: list[Any] = [
        slice(start, stop, int(rng.choice([-2, -1, 1, 3]))),
        slice(None),
        chosen,
        chosen.tolist(),
        torch.from_numpy(chosen.copy()),
        kept,
        torch.from_numpy(kept.copy()),
        found.scores > 0.9,
    ]
    for key in keys:
        part = found[key]
        index = key if isinstance(key, slice) else np.asarray(key)
        if isinstance(key, list):
            index = np.asarray(key, dtype=np.int64)
        assert isinstance(part, Instances)
        assert np.array_equal(part.scores, found.scores[index])
        assert np.array_equal(part.masks(), masks[index])
        assert part.size == found.size
        assert part.overlay().shape == (*found.size, 3)


@pytest.mark.parametrize(
    "key", ["star", 1.0, None, [True], np.ones((7, 2), bool), np.ones((2, 2), int), [[1], [2, 3]]]
)
def test_another_key_is_refused_in_one_line(key: Any) -> None:
    with pytest.raises(sam3_image.InputError, match="selects no instances"):
        result(7, 0)[key]


def test_beyond_the_last_one_there_is_none() -> None:
    for count, key in ((7, 7), (7, -8), (0, 0), (7, [0, 9])):
        with pytest.raises(IndexError, match=f"there are {count}"):
            result(count, 0)[key]


@pytest.mark.parametrize("count", [0, 5])
def test_pickling_and_copying_keep_everything(count: int) -> None:
    found = result(count, 1)
    found.masks()
    found.image.model_inputs[1008] = lambda: "a tensor on a GPU"
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):
        assert np.array_equal(again.masks(), found.masks())
        assert np.array_equal(again.overlay(), found.overlay())
        assert again.to_coco() == found.to_coco()
        assert again.metrics == found.metrics


def test_a_real_result_survives_pickle(found: Instances) -> None:
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.masks(), found.masks())
    assert len(pickle.dumps(found)) < found.image.pixels.nbytes + 4_000_000


@pytest.mark.parametrize(("count", "size"), [(0, (60, 80)), (30, (60, 80)), (3, (40, 3000))])
def test_a_notebook_shows_it(count: int, size: tuple[int, int]) -> None:
    found = result(count, 2, size)
    with Image.open(io.BytesIO(found._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert max(picture.size) == min(max(size), NOTEBOOK_SIDE)
    text = found._repr_html_()
    assert text.count("<tr>") == 1 + min(count, NOTEBOOK_ROWS)
    assert "<b>" not in text, "a concept is text, not markup"
    assert (f"and {count - NOTEBOOK_ROWS} more" in text) == (count > NOTEBOOK_ROWS)


@pytest.mark.parametrize("ending", [*FIRST_BYTES, ".PNG"])
@pytest.mark.parametrize("count", [0, 4])
def test_the_ending_says_what_is_saved(tmp_path: Path, ending: str, count: int) -> None:
    path = tmp_path / f"a.b{ending}"
    path.write_bytes(b"older")
    assert result(count, 3).save(path) == path
    assert path.read_bytes().startswith(FIRST_BYTES[ending.lower()])
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_options_go_with_an_ending(tmp_path: Path) -> None:
    found = result(4, 4)
    masks = found.masks()
    for name, options in {
        "mask.png": {"mask_only": True},
        "mask2.png": {"mask_only": True, "return_zip": False},
        "cutout.webp": {"apply_mask": True},
        "white.jpg": {"apply_mask": True, "output_format": "jpg"},
        "polygons.json": {"annotation_format": "polygon"},
        "all.zip": {"save_overlay": True, "annotation_format": "rle", "output_format": "webp"},
        "labels.jpeg": {"show_labels": True, "mask_color": "distinct"},
        "plain": {},
    }.items():
        assert found.save(str(tmp_path / name), **options).is_file()
    with Image.open(tmp_path / "mask.png") as picture:
        assert np.array_equal(np.asarray(picture) > 0, masks.any(axis=0))
    assert json.loads((tmp_path / "polygons.json").read_text())["format"] == "polygon"
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {"overlay.webp", "annotations.json"} <= set(archive.namelist())
    assert zipfile.is_zipfile(tmp_path / "plain")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x.jpg", {"mask_only": True}, ["x.jpg", "mask_only=True", ".png"]),
        ("x.jpg", {"output_format": "png"}, [".jpg", "output_format='png'", ".png"]),
        ("x.png", {"return_zip": True}, ["return_zip=True", ".zip"]),
        ("x.png", {"annotation_format": "coco"}, ["annotation_format='coco'", ".json"]),
        ("x.zip", {"return_zip": False}, ["return_zip=False", ".png"]),
        ("x.json", {"annotation_format": "none"}, ["annotation_format='none'", ".png"]),
        ("x.json", {"mask_only": True}, ["mask_only"]),
        ("x.tiff", {}, ["x.tiff", ".tiff", ".zip, .png, .jpg"]),
        ("x.png", {"mask_colour": "red"}, ["mask_colour"]),
        ("x.png", {"mask_opacity": 7}, ["mask_opacity is 7"]),
        ("", {}, ["a folder", "name a file"]),
        ("folder.zip", {}, ["a folder", "name a file"]),
        ("no such/x.png", {}, ["no such"]),
        ("a\0b", {}, ["null"]),
        (5, {}, ["path is 5"]),
    ],
)
def test_what_contradicts_an_ending_is_one_line_and_writes_nothing(
    tmp_path: Path, name: Any, options: dict[str, Any], words: list[str]
) -> None:
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(sam3_image.UserError) as caught:
        result(3, 5).save(tmp_path / name if isinstance(name, str) else name, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.zip"]


@pytest.mark.parametrize("count", [0, 6])
def test_coco_names_the_image_as_asked(tmp_path: Path, count: int) -> None:
    found = result(count, 6)
    document = found.to_coco(file_name="photo 1.jpg", image_id=71)
    assert (document["images"][0]["file_name"], document["images"][0]["id"]) == ("photo 1.jpg", 71)
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    coco = COCO(str(path))
    assert len(coco.getAnnIds(imgIds=71)) == count
    for mask, annotation in zip(found.masks(), coco.loadAnns(coco.getAnnIds()), strict=True):
        assert np.array_equal(coco.annToMask(annotation), mask)
    plain = found.to_coco()
    assert plain["images"][0]["id"] == 1
    with pytest.raises(sam3_image.InputError, match="image_id is 'x'"):
        found.to_coco(image_id="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_a_text_given_twice_is_one_category(seed: int) -> None:
    found = result(7, seed)
    categories = {one["id"]: one["name"] for one in found.to_coco()["categories"]}
    assert len(set(categories.values())) == len(categories), "COCO's tools go by names"
    for one, annotation in zip(found, found.to_coco()["annotations"], strict=True):
        first = min(other.prompt for other in found if other.concept == one.concept)
        assert annotation["category_id"] == 1 + first
        assert categories[annotation["category_id"]] == one.concept


@pytest.mark.parametrize("count", [0, 6])
def test_pandas_has_a_row_for_each(count: int) -> None:
    pytest.importorskip("pandas")
    found = result(count, 8)
    table = found.to_pandas()
    assert len(table) == count
    assert list(table.columns) == [
        *("concept", "prompt", "score", "presence", "x0", "y0", "x1", "y1", "area", "candidate")
    ]
    assert list(table.concept) == list(found.concepts)
    assert np.array_equal(table[["x0", "y0", "x1", "y1"]].to_numpy(), found.boxes)
    assert np.array_equal(table.area, [one.area for one in found])
    assert np.array_equal(table.score, found.scores)


@pytest.mark.parametrize("name", ["pandas", "supervision"])
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(sam3_image.UserError) as caught:
        getattr(result(2, 9), f"to_{name}")()
    assert str(caught.value).endswith(f"pip install {name}")
    assert "\n" not in str(caught.value)


def test_none_is_no_format_of_annotations() -> None:
    with pytest.raises(sam3_image.InputError, match=r"none.*; choose one of coco, .*rle"):
        result(2, 9).annotations("none")


def test_instances_are_imported_without_torch() -> None:
    code = "import sys, sam3_image; sam3_image.Instances; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
