"""Every kind of prompt over Cog's HTTP server, on pictures that the demo checkpoint never saw."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.cog_server import CogServer, Result
from tests.helpers.second_scenes import Drawn, arranged, iou, random_picture
from tests.unit.test_prompts import REFUSED, SIZE

CLICKED = 100  # objects that the accuracy of clicks and boxes is taken over
FOUND = 0.5  # mask IoU from which an object counts as found


def ask(server: CogServer, image: Image.Image, **inputs: Any) -> Result:
    result = server.predict(image=image, **inputs)
    assert result.status == "succeeded", result.error
    return result


def masks_of(result: Result) -> list[np.ndarray]:
    return [mask > 0 for mask in result.masks()]


def annotations_of(server: CogServer, image: Image.Image, **inputs: Any) -> list[dict[str, Any]]:
    result = ask(server, image, annotation_format="rle", return_zip=False, **inputs)
    return json.loads(result.content)["instances"]


def found(result: Result, objects: list[Drawn]) -> set[int]:
    """Indices of the objects that have a mask of their own."""
    masks = masks_of(result)
    return {
        i
        for i, drawn in enumerate(objects)
        if any(iou(mask, drawn.mask) >= FOUND for mask in masks)
    }


def central(mask: np.ndarray) -> list[float]:
    """The pixel (x, y) of a mask that is farthest from its edge, where a person would click."""
    import cv2

    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return [float(x) - 0.5, float(y) - 0.5]


def test_several_concepts_equal_the_same_one_by_one(server: CogServer) -> None:
    names = ["red circle", "blue square", "star", "green heart", "person"]
    picture, objects = arranged(
        ["red circle", "blue square", "red star", "blue star", "red circle"]
    )
    together = annotations_of(server, picture, prompts=names)
    for name in names:
        mine = [entry for entry in together if entry["concept"] == name]
        alone = annotations_of(server, picture, prompt=name)
        assert len(mine) == len(alone)
        for a, b in zip(mine, alone, strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)
            assert a["rle"] == b["rle"]
    result = ask(server, picture, prompts=names, annotation_format="rle")
    entries = json.loads(result.files()["annotations.json"])["instances"]
    assert {entry["concept"] for entry in entries} == {"red circle", "blue square", "star"}
    for entry, mask in zip(entries, masks_of(result), strict=True):
        best = max(objects, key=lambda o: iou(o.mask, mask))
        assert entry["concept"] in (best.name, best.shape), f"{entry} lies on a {best.name}"


def test_an_exemplar_finds_what_is_like_it(server: CogServer) -> None:
    names = ["red circle", "blue square", "red circle", "blue square", "red circle", "green star"]
    picture, objects = arranged(names)
    circles = ask(server, picture, boxes=json.dumps([objects[0].box]))
    assert found(circles, objects) == {0, 2, 4}
    squares = ask(server, picture, boxes=json.dumps([objects[1].box]))
    assert found(squares, objects) == {1, 3}, "moving the box changes what is found"


def test_a_negative_exemplar_takes_its_lookalikes_away(server: CogServer) -> None:
    names = ["red circle", "blue circle", "red circle", "blue circle", "red circle", "green star"]
    picture, objects = arranged(names)
    text = ask(server, picture, prompt="circle")
    assert found(text, objects) == {0, 1, 2, 3, 4}
    boxes = json.dumps([objects[0].box, objects[1].box])
    narrowed = ask(server, picture, prompt="circle", boxes=boxes, box_labels="[1,0]")
    assert found(narrowed, objects) == {0, 2, 4}


def test_text_with_an_exemplar_is_narrower_than_text(server: CogServer) -> None:
    names = ["red circle", "blue circle", "red circle", "blue circle"]
    picture, objects = arranged(names)
    assert found(ask(server, picture, prompt="circle"), objects) == {0, 1, 2, 3}
    narrowed = ask(server, picture, prompt="circle", boxes=json.dumps([objects[1].box]))
    assert found(narrowed, objects) == {1, 3}


def test_clicks_and_boxes_give_the_object(server: CogServer) -> None:
    clicked: list[float] = []
    boxed: list[float] = []
    for seed in range(1000, 1100):
        picture, objects = random_picture(seed)
        if objects:
            boxes = json.dumps([o.box for o in objects])
            entries = ask(server, picture, task="visual", boxes=boxes, annotation_format="rle")
            order = [
                entry["prompt"]
                for entry in json.loads(entries.files()["annotations.json"])["instances"]
            ]
            for index, mask in zip(order, masks_of(entries), strict=True):
                boxed.append(iou(objects[index].mask, mask))
        for drawn in objects:
            point = json.dumps([central(drawn.mask)])
            (mask,) = masks_of(ask(server, picture, task="visual", points=point))
            clicked.append(iou(drawn.mask, mask))
        if len(clicked) >= CLICKED:
            break
    print(f"click {np.mean(clicked):.3f}, box {np.mean(boxed):.3f} over {len(clicked)} objects")
    assert len(clicked) >= CLICKED
    assert np.mean(clicked) >= 0.80
    assert np.mean(boxed) >= 0.85


# Two clicks on two objects as one: of the circle 73 % is found instead of 80 %. The demo checkpoint
# was never trained on such pairs. Strict: the day it finds both, this mark has to go.
PARTLY = pytest.mark.xfail(strict=True, reason="the demo checkpoint finds 73 % of the circle")


@pytest.mark.parametrize(
    ("hit", "spared"),
    [
        ("red square", "red square"),
        *product(["red square", "green heart", "blue hexagon"], ["blue star", "purple triangle"]),
        ("yellow circle", "blue star"),
        pytest.param("yellow circle", "purple triangle", marks=PARTLY),
    ],
)
def test_a_negative_point_takes_away_what_it_hits(server: CogServer, hit: str, spared: str) -> None:
    picture, (first, second) = arranged([hit, spared], (400, 200), diameter=0.5)
    around = [10.0, 20.0, 390.0, 180.0]
    points = json.dumps([central(second.mask), central(first.mask)])
    fields: dict[str, Any] = {"task": "visual", "boxes": json.dumps([around]), "points": points}
    (both,) = masks_of(ask(server, picture, **fields, point_labels="[1,1]"))
    (one,) = masks_of(ask(server, picture, **fields, point_labels="[1,0]"))
    assert (both & first.mask).sum() >= 0.8 * first.mask.sum()
    assert (one & first.mask).sum() <= 0.1 * first.mask.sum()
    assert (one & second.mask).sum() >= 0.8 * second.mask.sum()


def test_two_boxes_are_two_objects_and_multimask_is_three_candidates(server: CogServer) -> None:
    picture, objects = arranged(["red square", "blue star"])
    boxes = json.dumps([o.box for o in objects])
    result = ask(server, picture, task="visual", boxes=boxes)
    assert len(result.masks()) == 2
    assert found(result, objects) == {0, 1}
    entries = annotations_of(
        server, picture, task="visual", boxes=json.dumps([objects[0].box]), multimask_output=True
    )
    assert sorted(entry["candidate"] for entry in entries) == [0, 1, 2]
    scores = [entry["score"] for entry in entries]
    assert scores == sorted(scores, reverse=True)


def test_a_moved_box_moves_the_mask(server: CogServer) -> None:
    picture, objects = arranged(["red square", "blue star", "green heart"])
    for index, drawn in enumerate(objects):
        (mask,) = masks_of(ask(server, picture, task="visual", boxes=json.dumps([drawn.box])))
        assert iou(mask, drawn.mask) >= 0.8
        others = [iou(mask, other.mask) for i, other in enumerate(objects) if i != index]
        assert max(others) == 0


def test_nms_works_across_prompts_and_the_best_stay(server: CogServer) -> None:
    picture, _ = arranged(["red circle", "blue square", "red star"])
    prompts = ["red circle", "circle"]
    doubled = annotations_of(server, picture, prompts=prompts)
    single = annotations_of(server, picture, prompts=prompts, nms_iou_threshold=0.5)
    assert len(doubled) == 2
    assert single == [{**doubled[0], "index": 0}]
    assert (
        annotations_of(server, picture, prompts=["circle", "square", "star"], max_instances=2)
        == annotations_of(server, picture, prompts=["circle", "square", "star"])[:2]
    )


def test_the_encoder_runs_once_for_one_picture(server: CogServer) -> None:
    picture, _ = arranged(["purple ring", "pink cross"], (333, 222))
    first = ask(server, picture, prompt="ring")
    second = ask(server, picture, prompt="cross")
    third = ask(server, picture, task="visual", points="[[100, 100]]")
    assert [r.metrics["encoder_cached"] for r in (first, second, third)] == [0, 1, 1]
    assert "Encoder skipped" in second.logs
    assert "Encoder skipped" not in first.logs


def test_a_smaller_encoder_input_still_finds_what_is_large(server: CogServer) -> None:
    picture, objects = arranged(["red circle", "blue square"], (400, 200), diameter=0.6)
    half = ask(server, picture, prompt="red circle", input_size_percent=50)
    full = ask(server, picture, prompt="red circle")
    assert found(full, objects) == {0}
    assert half.metrics["encoder_cached"] == 0, "another resolution is another encoding"
    assert all(mask.shape == (200, 400) for mask in half.masks())


# Cog's server can only be asked in JSON, which has no NaN and no half surrogate pairs.
OVER_HTTP = [c for c in REFUSED if c not in ("threshold-nan", "prompt-half-a-character")]


@pytest.mark.parametrize("case", OVER_HTTP)
def test_every_refusal_over_http_and_the_next_request_is_answered(
    server: CogServer, case: str
) -> None:
    fields, words = REFUSED[case]
    picture = Image.new("RGB", (SIZE[1], SIZE[0]), (200, 30, 30))
    refused = server.predict(image=picture, **fields)
    if refused.http == 422:  # Cog's own check of what the schema declares
        assert next(iter(fields)) in refused.error
    else:
        assert (refused.http, refused.status) == (200, "failed")
        assert "InputError: " in refused.error  # behind words of Cog's own
        assert "\n" not in refused.error
        for word in words:
            assert word in refused.error
    assert ask(server, picture, prompt="circle", threshold=1.0).masks() == []
