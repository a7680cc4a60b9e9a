"""Formats for other tools: what each tool reads is the mask, on scenes drawn to be hard.

pycocotools, supervision and shapely read theirs here. LabelMe and ultralytics bring Qt and a second
OpenCV: here their way of filling polygons is done by the libraries that they call, and
`tools/annotation_readers.py` runs the tools themselves.
"""

from __future__ import annotations

import io
import json
import zipfile
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml
from PIL import Image as Pillow
from PIL import ImageDraw
from pycocotools.coco import COCO

from sam3_image.decode import GeoReference, Image
from sam3_image.errors import InputError
from sam3_image.instances import Instances
from sam3_image.masks import Detections
from sam3_image.output import ImageInfo, Output, annotate, render
from sam3_image.output.formats import DATASETS, FORMATS, dataset
from tests.helpers.drawn_instances import Bools, instances_of, many_masks, photo, scene

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCENES = range(40)
NAMES = ("cat", 'red "car"', "Füchse: 狐 🦊")


def found_in(masks: list[Bools]) -> Detections:
    prompts = [index % 3 for index in range(len(masks))]
    return instances_of(masks, concepts=[NAMES[prompt] for prompt in prompts], prompts=prompts)


def file_of(found: Detections, annotation_format: str) -> bytes:
    output = Output(return_zip=False, annotation_format=annotation_format)
    return render(Image(photo(found.size), "PNG"), found, output).data


def iou(first: Bools, second: Bools) -> float:
    return float((first & second).sum() / (first | second).sum())


def box(mask: Bools) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", SCENES)
def test_pycocotools_fills_the_polygons_to_the_masks(tmp_path: Path, seed: int) -> None:
    masks = scene(seed)
    path = tmp_path / "annotations.json"
    path.write_bytes(file_of(found_in(masks), "coco_polygon"))
    coco = COCO(str(path))
    for item, mask in zip(coco.loadAnns(coco.getAnnIds()), masks, strict=True):
        assert isinstance(item["segmentation"], list), "run lengths, where polygons say it"
        assert np.array_equal(coco.annToMask(item), mask)
        x0, y0, x1, y1 = box(mask)
        assert item["bbox"] == [x0, y0, x1 - x0, y1 - y0]


def test_a_mask_without_a_pixel_is_the_one_that_coco_gets_as_run_lengths(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(file_of(instances_of([np.zeros((9, 7), bool)]), "coco_polygon"))
    coco = COCO(str(path))
    (item,) = coco.loadAnns(coco.getAnnIds())
    assert not coco.annToMask(item).any()


def yolo_masks(text: str, size: tuple[int, int]) -> list[Bools]:
    """As ultralytics does it: coordinates cut to whole pixels, filled by OpenCV."""
    masks = []
    for line in text.splitlines():
        ring = np.array(line.split()[1:], dtype=np.float32).reshape(-1, 2) * size[::-1]
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [ring.astype(np.int32)], 1)
        masks.append(mask.astype(bool))
    return masks


def gap(mask: Bools) -> int:
    """How many pixels the two parts of a mask are apart, diagonal steps counting as one."""
    _, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    first, second = (np.argwhere(labels == label) for label in (1, 2))
    return int(np.abs(first[:, None] - second).max(axis=2).min()) - 1


@pytest.mark.parametrize("seed", SCENES)
def test_yolo_lines_are_the_masks_and_lines_between_their_parts(seed: int) -> None:
    masks = scene(seed)
    found = found_in(masks)
    text = annotate(found, "yolo")
    classes = [int(line.split()[0]) for line in text.splitlines()]
    assert classes == found.prompts.tolist()
    for mask, read, line in zip(
        masks, yolo_masks(text, found.size), text.splitlines(), strict=True
    ):
        parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1
        assert not (mask & ~read).any()
        if parts == 1:
            assert np.array_equal(read, mask)
        else:  # a line, one pixel wide, from each part to the next
            assert (read & ~mask).sum() <= (parts - 1) * max(found.size)
        if parts == 2:  # no line between two pixels is shorter; one scene is a pixel off
            assert (read & ~mask).sum() <= gap(mask) + 1
        ring = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * found.size[::-1]
        assert np.abs([*ring.min(axis=0), *ring.max(axis=0)] - np.array(box(mask))).max() < 0.02


def test_yolo_connects_thousands_of_parts() -> None:
    mask = np.random.default_rng(0).random((80, 80)) < 0.2
    (read,) = yolo_masks(annotate(instances_of([mask]), "yolo"), mask.shape)
    assert not (mask & ~read).any()
    alone = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1
    assert (read & ~mask).sum() < 1.5 * alone


