"""tile_size, refine and reference_image over Cog's HTTP server, on pictures by the second hand.

A light version of `tools.crops_figures`, which measures the same over many pictures by hand.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.cog_server import CogServer, Result
from tests.helpers.large_scenes import crowd, few, on_seams, reference_pair
from tests.helpers.second_scenes import Drawn, arranged, iou
from tests.http.test_prompts_http import central
from tools.crops_measures import Counts, boundary_iou, counted


def ask(server: CogServer, image: Image.Image, **inputs: Any) -> Result:
    result = server.predict(image=image, **inputs)
    assert result.status == "succeeded", result.error
    return result


def masks_of(result: Result) -> list[np.ndarray]:
    return [mask > 0 for mask in result.masks()]


def alike(objects: list[Drawn], shape: str) -> list[np.ndarray]:
    return [one.mask for one in objects if one.shape == shape]


def test_a_crowd_is_found_in_tiles_and_not_without(server: CogServer) -> None:
    picture, objects = crowd(3, (1500, 1000), 75)
    plain, tiled = Counts(), Counts()
    for shape in ("circle", "ring"):
        truth = alike(objects, shape)
        plain += counted(masks_of(ask(server, picture, prompt=shape)), truth)
        result = ask(server, picture, prompt=shape, tile_size=384)
        tiled += counted(masks_of(result), truth)
        assert result.metrics["tiles"] == 20
        assert "Tiles: 20 of 384 pixels" in result.logs
    assert plain.f1 < 0.3
    assert tiled.f1 >= 0.9
    assert tiled.mean_iou >= 0.88
    assert tiled.doubles == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_objects_on_seams_are_found_once_and_whole(server: CogServer, seed: int) -> None:
    picture, objects = on_seams(seed)
    for name in {one.name for one in objects}:
        truth = [one.mask for one in objects if one.name == name]
        masks = masks_of(ask(server, picture, prompt=name, tile_size=384))
        found = counted(masks, truth)
        assert (found.hits, found.found) == (len(truth), len(truth))
        assert found.mean_iou >= 0.85


def test_a_look_that_may_not_say_all_is_warned_of(server: CogServer) -> None:
    """At threshold 0 each of the demo checkpoint's 36 queries is an instance."""
    picture, _ = crowd(4, (900, 700), 20)
    whole = ask(server, picture, prompt="circle", threshold=0.0).logs
    assert "Warning: 36 instances of 'circle'; the model finds at most 36" in whole
    assert "Give a tile_size to get all." in whole
    tiled = ask(server, picture, prompts=["circle", "star"], threshold=0.0, tile_size=512).logs
    assert "Warning: 36 instances of 'star' in one tile; the model finds at most 36" in tiled
    assert "Give a smaller tile_size to get all." in tiled
    covering = ask(server, picture, prompt="circle", threshold=0.0, tile_size=1024).logs
    assert "Warning: 36 instances of 'circle' in one tile; the model finds at most 36" in covering
    reference = {"reference_image": picture, "reference_boxes": "[[10,10,60,60]]"}
    alike = ask(server, picture, threshold=0.0, **reference).logs
    assert "Warning: 36 instances of" in alike
    assert "Give a tile_size to get all." in alike
    few_of_them = ask(server, picture, prompt="circle", tile_size=512).logs
    assert "Warning" not in few_of_them


def test_selection_and_annotations_work_on_tiles(server: CogServer) -> None:
    picture, _ = crowd(4, (900, 700), 20)
    inputs = {"prompts": ["circle", "square", "heart"], "tile_size": 384, "return_zip": False}
    every = ask(server, picture, annotation_format="rle", **inputs)
    found = json.loads(every.content)["instances"]
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True)
    best = ask(server, picture, annotation_format="rle", max_instances=2, **inputs)
    assert json.loads(best.content)["instances"] == found[:2]
    picture_of_it = ask(server, picture, show_labels=True, mask_color="distinct", **inputs)
    assert picture_of_it.pixels().shape == (700, 900, 3)


