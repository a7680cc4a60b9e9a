"""Annotations: what other tools read from the JSON is the mask, pixel for pixel."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
import supervision as sv
from PIL import Image as Pillow
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam3_image.masks import polygons, rle
from sam3_image.masks.detections import Detections
from sam3_image.masks.mask import Mask
from sam3_image.output import formats, png
from sam3_image.output.formats import Annotations
from tests.helpers.drawn_instances import Bools, disc, filled, instances_of, many_masks, photo, ring

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZES = [(60, 80), (97, 61), (1, 40), (40, 1), (1, 1)]
VALIDATOR = jsonschema.Draft202012Validator(formats.schema())


def annotated(found: Detections, annotation_format: str) -> dict[str, Any]:
    """The file's content, read back from its bytes and held against the schema."""
    collected = Annotations(found, annotation_format)
    for mask in found.masks():
        collected.add(mask)
    document = json.loads(collected.files()["annotations.json"])
    VALIDATOR.validate(document)
    return document


def masks_for(size: tuple[int, int]) -> list[Bools]:
    if min(size) >= 40:
        return many_masks(120, size, seed=size[0])
    rng = np.random.default_rng(size[0])
    return [np.zeros(size, bool), np.ones(size, bool), *(rng.random((6, *size)) > 0.5)]


def iou(first: Bools, second: Bools) -> float:
    return float((first & second).sum() / (first | second).sum())


def all_rings(instance: dict[str, Any]) -> list[Any]:
    return [ring_ for part in instance["polygons"] for ring_ in (part["outer"], *part["holes"])]


@pytest.mark.parametrize("size", SIZES)
def test_run_lengths_decode_to_exactly_the_png_mask(size: tuple[int, int]) -> None:
    found = instances_of(masks_for(size))
    document = annotated(found, "rle")
    assert len(document["instances"]) == len(found)
    for index, instance in enumerate(document["instances"]):
        with Pillow.open(io.BytesIO(png.encode_mask(found.mask(index)))) as picture:
            mask = np.asarray(picture) == 255
        assert np.array_equal(coco_masks.decode(instance["rle"]), mask)
        own = coco_masks.encode(np.asfortranarray(mask.view(np.uint8)))
        assert instance["rle"]["counts"] == own["counts"].decode(), "not pycocotools' own bytes"
        assert instance["area"] == mask.sum()


def test_run_lengths_of_any_region_anywhere() -> None:
    """A mask's region may be larger than the object, and lie anywhere."""
    rng = np.random.default_rng(5)
    for _ in range(1500):
        height, width = (int(n) for n in rng.integers(1, 12, 2))
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        shape = (int(rng.integers(0, height - top + 1)), int(rng.integers(0, width - left + 1)))
        inside = rng.random(shape) < rng.choice([0.0, 0.2, 0.5, 0.9, 1.0])
        mask = Mask(inside=inside, y=top, x=left, size=(height, width))
        assert np.array_equal(coco_masks.decode(rle.encode(mask)), mask.full())
        assert rle.run_lengths(mask).sum() == height * width


@pytest.mark.parametrize("size", SIZES)
def test_polygons_filled_again_are_exactly_the_mask(size: tuple[int, int]) -> None:
    masks = masks_for(size)
    for instance, mask in zip(
        annotated(instances_of(masks), "polygon")["instances"], masks, strict=True
    ):
        assert np.array_equal(filled(all_rings(instance), size), mask)


def test_polygons_of_noise_are_exact_too() -> None:
    rng = np.random.default_rng(6)
    for index in range(600):
        inside = rng.random(rng.integers(1, 25, 2)) < rng.choice([0.1, 0.4, 0.6, 0.9])
        height, width = inside.shape
        mask = Mask(inside=inside, y=2, x=3, size=(height + 3, width + 5))
        rings = [r for part in polygons.trace(mask) for r in (part.outer, *part.holes)]
        assert np.array_equal(filled(rings, mask.size), mask.full()), index


@pytest.mark.parametrize("radius", [19, 40, 150])
def test_polygons_hold_in_pycocotools_rasteriser(radius: int) -> None:
    size = (400, 400)
    for mask in (disc(size, (200, 200), radius), ring(size, (201.3, 198.6), radius * 1.2)):
        assert mask.sum() > 1000
        (instance,) = annotated(instances_of([mask]), "polygon")["instances"]
        drawn = np.zeros(size, bool)
        for ring_ in all_rings(instance):
            flat = [float(value) for point in ring_ for value in point]
            drawn ^= coco_masks.decode(coco_masks.frPyObjects([flat], *size))[..., 0].astype(bool)
        assert iou(drawn, mask) >= 0.99


def test_holes_and_parts_are_kept_apart() -> None:
    size = (120, 200)
    island = disc(size, (60, 60), 8)
    mask = ring(size, (60, 60), 40) | island | disc(size, (60, 160), 20)
    (instance,) = annotated(instances_of([mask]), "polygon")["instances"]
    holes = sorted(len(part["holes"]) for part in instance["polygons"])
    assert holes == [0, 0, 1], "a ring with its hole, the island in it, the disc"