def test_yolo_is_a_zip_with_its_classes_by_themselves() -> None:
    with zipfile.ZipFile(io.BytesIO(file_of(found_in(scene(1)), "yolo"))) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert list(files) == ["labels/image.txt", "data.yaml", "classes.txt"]
    assert yaml.safe_load(files["data.yaml"])["names"] == dict(enumerate(NAMES))
    assert files["classes.txt"].splitlines() == list(NAMES)


@pytest.mark.parametrize("name", ["a\nb", "\x00\x07", "\u2028", "\\", "🦊'\"", "yes"])
def test_data_yaml_holds_any_concept(name: str) -> None:
    found = instances_of(scene(2)[:1], concepts=[name])
    with zipfile.ZipFile(io.BytesIO(file_of(found, "yolo"))) as archive:
        assert yaml.safe_load(archive.read("data.yaml"))["names"] == {0: name}
        assert len(archive.read("classes.txt").decode().split("\n")) == 2


def labelme_masks(document: dict[str, Any]) -> list[Bools]:
    """As LabelMe does it: Pillow fills each polygon with its outline; groups are instances."""
    size = document["imageWidth"], document["imageHeight"]
    masks: dict[int, Bools] = {}
    for shape in document["shapes"]:
        assert shape["shape_type"] == "polygon"
        assert len(shape["points"]) > 2
        picture = Pillow.new("L", size)
        points = [tuple(point) for point in shape["points"]]
        ImageDraw.Draw(picture).polygon(points, outline=1, fill=1)
        drawn = np.asarray(picture, dtype=bool)
        masks[shape["group_id"]] = masks.get(shape["group_id"], False) | drawn
    return list(masks.values())


@pytest.mark.parametrize("seed", SCENES)
def test_labelme_fills_its_polygons_to_the_masks(seed: int) -> None:
    masks = scene(seed)
    document = json.loads(file_of(found_in(masks), "labelme"))
    assert np.array_equal(labelme_masks(document), masks)
    labels = {shape["group_id"]: shape["label"] for shape in document["shapes"]}
    assert labels == {index: NAMES[index % 3] for index in range(len(masks))}


def test_supervision_reads_the_boxes_of_voc(tmp_path: Path) -> None:
    images, folder = tmp_path / "images", tmp_path / "Annotations"
    images.mkdir()
    scenes = [scene(seed) for seed in SCENES]
    infos = [ImageInfo(masks[0].shape, f"{seed}.png") for seed, masks in enumerate(scenes)]
    for info in infos:
        Pillow.new("RGB", info.size[::-1]).save(images / info.file_name)
    found = [found_in(masks) for masks in scenes]
    write(dataset("voc", zip(infos, found, strict=True)), tmp_path)
    read = sv.DetectionDataset.from_pascal_voc(str(images), str(folder))
    by_name = {Path(path).name: boxes for path, _, boxes in read}
    for info, masks in zip(infos, scenes, strict=True):
        boxes = by_name[info.file_name]
        assert np.array_equal(boxes.xyxy, [box(mask) for mask in masks])
        wanted = [NAMES[index % 3] for index in range(len(masks))]
        assert [read.classes[key] for key in boxes.class_id] == wanted


def test_voc_is_xml_whatever_the_concept() -> None:
    found = instances_of(scene(3)[:1], concepts=["<a> & \x00 \x1b"])
    root = ElementTree.fromstring(file_of(found, "voc"))
    assert root.findtext("object/name") == "<a> & \ufffd \ufffd"


@pytest.mark.parametrize("geo", [None, GeoReference((0.5, 0.1, 4e5, 0.1, -0.5, 5e6), 32633)])
@pytest.mark.parametrize("seed", SCENES)
def test_shapely_finds_the_pixels_inside_geojson(seed: int, geo: GeoReference | None) -> None:
    shapely = pytest.importorskip("shapely")
    masks = scene(seed)
    image = ImageInfo(masks[0].shape, geo=geo)
    document = json.loads(json.dumps(annotate(found_in(masks), "geojson", image)))
    assert ("crs" in document) == (geo is not None)
    y, x = np.mgrid[: image.size[0], : image.size[1]] + 0.5
    centres = np.stack((x.ravel(), y.ravel()), axis=1)
    if geo is not None:
        centres = geo.to_world(centres)
    for feature, mask in zip(document["features"], masks, strict=True):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        parts = getattr(shape, "geoms", [shape])
        assert all(part.exterior.is_ccw for part in parts)
        assert not any(hole.is_ccw for part in parts for hole in part.interiors)
        inside = shapely.contains_xy(shape, *centres.T).reshape(image.size)
        assert np.array_equal(inside, mask)
        if geo is None:
            assert list(shape.bounds) == box(mask)


