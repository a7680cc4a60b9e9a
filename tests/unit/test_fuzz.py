"""Hypothesis against the doors: image bytes, prompts, JSON.

A small, fixed budget; `script/fuzz 20000` tries that many cases per test, new ones each time.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sam3_image.decode.image import Limits, decode, require_download
from sam3_image.errors import InputError, UserError
from sam3_image.model.prompts import Find, Pick, Prompts
from tests.helpers import image_corpus
from tests.unit import test_damaged, test_mutants

CASES = int(os.environ.get("SAM3_FUZZ", "150"))
SECONDS = 10  # no single file may take longer
# A file of a few KB must not become more pixels than this, or fuzzing would only test patience.
LIMITS = Limits(pixels=4_000_000, side=10_000)
SEEDS = [case.data for case in image_corpus.cases() if case.kind in ("good", "bomb")]
SEEDS += test_mutants.files()
SEEDS += [test_damaged.icon(image_corpus.picture("RGBA")[0], kind) for kind in ("png", "bmp")]
SIZE = (480, 640)

budget = settings(
    max_examples=CASES,
    deadline=None,
    derandomize="SAM3_FUZZ" not in os.environ,  # CI tries the same cases each time
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def open_or_refuse(data: bytes) -> None:
    """Pixels of the promised kind or one line, and no warning; anything else fails the test."""
    started = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            image = decode(data, LIMITS)
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3
        assert image.pixels.shape[2] == 3
        assert image.pixels.flags.c_contiguous
        assert image.size[0] * image.size[1] <= LIMITS.pixels
    assert not warned, [str(warning.message) for warning in warned]
    assert "\n" not in message
    assert len(message) < 400
    assert time.perf_counter() - started < SECONDS


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A file of the corpus with a few edits: bytes set, blocks cut, doubled, moved or inserted."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["set", "number", "cut", "double", "move", "insert", "end"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":  # sizes, counts and offsets that decoders trip over
                value = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF]))
                width = draw(st.sampled_from([2, 4]))
                order = draw(st.sampled_from(["big", "little"]))
                value &= (1 << 8 * width) - 1
                data[at : at + width] = value.to_bytes(width, order)
            case "cut":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "move":
                block = data[at : at + length]
                del data[at : at + length]
                to = draw(st.integers(0, len(data)))
                data[to:to] = block
            case "insert":
                data[at:at] = draw(st.binary(max_size=64))
            case "end":
                del data[at:]
    return bytes(data)


@st.composite
def crossed(draw: st.DrawFn) -> bytes:
    """The head of one file of the corpus on the body of another."""
    one, other = draw(st.sampled_from(SEEDS)), draw(st.sampled_from(SEEDS))
    return one[: draw(st.integers(0, len(one)))] + other[draw(st.integers(0, len(other))) :]


@budget
@given(mutated())
def test_mutated_images(data: bytes) -> None:
    open_or_refuse(data)


@budget
@given(crossed())
def test_crossed_images(data: bytes) -> None:
    open_or_refuse(data)


@budget
@given(st.sampled_from(sorted({seed[:16] for seed in SEEDS})), st.binary(max_size=400))
def test_noise_behind_a_known_start(start: bytes, rest: bytes) -> None:
    open_or_refuse(start[: len(start)] + rest)


@budget
@given(st.binary(max_size=300))
def test_noise(data: bytes) -> None:
    open_or_refuse(data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@budget
@given(anything)
def test_only_downloads_pass(value: Any) -> None:
    try:
        require_download(value)
    except InputError:
        return
    raise AssertionError(f"{value!r} was taken for a download")


SCRIPTS = "aé漢字اللغة👩\u200d👩\u200d👧\u0301\u202e\0\t\n "
text = st.text(max_size=600) | st.text(st.sampled_from(SCRIPTS), max_size=80)
number = st.integers(-100, 1000) | st.floats() | st.sampled_from([10**400, -1, 0, 1, 640, 480.5])
shape = st.recursive(
    number | st.text(max_size=5) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
usual_boxes = st.lists(st.lists(st.integers(0, 640), min_size=4, max_size=4), max_size=5)
usual_points = st.lists(st.lists(st.integers(0, 480), min_size=2, max_size=2), max_size=5)
usual_labels = st.lists(st.integers(0, 1), max_size=5)


def as_json(*values: st.SearchStrategy[Any]) -> st.SearchStrategy[str | None]:
    """JSON of a value, JSON with junk in it, junk, or nothing."""
    good = st.one_of(*values).map(json.dumps)
    return st.none() | good | st.tuples(good, text).map("".join) | st.text(max_size=40)


queries = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(["concept", "visual"]) | text,
        "prompt": text,
        "prompts": st.none() | st.lists(text, max_size=18),
        "boxes": as_json(usual_boxes, shape),
        "box_labels": as_json(usual_labels, shape),
        "points": as_json(usual_points, shape),
        "point_labels": as_json(usual_labels, shape),
        "multimask_output": st.booleans(),
        "threshold": st.floats(0, 1) | number,
        "mask_threshold": st.floats(0, 1) | number,
        "nms_iou_threshold": st.none() | st.floats(0, 1) | number,
        "max_instances": st.none() | number,
        "input_size_percent": st.integers(25, 100) | number,
    },
)


def parse_or_refuse(fields: dict[str, Any]) -> None:
    """Prompts inside the image or one line."""
    try:
        request = Prompts(**fields).on(SIZE)
    except InputError as error:
        message = str(error)
        assert "\n" not in message, message
        assert len(message) < 500, message
        assert message.isprintable(), message
        return
    assert isinstance(request, Find | Pick)
    assert "\n" not in str(request)
    boxes = request.boxes if isinstance(request, Find) else ()
    for x0, y0, x1, y1 in boxes:
        assert x0 < x1
        assert y0 < y1
        assert all(np.isfinite([x0, y0, x1, y1]))


@budget
@given(queries)
def test_queries(fields: dict[str, Any]) -> None:
    parse_or_refuse(fields)


@budget
@given(st.sampled_from(["boxes", "points", "box_labels", "point_labels"]), as_json(shape))
def test_json_fields(name: str, value: str | None) -> None:
    visual = name.startswith("point")
    fields: dict[str, Any] = {"task": "visual" if visual else "concept"}
    if name == "point_labels":
        fields["points"] = "[[1, 1], [2, 2]]"
    if name == "box_labels":
        fields["boxes"] = "[[1, 1, 20, 20]]"
    parse_or_refuse({**fields, name: value})


def test_deep_and_long_json() -> None:
    for value in ("[" * 100_000, "[" * 5000 + "]" * 5000, "[[1,2,3,4]," * 50_000, "9" * 10_000):
        parse_or_refuse({"boxes": value})
    parse_or_refuse({"boxes": json.dumps([[0, 0, 10, 10]] * 100_000)})
    parse_or_refuse({"boxes": "[[1e999, 0, 10, 10]]"})
    parse_or_refuse({"boxes": "[[NaN, 0, 10, Infinity]]"})
    parse_or_refuse({"boxes": f"[[{'9' * 5000}, 0, 10, 10]]"})