def test_polygons_need_fewer_points_than_opencvs_contours() -> None:
    mask = disc((1000, 1000), (500, 500), 400)
    (instance,) = annotated(instances_of([mask]), "polygon")["instances"]
    (ring_,) = all_rings(instance)
    (plain,), _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    assert len(ring_) < len(plain)


def test_coco_loads_the_file_and_cocoeval_runs_on_it(tmp_path: Path) -> None:
    size = (60, 80)
    masks = [mask for mask in many_masks(60, size, seed=3) if mask.any()]
    concepts = ["cat" if index % 3 else "red car" for index in range(len(masks))]
    prompts = [0 if index % 3 else 4 for index in range(len(masks))]
    found = instances_of(masks, concepts=concepts, prompts=prompts)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotated(found, "coco")), encoding="utf-8")

    coco = COCO(str(path))
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {1: "cat", 5: "red car"}
    assert len(coco.getAnnIds()) == len(masks)
    for annotation, mask, concept in zip(
        coco.loadAnns(coco.getAnnIds()), masks, concepts, strict=True
    ):
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert annotation["bbox"] == coco_masks.toBbox(annotation["segmentation"]).tolist()
        assert annotation["area"] == coco_masks.area(annotation["segmentation"])
        assert coco.loadCats(annotation["category_id"])[0]["name"] == concept

    apart = instances_of([disc(size, (15, 20 + 20 * i), 8) for i in range(3)])
    path.write_text(json.dumps(annotated(apart, "coco")), encoding="utf-8")
    truth = COCO(str(path))
    for kind in ("segm", "bbox"):
        evaluation = COCOeval(truth, truth.loadRes(truth.dataset["annotations"]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0), "the result is its own truth"


@pytest.mark.parametrize("annotation_format", ["coco", "rle", "polygon"])
def test_every_format_says_who_found_what_where_and_how_surely(annotation_format: str) -> None:
    found = instances_of(masks_for((60, 80))[:5], concepts=["猫", 'a "b"', "visual", "x", "y"])
    document = annotated(found, annotation_format)
    listed = document["annotations" if annotation_format == "coco" else "instances"]
    for index, item in enumerate(listed):
        assert item["concept"] == found.concepts[index]
        assert item["prompt"] == found.prompts[index]
        assert item["candidate"] == found.candidates[index]
        assert item["score"] == pytest.approx(float(found.scores[index]), abs=1e-6)
        assert item["presence"] == pytest.approx(float(found.presence[index]), abs=1e-6)
        assert item["box"] == pytest.approx(found.boxes[index].tolist(), abs=1e-3)
    image = document["images"][0] if annotation_format == "coco" else document["image"]
    assert (image["height"], image["width"]) == found.size


@pytest.mark.parametrize("annotation_format", ["coco", "rle", "polygon"])
def test_nothing_found_is_an_empty_list_that_loads(tmp_path: Path, annotation_format: str) -> None:
    document = annotated(instances_of([], (30, 40)), annotation_format)
    if annotation_format != "coco":
        assert document["instances"] == []
        return
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    assert COCO(str(path)).getAnnIds() == []


def test_the_schema_is_sound_and_refuses_what_is_not_ours() -> None:
    jsonschema.Draft202012Validator.check_schema(formats.schema())
    for annotation_format in ("coco", "coco_polygon", "rle", "polygon"):
        document = annotated(instances_of([ring((30, 40), (15, 20), 9)]), annotation_format)
        listed = document["instances" if "instances" in document else "annotations"]
        for change in ({"score": 1.5}, {"box": [1, 2, 3]}, {"surprise": 1}, {"area": -1}):
            broken = {**document}
            broken[next(k for k, v in document.items() if v is listed)] = [{**listed[0], **change}]
            assert not VALIDATOR.is_valid(broken), change
        assert not VALIDATOR.is_valid({**document, "version": "2.0", "info": {"version": "2.0"}})


def test_supervision_loads_the_result_in_three_lines(tmp_path: Path) -> None:
    masks = [disc((60, 80), (30, 20), 9), ring((60, 80), (30, 50), 15)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotated(instances_of(masks), "rle")))

    found = json.loads(path.read_text())["instances"]
    decoded = np.array([coco_masks.decode(i["rle"]) for i in found], dtype=bool)
    detections = sv.Detections(
        xyxy=np.array([i["box"] for i in found]),
        mask=decoded,
        confidence=np.array([i["score"] for i in found]),
    )

    assert len(detections) == 2
    assert np.array_equal(detections.mask, masks)
    assert detections.area.tolist() == [mask.sum() for mask in masks]
    drawn = sv.MaskAnnotator(color_lookup=sv.ColorLookup.INDEX).annotate(
        photo((60, 80)), detections
    )
    assert drawn.shape == (60, 80, 3)


def test_large_images_stay_fast_enough_to_stream() -> None:
    """The runs come from the region alone: a small object in 100 megapixels costs no scan."""
    mask = Mask(inside=disc((50, 50), (25, 25), 20), y=9000, x=9000, size=(10_000, 10_000))
    decoded = coco_masks.toBbox(rle.encode(mask))
    assert decoded.tolist() == [9005, 9005, 41, 41]
    assert rle.run_lengths(mask).size == 2 * 41 + 1
