"""CVAT and X-AnyLabeling, by the contracts they have."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.client_scenes import Scene, picked
from tests.helpers.cog_server import data_url
from tests.helpers.drawn_instances import filled
from tests.helpers.web_server import WebServer
from tests.helpers.web_tools import SHAPES

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_cvat_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        body = {"image": base64.b64encode(scene.image).decode(), "labels": list(scene.names)}
        answer = web.http.post("/cvat/detector", json=body)
        assert answer.status_code == 200, answer.text
        got: dict[str, list[np.ndarray]] = {name: [] for name in scene.names}
        for annotation in answer.json():
            assert annotation["type"] == "mask"
            got[annotation["label"]].append(uncropped(annotation["mask"], scene.size))
            assert len(annotation["points"]) >= 6
        for index, name in enumerate(scene.names):
            wanted = [scene.mask(index, n) for n in range(len(scene.found[index]))]
            assert len(got[name]) == len(wanted)
            assert all(np.array_equal(a, b) for a, b in zip(got[name], wanted, strict=True))


def uncropped(flat: list[int], size: tuple[int, int]) -> np.ndarray:
    """CVAT's mask: 0 and 1 row by row in the box whose corners, both inside, come last."""
    *values, left, top, right, bottom = flat
    mask = np.zeros(size, dtype=bool)
    crop = np.array(values, dtype=bool).reshape(bottom - top + 1, right - left + 1)
    mask[top : bottom + 1, left : right + 1] = crop
    assert crop[0].any()
    assert crop[:, -1].any()
    return mask


def test_cvat_interactor(web: WebServer) -> None:
    body = {
        "image": base64.b64encode(SHAPES).decode(),
        "pos_points": [[100, 450]],
        "neg_points": [[100, 500]],
        "obj_bbox": [[43, 443], [157, 557]],
    }
    answer = web.http.post("/cvat/interactor", json=body).json()
    mask = np.array(answer["mask"], dtype=bool)
    wanted = picked(
        web,
        SHAPES,
        points=[[100, 450], [100, 500]],
        point_labels=[1, 0],
        boxes=[[43, 443, 157, 557]],
    )
    assert np.array_equal(mask, wanted)
    (shape,) = answer["shapes"]
    *runs, left, top, right, bottom = shape["points"]
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    crop = values.reshape(bottom - top + 1, right - left + 1).astype(bool)
    assert np.array_equal(mask[top : bottom + 1, left : right + 1], crop)
    assert crop.sum() == mask.sum()
    for change, message in (
        ({"pos_points": [], "neg_points": [], "obj_bbox": None}, "needs points, boxes, or both"),
        ({"obj_bbox": [[1, 2]]}, "obj_bbox has another form"),
        ({"pos_points": [[900, 300]]}, "outside the image of 800×600"),
        ({"image": "x.png"}, "which is not base64"),
    ):
        refused = web.http.post("/cvat/interactor", json={**body, **change})
        assert refused.status_code in (400, 422)
        assert message in refused.json()["message"]


def test_x_anylabeling_20_scenes(web: WebServer, scenes: list[Scene]) -> None:
    for scene in scenes:
        params = {"text_prompt": ", ".join(scene.names), "conf_threshold": 0.5}
        shapes = predict(web, params, scene.image)
        for index, name in enumerate(scene.names):
            named = [shape for shape in shapes if shape["label"] == name]
            wanted = [scene.mask(index, n) for n in range(len(scene.found[index]))]
            union = np.zeros(scene.size, dtype=bool)
            for shape in named:
                assert shape["shape_type"] == "polygon"
                assert shape["points"][0] == shape["points"][-1]
                union |= filled([shape["points"][:-1]], scene.size)
            exact = np.zeros(scene.size, dtype=bool)
            for mask in wanted:
                exact |= without_holes(mask)
            assert np.array_equal(union, exact)


def without_holes(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.fillPoly(np.zeros(mask.shape, np.uint8), contours, 1).astype(bool)


def predict(web: WebServer, params: dict[str, Any], image: bytes = SHAPES) -> list[dict[str, Any]]:
    body = {"model": "segment_anything_3", "image": data_url(image), "params": params}
    answer = web.http.post("/v1/predict", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    assert answer.json()["data"]["description"] == ""
    assert answer.json()["data"]["replace"] is None
    return answer.json()["data"]["shapes"]


def test_x_anylabeling_models_marks_and_refusals(web: WebServer) -> None:
    (model,) = web.http.get("/v1/models").json()["data"].values()
    assert model["batch_processing_mode"] == "text_prompt"
    assert {"name": "edit_conf", "value": 0.5} in model["widgets"]
    (picked,) = predict(web, {"marks": [{"type": "point", "data": [500, 300], "label": 1}]})
    assert picked["label"] == "AUTOLABEL_OBJECT"
    rectangle = {"type": "rectangle", "data": [43, 43, 157, 157], "label": 1}
    exemplars = predict(web, {"marks": [rectangle], "conf_threshold": 0.5})
    assert len(exemplars) > 1
    words = {"text_prompt": "red circle. star", "conf_threshold": 0.5}
    assert {shape["label"] for shape in predict(web, words)} == {"red circle", "star"}
    # As the program sends it, which means no selection of overlapping masks.
    assert predict(web, {**words, "iou_threshold": 0.0}) == predict(web, words)
    for text, labels in (
        ("star, red circle. star", {"star", "red circle. star"}),
        ("star, star ,red circle", {"star", "red circle"}),
        ("star.star.", {"star"}),
    ):
        found = predict(web, {"text_prompt": text, "conf_threshold": 0.5})
        assert {shape["label"] for shape in found} <= labels
        assert len([one for one in found if one["label"] == "star"]) == 1
    turned = {**rectangle, "data": [157, 157, 43, 43]}
    assert predict(web, {"marks": [turned], "conf_threshold": 0.5}) == exemplars
    over = {"type": "rectangle", "data": [652, 252, 900, -5], "label": 1}
    assert predict(web, {"marks": [over], "conf_threshold": 0.5}) is not None
    edge = {"type": "point", "data": [801.5, -3], "label": 1}
    assert len(predict(web, {"marks": [edge]})) >= 0
    coarse = predict(web, {"marks": [rectangle], "conf_threshold": 0.5, "epsilon_factor": 0.05})
    assert len(coarse) == len(exemplars)
    for rough, exact in zip(coarse, exemplars, strict=True):
        assert 4 <= len(rough["points"]) < len(exact["points"])
        assert rough["points"][0] == rough["points"][-1]
    only = predict(web, {**words, "filter_classes": ["star"]})
    assert {shape["label"] for shape in only} == {"star"}
    point = {"type": "point", "data": [5, 5], "label": 1}
    for params, message in (
        ({}, "nothing to look for"),
        ({"text_prompt": " , . "}, "nothing to look for"),
        ({"text_prompt": "a", "marks": [point]}, "text and points were both given"),
        ({"text_prompt": "a", "conf_threshold": 2}, "params.conf_threshold is 2: "),
    ):
        answer = web.http.post("/v1/predict", json={"image": data_url(SHAPES), "params": params})
        assert answer.status_code == 422
        assert message in answer.json()["message"]
