"""One request for every caller: its inputs are those of predict(), and "given" is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam3_image.errors import InputError, bounds, choices
from sam3_image.model.prompts import Find, Pick
from sam3_image.request import Request
from tests.helpers.cog_server import REPOSITORY
from tools.cog_schema.signature import DeclaredInput, read_signature

DECLARED = {
    item.name: item
    for item in read_signature((REPOSITORY / "predict.py").read_text(encoding="utf-8")).inputs
}
SIZE = (100, 200)
BOX = [[1, 2, 30, 40]]


def test_the_inputs_are_those_that_predict_declares() -> None:
    assert set(Request.inputs()) == set(DECLARED) - {"image"}


@pytest.mark.parametrize("name", Request.inputs())
def test_an_input_means_to_cog_what_it_means_elsewhere(name: str) -> None:
    field, declared = Request.inputs()[name], DECLARED[name]
    assert field.default == declared.default
    assert field.description == declared.description
    assert choices(field) == declared.choices
    assert bounds(field) == _declared_bounds(declared)


def _declared_bounds(declared: DeclaredInput) -> tuple[float, float]:
    limits = declared.limits
    return limits.get("ge", -np.inf), limits.get("le", np.inf)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"thresold": 0.5}, ["thresold", "did you mean threshold?"]),
        ({"image": "x"}, ["image is not an input"]),
        ({"threshold": "0.5"}, ["threshold is '0.5'", "a number from 0 to 1"]),
        ({"threshold": float("inf")}, ["threshold is inf"]),
        ({"max_instances": 1.5}, ["max_instances is 1.5", "whole number of at least 1"]),
        ({"max_instances": True}, ["max_instances is True"]),
        ({"return_zip": "yes"}, ["return_zip is 'yes'", "true or false"]),
        ({"return_zip": 1}, ["return_zip is 1", "true or false"]),
        ({"prompt": 7}, ["prompt is 7", "a text"]),
        ({"prompts": "cat"}, ["prompts is 'cat'", "a list of texts"]),
        ({"prompts": ["cat", 3]}, ["prompts[1] is 3"]),
        ({"mask_color": "mauve"}, ["mask_color is 'mauve'", "green"]),
        ({"boxes": {"x": 1}}, ["boxes", "list"]),
        ({"boxes": [[1, 2, 3, 10**400]]}, ["boxes[0]", "finite"]),
        ({"points": 5, "task": "visual"}, ["points is 5", "[[x, y]"]),
    ],
)
def test_what_is_not_accepted_is_one_line(inputs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Request.from_inputs(**inputs)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert message.endswith((".", "?"))


@pytest.mark.parametrize("given", [{"threshold": 0.5}, {"prompt": "person"}])
def test_a_default_that_was_given_is_refused_like_any_other_value(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="task='visual'"):
        Request.from_inputs(task="visual", points=[[1, 2]], **given)


def test_defaults_that_cog_fills_in_are_not_given() -> None:
    filled = {name: item.default for name, item in DECLARED.items() if name != "image"}
    request = Request.from_filled(**{**filled, "task": "visual", "points": "[[1, 2]]"})
    assert isinstance(request.prompts.on(SIZE), Pick)
    alone = Request.from_filled(**{**filled, "boxes": "[[1,2,30,40]]"}).prompts.on(SIZE)
    assert isinstance(alone, Find)
    assert alone.concepts == ("visual",)


def test_zero_is_given() -> None:
    request = Request.from_filled(threshold=0.0, mask_threshold=0.0, mask_opacity=0.0)
    ask = request.prompts.on(SIZE)
    assert isinstance(ask, Find)
    assert ask.threshold == 0.0
    assert request.prompts.mask_threshold == 0.0
    assert request.output.mask_opacity == 0.0


@pytest.mark.parametrize("boxes", [BOX, tuple(map(tuple, BOX)), np.array(BOX), "[[1,2,30,40]]"])
def test_boxes_are_lists_arrays_or_json(boxes: Any) -> None:
    ask = Request.from_inputs(boxes=boxes).prompts.on(SIZE)
    assert ask == Find(("visual",), 0.5, ((1.0, 2.0, 30.0, 40.0),), (1,))


def test_bad_json_is_refused_before_there_is_an_image() -> None:
    for inputs in ({"boxes": "[[1,2"}, {"prompt": " "}, {"task": "visual", "points": "[1]"}):
        with pytest.raises(InputError):
            Request.from_inputs(**inputs)
