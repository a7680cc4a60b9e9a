"""Requests → typed prompts: what is meant, what is refused, and with which sentence."""

from __future__ import annotations

import json
import math

import pytest

from sam3_image.errors import InputError
from sam3_image.model.prompts import Find, Pick, Prompts, Target
from sam3_image.request import Request

SIZE = (100, 200)  # height, width

# What a request says → words that the refusal must contain: the value, what is allowed, what to do.
REFUSED = {
    "boxes-cut-off": ({"boxes": "[[1,2,30,40]"}, ["boxes", "not valid JSON", "character 13"]),
    "boxes-flat": ({"boxes": "[1,2,3,4]"}, ["boxes[0] is 1", "[[x0, y0, x1, y1]"]),
    "boxes-too-deep": ({"boxes": "[[[1,2,3,4]]]"}, ["boxes[0]", "[[x0, y0, x1, y1]"]),
    "boxes-three-numbers": ({"boxes": "[[1,2,3]]"}, ["boxes[0]", "[1, 2, 3]"]),
    "boxes-five-numbers": ({"boxes": "[[1,2,3,4,5]]"}, ["boxes[0]", "[1, 2, 3, 4, 5]"]),
    "boxes-text": ({"boxes": '[[1,2,"3",4]]'}, ["boxes[0][2] is '3'", "numbers"]),
    "boxes-true": ({"boxes": "[[true,2,3,4]]"}, ["boxes[0][0] is True"]),
    "boxes-object": ({"boxes": '{"x0": 1}'}, ["JSON list"]),
    "boxes-none": ({"boxes": "[]"}, ["0 entries", "1 to 64"]),
    "boxes-nan": ({"boxes": "[[1,NaN,3,4]]"}, ["boxes[0]", "nan", "finite"]),
    "boxes-infinity": ({"boxes": "[[1,2,Infinity,4]]"}, ["boxes[0]", "inf", "finite"]),
    "boxes-overflow": ({"boxes": "[[1,2,1e999,4]]"}, ["boxes[0]", "inf", "finite"]),
    "boxes-digits": ({"boxes": f"[[1,2,3,{'9' * 5000}]]"}, ["boxes", "not usable JSON"]),
    "boxes-brackets": ({"boxes": "[" * 9000}, ["boxes", "not usable JSON"]),
    "boxes-long": ({"boxes": "[" + " " * 30_000 + "]"}, ["30002 characters", "20000"]),
    "boxes-swapped-x": ({"boxes": "[[30,2,3,4]]"}, ["boxes[0]", "x1 ≤ x0", "top left"]),
    "boxes-empty-y": ({"boxes": "[[3,4,30,4]]"}, ["boxes[0]", "y1 ≤ y0"]),
    "boxes-outside": ({"boxes": "[[3,4,300,40]]"}, ["boxes[0]", "200×100", "from 0 to 200"]),
    "boxes-beyond": ({"boxes": "[[200,4,205,40]]"}, ["boxes[0]", "outside"]),
    "boxes-65": ({"boxes": json.dumps([[1, 2, 3, 4]] * 65)}, ["65 entries", "1 to 64"]),
    "labels-alone": ({"box_labels": "[1]"}, ["box_labels", "without boxes"]),
    "labels-count": (
        {"boxes": "[[1,2,3,4]]", "box_labels": "[1,0]"},
        ["2 labels for 1 boxes"],
    ),
    "labels-2": ({"boxes": "[[1,2,3,4]]", "box_labels": "[2]"}, ["box_labels[0] is 2", "1", "0"]),
    "labels-float": ({"boxes": "[[1,2,3,4]]", "box_labels": "[0.5]"}, ["box_labels[0] is 0.5"]),
    "points-in-concept": ({"points": "[[1,2]]"}, ["points", "task='visual'"]),
    "point-labels-in-concept": ({"point_labels": "[1]"}, ["task='visual'"]),
    "multimask-in-concept": ({"multimask_output": True}, ["multimask_output", "task='visual'"]),
    "prompt-and-prompts": ({"prompt": "dog", "prompts": ["cat"]}, ["'dog'", "one of them"]),
    "prompts-none": ({"prompts": []}, ["0 entries", "1 to 16"]),
    "prompts-17": ({"prompts": ["a"] * 17}, ["17 entries", "1 to 16"]),
    "prompts-blank": ({"prompts": ["a", " \t"]}, ["prompts[1]", "blank"]),
    "prompt-empty": ({"prompt": ""}, ["prompt is blank", "''"]),
    "prompt-blank": ({"prompt": " \n\u3000"}, ["prompt is blank"]),
    "prompt-half-a-character": ({"prompt": "a\ud800"}, ["'a\\ud800'", "not valid Unicode"]),
    "prompt-501": ({"prompt": "a" * 501}, ["501 characters", "500"]),
    "threshold-nan": ({"threshold": math.nan}, ["threshold is nan", "from 0 to 1"]),
    "threshold-high": ({"threshold": 1.5}, ["threshold is 1.5"]),
    "threshold-true": ({"threshold": True}, ["threshold is True"]),
    "mask-threshold": ({"mask_threshold": -0.1}, ["mask_threshold is -0.1"]),
    "nms": ({"nms_iou_threshold": 2}, ["nms_iou_threshold is 2"]),
    "max-instances": ({"max_instances": 0}, ["max_instances is 0", "at least 1"]),
    "size-percent": ({"input_size_percent": 10}, ["input_size_percent is 10", "25"]),
    "task": ({"task": "video"}, ["'video'", "'concept'", "'visual'"]),
    "visual-nothing": ({"task": "visual"}, ["points, boxes, or both"]),
    "visual-prompt": ({"task": "visual", "prompt": "dog", "points": "[[1,2]]"}, ["task='concept'"]),
    "visual-prompts": ({"task": "visual", "prompts": ["a"], "points": "[[1,2]]"}, ["'concept'"]),
    "visual-box-labels": (
        {"task": "visual", "boxes": "[[1,2,3,4]]", "box_labels": "[1]"},
        ["box_labels", "task='concept'"],
    ),
    "visual-threshold": ({"task": "visual", "points": "[[1,2]]", "threshold": 0.3}, ["threshold"]),
    "visual-point-outside": ({"task": "visual", "points": "[[1,101]]"}, ["points[0]", "outside"]),
    "visual-point-nan": ({"task": "visual", "points": "[[1,NaN]]"}, ["points[0]", "finite"]),
    "visual-point-flat": ({"task": "visual", "points": "[1,2]"}, ["points[0] is 1", "[[x, y]"]),
    "visual-65-points": (
        {"task": "visual", "points": json.dumps([[1, 2]] * 65)},
        ["65 entries", "1 to 64"],
    ),
    "visual-labels-alone": (
        {"task": "visual", "boxes": "[[1,2,3,4]]", "point_labels": "[1]"},
        ["without points"],
    ),
    "visual-labels-count": (
        {"task": "visual", "points": "[[1,2],[3,4]]", "point_labels": "[1]"},
        ["1 labels for 2 points"],
    ),
    "visual-all-negative": (
        {"task": "visual", "points": "[[1,2]]", "point_labels": "[0]"},
        ["all 0", "label 1"],
    ),
    "visual-points-and-boxes": (
        {"task": "visual", "points": "[[1,2]]", "boxes": "[[1,2,3,4],[1,2,3,4]]"},
        ["one box at most", "2 boxes"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_line_that_says_what_to_do(case: str) -> None:
    fields, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        Request.from_inputs(**fields).prompts.on(SIZE)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_every_refusal_has_its_own_message() -> None:
    messages = set()
    for fields, _ in REFUSED.values():
        with pytest.raises(InputError) as caught:
            Request.from_inputs(**fields).prompts.on(SIZE)
        messages.add(str(caught.value))
    assert len(messages) >= len(REFUSED) - 3  # three pairs have one fault


def test_defaults_mean_person() -> None:
    assert Prompts().on(SIZE) == Find(("person",), 0.5)


def test_zero_is_a_value() -> None:
    request = Prompts(threshold=0.0).on(SIZE)
    assert isinstance(request, Find)
    assert request.threshold == 0.0


def test_each_prompt_is_a_concept_of_its_own() -> None:
    request = Prompts(prompts=["cat", "dog"], threshold=0.2).on(SIZE)
    assert request == Find(("cat", "dog"), 0.2)


def test_boxes_beside_the_default_prompt_are_exemplars_alone() -> None:
    box = (1.0, 2.0, 30.0, 40.0)
    alone = Prompts(boxes="[[1,2,30,40]]").on(SIZE)
    assert alone == Find(("visual",), 0.5, (box,), (1,))
    both = Prompts(prompt="dog", boxes="[[1,2,30,40]]", box_labels="[0]").on(SIZE)
    assert both == Find(("dog",), 0.5, (box,), (0,))
    given = Prompts(prompt="person", boxes="[[1,2,30,40]]").on(SIZE)
    assert given == Find(("person",), 0.5, (box,), (1,))
    named = Prompts(prompts=["person"], boxes="[[1,2,30,40]]").on(SIZE)
    assert named == Find(("person",), 0.5, (box,), (1,))


def test_a_box_that_reaches_over_the_edge_a_little_is_clipped() -> None:
    request = Prompts(task="visual", boxes="[[-3,-2,203.5,104]]").on(SIZE)
    assert request == Pick((Target(box=(0.0, 0.0, 200.0, 100.0)),), False)


def test_boxes_are_objects_and_points_describe_one_object() -> None:
    two = Prompts(task="visual", boxes="[[1,2,3,4],[5,6,7,8]]").on(SIZE)
    assert isinstance(two, Pick)
    assert [target.box for target in two.targets] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    one = Prompts(
        task="visual", points="[[0,0],[200,100]]", point_labels="[0,1]", boxes="[[1,2,3,4]]"
    ).on(SIZE)
    assert one == Pick((Target(((0, 0), (200, 100)), (0, 1), (1, 2, 3, 4)),), False)