def test_a_second_look_gives_finer_edges_and_keeps_scores(server: CogServer) -> None:
    picture, objects = few(2)
    coarse, fine = [], []
    for one in objects[:3]:
        point = json.dumps([central(one.mask)])
        for masks, refine in ((coarse, False), (fine, True)):
            (mask,) = masks_of(ask(server, picture, task="visual", points=point, refine=refine))
            masks.append((iou(mask, one.mask), boundary_iou(mask, one.mask)))
    before, after = np.array(coarse), np.array(fine)
    assert (after[:, 0] >= before[:, 0] - 0.02).all()
    assert after[:, 0].mean() >= 0.97
    assert after[:, 1].mean() >= before[:, 1].mean() + 0.15
    shape = objects[0].shape
    inputs = {"prompt": shape, "annotation_format": "rle", "return_zip": False}
    first = json.loads(ask(server, picture, **inputs).content)["instances"]
    second = json.loads(ask(server, picture, refine=True, **inputs).content)["instances"]
    assert [one["score"] for one in first] == [one["score"] for one in second]
    assert [one["rle"] for one in first] != [one["rle"] for one in second]


@pytest.mark.parametrize(("seed", "present"), [(1, True), (2, True), (0, False), (3, False)])
def test_a_reference_finds_its_like_in_another_picture(
    server: CogServer, seed: int, present: bool
) -> None:
    reference, wanted, picture, objects = reference_pair(seed, present)
    kind = (wanted.shape, wanted.colour, wanted.texture)
    truth = [one.mask for one in objects if (one.shape, one.colour, one.texture) == kind]
    result = ask(
        server,
        picture,
        reference_image=reference,
        reference_boxes=json.dumps([wanted.box]),
    )
    found = counted(masks_of(result), truth)
    assert (found.hits, found.found) == (len(truth), len(truth))


def test_a_reference_narrows_a_text(server: CogServer) -> None:
    picture, objects = arranged(["red circle", "blue circle", "red square", "green star"])
    reference, others = arranged(["red circle"], (300, 300), diameter=0.5)
    masks = masks_of(
        ask(
            server,
            picture,
            prompt="circle",
            reference_image=reference,
            reference_boxes=json.dumps([others[0].box]),
        )
    )
    assert counted(masks, [objects[0].mask]).f1 == 1


def test_without_the_inputs_nothing_changes(server: CogServer) -> None:
    picture, _ = arranged(["red circle", "blue square"])
    plain = ask(server, picture, prompt="circle")
    assert ask(server, picture, prompt="circle", tile_size=4096).content == plain.content
    assert ask(server, picture, prompt="circle", refine=False).content == plain.content
    assert ask(server, picture, prompt="purple heart", refine=True, tile_size=200).masks() == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"task": "visual", "points": "[[5,5]]", "tile_size": 256}, ["tile_size", "refine"]),
        ({"tile_size": 64}, ["cuts 3000×2000", "at most 400", "at least"]),
        ({"reference_boxes": "[[1,2,3,4]]"}, ["reference_image"]),
        (
            {"reference_image": "/etc/hostname", "reference_boxes": "[[1,2,3,4]]"},
            ["reference_image"],
        ),
    ],
)
def test_refusals(server: CogServer, inputs: dict[str, Any], words: list[str]) -> None:
    refused = server.predict(image=Image.new("RGB", (3000, 2000)), **inputs)
    assert refused.status == "failed"
    assert all(word in refused.error for word in words), refused.error
    assert "\n" not in refused.error


def test_a_reference_passes_the_checks_of_an_image(server: CogServer) -> None:
    picture, _ = arranged(["red circle"])
    boxes = {"reference_boxes": "[[1,2,3,4]]"}
    refused = server.predict(image=picture, reference_image=b"no image", **boxes)
    assert refused.status == "failed"
    outside = server.predict(
        image=picture, reference_image=picture, reference_boxes="[[9000,9000,9100,9100]]"
    )
    assert outside.status == "failed"
    assert "reference_boxes" in outside.error
