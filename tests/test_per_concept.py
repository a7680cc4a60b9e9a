"""Each concept's own threshold, NMS within a concept, and how near it was when nothing is found."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sam3_image
from sam3_image import InputError, Sam
from sam3_image.masks import Selection
from sam3_image.request import Request
from tests.cog_server import REPOSITORY
from tests.drawn_instances import disc, instances_of

SHAPES = REPOSITORY / "examples" / "shapes.png"
CONCEPTS = ["red circle", "star", "square"]


@pytest.fixture(scope="module")
def sam(weights: Path) -> Sam:
    return sam3_image.load(weights)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("crops", [{}, {"tile_size": 512}])
def test_each_concept_has_its_own_threshold(sam: Sam, crops: dict[str, Any]) -> None:
    everything = sam.find(SHAPES, CONCEPTS, threshold=0.0, **crops)
    cuts = [
        float(np.quantile(everything.scores[everything.prompts == index], quantile))
        for index, quantile in enumerate((0.9, 0.5, 0.99))
    ]
    found = sam.find(SHAPES, CONCEPTS, thresholds=cuts, **crops)
    for index, cut in enumerate(cuts):
        alone = sam.find(SHAPES, CONCEPTS, threshold=cut, **crops)
        mine, theirs = (one.scores[one.prompts == index] for one in (found, alone))
        assert len(mine)
        if not crops:
            wanted = everything.scores[everything.prompts == index]
            assert np.array_equal(mine, wanted[wanted > np.float32(cut)])
        assert np.array_equal(mine, theirs)


def test_thresholds_are_json_lists_or_arrays() -> None:
    for value in ("[0.25, 0]", [0.25, 0], (0.25, 0.0), np.array([0.25, 0.0])):
        task = Request.from_inputs(prompts=["a", "b"], thresholds=value).task((9, 9))
        assert task.thresholds == (0.25, 0.0)
    assert str(task) == "find 'a', 'b', thresholds 0.25, 0.0"
    filled = Request.from_filled(prompts=["a", "b"], thresholds="[0,0]", threshold=0.5)
    assert filled.task((9, 9)).thresholds == (0.0, 0.0)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"prompts": ["a", "b"], "thresholds": [0.5]}, "thresholds has 1 numbers for 2 prompts"),
        ({"prompts": ["a"], "thresholds": [1.5]}, r"thresholds\[0\] is 1.5; give a number from 0"),
        ({"prompts": ["a"], "thresholds": [float("nan")]}, r"thresholds\[0\] is nan"),
        ({"prompts": ["a"], "thresholds": [True]}, r"thresholds\[0\] is True"),
        ({"prompts": ["a"], "thresholds": "0.5"}, "JSON list of the form"),
        ({"prompts": ["a"], "thresholds": "[0.5"}, "not valid JSON"),
        ({"prompt": "a", "thresholds": [0.5]}, "thresholds go with prompts"),
        ({"thresholds": [0.5], "boxes": [[1, 2, 3, 4]]}, "thresholds go with prompts"),
        (
            {"prompts": ["a"], "thresholds": [0.5], "threshold": 0.5},
            "threshold and thresholds were both given",
        ),
        ({"nms_scope": "concept"}, "nms_scope goes with nms_iou_threshold"),
        ({"nms_scope": "each", "nms_iou_threshold": 0.5}, "nms_scope is 'each'; choose one of all"),
    ],
)
def test_what_is_not_accepted_is_said(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Request.from_inputs(**inputs)


def test_nms_within_a_concept_keeps_what_another_one_covers() -> None:
    whole, part = disc((60, 60), (30, 30), 20), disc((60, 60), (30, 30), 19)
    found = instances_of(
        [whole, part, part, whole], concepts=["car", "wheel", "car", "wheel"], prompts=[0, 1, 0, 1]
    )
    everywhere = Selection(nms_iou_threshold=0.5).apply(found)
    assert everywhere.concepts == ("car",)
    apart = Selection(nms_iou_threshold=0.5, nms_scope="concept").apply(found)
    assert apart.concepts == ("car", "wheel")
    assert apart.scores.tolist() == found.scores[:2].tolist()


@pytest.mark.parametrize("crops", [{}, {"tile_size": 512}])
def test_the_log_says_how_near_a_concept_was(
    sam: Sam, caplog: pytest.LogCaptureFixture, crops: dict[str, Any]
) -> None:
    everything = sam.find(SHAPES, CONCEPTS, threshold=0.0)
    best = [float(everything.scores[everything.prompts == index].max()) for index in range(3)]
    with caplog.at_level(logging.INFO, "sam3_image"):
        found = sam.find(SHAPES, CONCEPTS, thresholds=[0.0, 1.0, 1.0], **crops)
    assert set(found.prompts.tolist()) == {0}
    said = [line for line in lines(caplog) if line.startswith("Best")]
    assert len(said) == 2
    for line, index in zip(said, (1, 2), strict=True):
        name, number = line.removeprefix("Best ").removesuffix(", not above 1.0").rsplit(" ", 1)
        assert name == repr(CONCEPTS[index])
        assert found.metrics[f"best_score_{index}"] >= float(number)
        if not crops:
            assert found.metrics[f"best_score_{index}"] == pytest.approx(best[index], abs=1e-5)
    assert "best_score_0" not in found.metrics


def test_with_something_above_the_threshold_there_is_nothing_to_say(sam: Sam) -> None:
    found = sam.find(SHAPES, "red circle")
    assert len(found)
    assert not any(name.startswith("best_score") for name in found.metrics)