@pytest.mark.parametrize("annotation_format", FORMATS)
def test_nothing_found_and_empty_masks_are_results(annotation_format: str) -> None:
    for found in (instances_of([], (30, 40)), instances_of([np.zeros((30, 40), bool)])):
        assert file_of(found, annotation_format)


def write(pieces: Any, folder: Path) -> list[str]:
    """Write a dataset, and return the names of its files."""
    names = []
    for name, group in groupby(pieces, key=lambda piece: piece[0]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), "the pieces of a file do not follow each other"
        path.write_bytes(b"".join(data for _, data in group))
        names.append(name)
    return names


def test_a_coco_dataset_numbers_images_annotations_and_concepts_once(tmp_path: Path) -> None:
    masks = [scene(seed) for seed in range(6)]
    images = [
        (ImageInfo(one[0].shape, f"{key}.jpg", key), found_in(one))
        for key, one in enumerate(masks, start=10)
    ]
    images.insert(3, (ImageInfo((9, 9), "empty.jpg", 99), instances_of([], (9, 9))))
    for annotation_format in ("coco", "coco_polygon"):
        folder = tmp_path / annotation_format
        names = write(dataset(annotation_format, images, ["dog", NAMES[1]]), folder)
        assert names == ["annotations.json"]
        coco = COCO(str(folder / "annotations.json"))
        names_of = {key: item["name"] for key, item in coco.cats.items()}
        assert names_of == {1: "dog", 2: NAMES[1], 3: NAMES[0], 4: NAMES[2]}
        assert coco.getImgIds() == [10, 11, 12, 99, 13, 14, 15]
        assert len(set(coco.getAnnIds())) == 60
        for key, one in enumerate(masks, start=10):
            items = coco.loadAnns(coco.getAnnIds(imgIds=[key]))
            for item, mask in zip(items, one, strict=True):
                assert np.array_equal(coco.annToMask(item), mask)
                assert names_of[item["category_id"]] == item["concept"]


def test_a_yolo_dataset_has_one_set_of_classes(tmp_path: Path) -> None:
    masks = scene(1)
    first, second = found_in(masks), instances_of(masks[:2], concepts=["dog", "cat"])
    images = [
        (ImageInfo(first.size, "a/1.jpg"), first),
        (ImageInfo(first.size, "a/2.png"), second),
    ]
    names = write(dataset("yolo", images, ["cat"]), tmp_path)
    assert names == ["labels/a/1.txt", "labels/a/2.txt", "data.yaml", "classes.txt"]
    known = yaml.safe_load((tmp_path / "data.yaml").read_text("utf-8"))["names"]
    assert known == {0: "cat", 1: NAMES[1], 2: NAMES[2], 3: "dog"}
    lines = (tmp_path / "labels/a/2.txt").read_text().splitlines()
    assert [known[int(line.split()[0])] for line in lines] == ["dog", "cat"]


@pytest.mark.parametrize("annotation_format", DATASETS)
def test_a_dataset_without_images_is_one(annotation_format: str) -> None:
    names = {name for name, _ in dataset(annotation_format, [])}
    assert names <= {"annotations.json", "data.yaml", "classes.txt"}


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.jpg", "../a.jpg"), ("..", "b.jpg")])
def test_two_images_of_one_name_are_refused(names: tuple[str, str]) -> None:
    images = [(ImageInfo((9, 9), name), instances_of([], (9, 9))) for name in names]
    for annotation_format in ("yolo", "labelme", "voc", "geojson"):
        with pytest.raises(InputError, match="rename one"):
            list(dataset(annotation_format, images))


def test_python_programs_get_every_format(tmp_path: Path) -> None:
    found = Instances(Image(photo((60, 80)), "PNG"), instances_of(many_masks(20, (60, 80), 1)))
    assert found.save(tmp_path / "a.xml").read_text().startswith("<annotation>")
    assert json.loads(found.save(tmp_path / "a.geojson").read_text())["features"]
    options = {"annotation_format": "yolo", "return_zip": False}
    assert zipfile.is_zipfile(found.save(tmp_path / "a.zip", **options))
    assert found.annotations("yolo").count("\n") == 19, "one mask of many_masks is empty"
    with pytest.raises(InputError, match=r"\.json.*\.xml"):
        found.save(tmp_path / "a.json", annotation_format="voc")
    with pytest.raises(InputError, match="choose one of coco, coco_polygon"):
        found.annotations("none")
