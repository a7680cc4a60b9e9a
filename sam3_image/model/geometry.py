"""Boxes, points and labels: JSON texts or lists of a request → checked coordinates in pixels.

Coordinates are pixels of the upright image, origin top left, x to the right. What needs no image
to be judged is judged when a value is read; what does, when it is fitted to the image's size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sam3_image.errors import InputError, shown

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
Point = tuple[float, float]  # x, y

MAX_PROMPTED = 64  # boxes, or points, in one request
# A hand-drawn box often ends a little outside the image; up to this part of the side it is
# clipped to the edge, beyond it the coordinates are treated as a mistake.
EDGE_TOLERANCE = 0.05
# The longest JSON that 64 honest boxes need, with room; more is refused before it is parsed.
MAX_JSON = 20_000

BOXES_FORM = "[[x0, y0, x1, y1], …]"
POINTS_FORM = "[[x, y], …]"
LABELS_FORM = "[1, 0, …]"
NESTED_LABELS_FORM = "[[1, 0, …], …]"
THRESHOLDS_FORM = "[0.5, 0.3, …]"


def read_boxes(name: str, value: object) -> tuple[Box, ...]:
    """Boxes xyxy from JSON `[[x0,y0,x1,y1],…]`, a list or an array; not fitted yet.

    Raises InputError for bad JSON, wrong nesting, numbers that are not finite, x1 ≤ x0 or
    y1 ≤ y0, and for no box or more than 64.
    """
    boxes: list[Box] = []
    for index, (x0, y0, x1, y1) in enumerate(_rows(name, value, 4, BOXES_FORM)):
        if x1 <= x0 or y1 <= y0:
            raise InputError(
                f"{name}[{index}] is {shown([x0, y0, x1, y1])} with x1 ≤ x0 or y1 ≤ y0; the order "
                "is x0, y0 (top left), x1, y1 (bottom right), in pixels."
            )
        boxes.append((x0, y0, x1, y1))
    return tuple(boxes)


def read_points(name: str, value: object) -> tuple[Point, ...]:
    """Points from JSON `[[x,y],…]`, a list or an array; not fitted yet.

    Raises InputError for bad JSON, wrong nesting, numbers that are not finite, and for no point or
    more than 64.
    """
    return tuple((x, y) for x, y in _rows(name, value, 2, POINTS_FORM))


def read_objects(
    name: str, value: object, labels_name: str, labels: object
) -> tuple[tuple[tuple[Point, ...], tuple[int, ...]], ...]:
    """The points of each object, with their labels, from a flat or a nested list.

    `[[x, y], …]` are points of one object, `[[[x, y], …], …]` those of several; labels are nested
    alike, or None for all 1. Raises InputError as `read_points` and `read_labels` do, where the
    labels are nested otherwise, and for an object without a point on it.
    """
    entries = _entries(name, value, POINTS_FORM)
    if not _is_nested(entries):
        return (_read_object(name, entries, labels_name, labels),)
    each: list[Any] = [None] * len(entries)
    if labels is not None:
        each = _entries(labels_name, labels, NESTED_LABELS_FORM)
        if len(each) != len(entries) or not all(isinstance(one, list | tuple) for one in each):
            raise InputError(
                f"{labels_name} is {shown(labels)}, and {name} has {len(entries)} objects; give a "
                f"list of labels for each of them: {NESTED_LABELS_FORM}."
            )
    return tuple(
        _read_object(f"{name}[{index}]", points, f"{labels_name}[{index}]", own)
        for index, (points, own) in enumerate(zip(entries, each, strict=True))
    )


def _read_object(
    name: str, points: object, labels_name: str, labels: object
) -> tuple[tuple[Point, ...], tuple[int, ...]]:
    read = read_points(name, points)
    return read, read_labels(labels_name, labels, len(read), name)


def _is_nested(entries: list[Any]) -> bool:
    """Whether these are lists of points, not points: decided by the first entry."""
    first = entries[0]
    return isinstance(first, list | tuple) and bool(first) and isinstance(first[0], list | tuple)


def read_labels(name: str, value: object, count: int, of: str) -> tuple[int, ...]:
    """One label 0 or 1 for each of the `count` boxes or points; all 1 for None.

    of: the name of the input that the labels belong to.
    Raises InputError for bad JSON, for values other than 0 and 1, and unless there are `count`.
    """
    if value is None:
        return (1,) * count
    labels = _entries(name, value, LABELS_FORM)
    for index, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, int) or label not in (0, 1):
            raise InputError(
                f"{name}[{index}] is {shown(label)}; give 1 (positive) or 0 (negative)."
            )
    if len(labels) != count:
        raise InputError(
            f"{name} has {len(labels)} labels for {count} {of}; give one label per entry of {of}."
        )
    return tuple(labels)


def read_thresholds(name: str, value: object, count: int, of: str) -> tuple[float, ...]:
    """One number from 0 to 1 for each of the `count` entries of `of`, from JSON or a list.

    Raises InputError for bad JSON, for other values, and unless there are `count`.
    """
    numbers = _entries(name, value, THRESHOLDS_FORM)
    for index, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise InputError(f"{name}[{index}] is {shown(number)}; give a number from 0 to 1.")
    if len(numbers) != count:
        raise InputError(
            f"{name} has {len(numbers)} numbers for {count} {of}; give one for each entry of {of}."
        )
    return tuple(float(number) for number in numbers)


def fit_boxes(name: str, boxes: Sequence[Box], size: tuple[int, int]) -> tuple[Box, ...]:
    """Clip boxes that reach over the edge of an image of `size` (height, width) a little.

    Raises InputError for a box that lies outside or reaches out by more than 5 % of a side.
    """
    return tuple(_fitted(f"{name}[{index}]", box, size) for index, box in enumerate(boxes))


def fit_points(name: str, points: Sequence[Point], size: tuple[int, int]) -> tuple[Point, ...]:
    """The points, all with 0 ≤ x ≤ width and 0 ≤ y ≤ height of `size` (height, width).

    Raises InputError for a point outside the image.
    """
    height, width = size
    for index, (x, y) in enumerate(points):
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(
                f"{name}[{index}] is {shown([x, y])}, outside the image of {width}×{height} "
                f"pixels; x goes from 0 to {width}, y from 0 to {height}."
            )
    return tuple(points)


def _fitted(name: str, box: Box, size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = box
    height, width = size
    over_x, over_y = width * EDGE_TOLERANCE, height * EDGE_TOLERANCE
    reaches = x0 < -over_x or y0 < -over_y or x1 > width + over_x or y1 > height + over_y
    if reaches or x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise InputError(
            f"{name} is {shown(list(box))}, outside the image of {width}×{height} pixels; "
            f"x goes from 0 to {width}, y from 0 to {height}."
        )
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _rows(name: str, value: object, length: int, form: str) -> list[list[float]]:
    """Rows of `length` finite numbers."""
    rows = _entries(name, value, form)
    for index, row in enumerate(rows):
        where = f"{name}[{index}]"
        if not isinstance(row, list | tuple) or len(row) != length:
            raise InputError(f"{where} is {shown(row)}; {name} has the form {form}.")
        for place, number in enumerate(row):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise InputError(
                    f"{where}[{place}] is {shown(number)}; {name} has the form {form} with "
                    "numbers only."
                )
            if not _is_finite(number):
                raise InputError(
                    f"{where} has the value {shown(number)}; give finite numbers in pixels."
                )
    return [[float(number) for number in row] for row in rows]


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond every float
        return False


def _entries(name: str, value: object, form: str) -> list[Any]:
    """The entries of a JSON text, a list, a tuple or an array: 1 to 64 of them."""
    if isinstance(value, np.ndarray):
        data = value.tolist()
    elif isinstance(value, str):
        data = _json(name, value, form)
    else:
        data = list(value) if isinstance(value, tuple) else value
    if not isinstance(data, list):
        raise InputError(f"{name} is {shown(value)}; give a JSON list of the form {form}.")
    if not 1 <= len(data) <= MAX_PROMPTED:
        raise InputError(
            f"{name} has {len(data)} entries; give 1 to {MAX_PROMPTED}, or leave {name} out."
        )
    return data


def _json(name: str, text: str, form: str) -> Any:
    if len(text) > MAX_JSON:
        raise InputError(
            f"{name} is {len(text)} characters of JSON; at most {MAX_JSON} are read "
            f"({MAX_PROMPTED} entries of the form {form})."
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name} is not valid JSON: {error.msg} at character {error.pos + 1} of "
            f"{shown(text)}; the form is {form}."
        ) from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or thousands of brackets.
        raise InputError(f"{name} is not usable JSON: {shown(text)}; the form is {form}.") from None
