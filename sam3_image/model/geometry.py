"""Boxes, points and labels: JSON strings of a request → checked coordinates in pixels.

Coordinates are pixels of the upright image, origin top left, x to the right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, RootModel, ValidationError

from sam3_image.errors import InputError, shown

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
Point = tuple[float, float]  # x, y

MAX_PROMPTED = 64  # boxes, or points, in one request
# A hand-drawn box often ends a little outside the picture; up to this part of the side it is
# clipped to the edge, beyond it the coordinates are taken for a mistake.
EDGE_TOLERANCE = 0.05
# The longest JSON that 64 honest boxes need, with room; more is refused before it is parsed.
MAX_JSON = 20_000


class _Boxes(RootModel[list[tuple[float, float, float, float]]]):
    model_config = ConfigDict(strict=True)


class _Points(RootModel[list[tuple[float, float]]]):
    model_config = ConfigDict(strict=True)


class _Labels(RootModel[list[int]]):
    model_config = ConfigDict(strict=True)


def parse_boxes(name: str, text: str | None, size: tuple[int, int]) -> tuple[Box, ...]:
    """Boxes from JSON `[[x0,y0,x1,y1],…]`, clipped to the image where they reach over a little.

    size: (height, width) in pixels. Returns () for None.
    Raises InputError: no JSON, wrong nesting, not finite, x1 ≤ x0, outside the image, over 64.
    """
    if text is None:
        return ()
    boxes = _values(name, text, _Boxes, "[[x0, y0, x1, y1], …]")
    return tuple(_box(f"{name}[{index}]", box, size) for index, box in enumerate(boxes))


def parse_points(name: str, text: str | None, size: tuple[int, int]) -> tuple[Point, ...]:
    """Points from JSON `[[x,y],…]`, 0 ≤ x ≤ width and 0 ≤ y ≤ height. Returns () for None.

    Raises InputError: no JSON, wrong nesting, not finite, outside the image, over 64.
    """
    if text is None:
        return ()
    points = _values(name, text, _Points, "[[x, y], …]")
    height, width = size
    for index, (x, y) in enumerate(points):
        _finite(f"{name}[{index}]", (x, y))
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(
                f"{name}[{index}] is {shown([x, y])}, outside the image of {width}×{height} "
                f"pixels; x goes from 0 to {width}, y from 0 to {height}."
            )
    return tuple(points)


def parse_labels(name: str, text: str | None, count: int, of: str) -> tuple[int, ...]:
    """One label 0 or 1 for each of the `count` boxes or points; all 1 where `text` is None.

    of: the name of the input that the labels belong to.
    Raises InputError: no JSON, another value than 0 or 1, another number than `count`.
    """
    if text is None:
        return (1,) * count
    labels = _values(name, text, _Labels, "[1, 0, …]")
    for index, label in enumerate(labels):
        if label not in (0, 1):
            raise InputError(
                f"{name}[{index}] is {label}; allowed are 1 (positive) and 0 (negative)."
            )
    if len(labels) != count:
        raise InputError(
            f"{name} has {len(labels)} labels for {count} {of}; give one label per entry of {of}."
        )
    return tuple(labels)


def _box(name: str, box: Box, size: tuple[int, int]) -> Box:
    _finite(name, box)
    x0, y0, x1, y1 = box
    height, width = size
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"{name} is {shown(list(box))} with x1 ≤ x0 or y1 ≤ y0; the order is "
            "x0, y0 (top left), x1, y1 (bottom right), in pixels."
        )
    over_x, over_y = width * EDGE_TOLERANCE, height * EDGE_TOLERANCE
    reaches = x0 < -over_x or y0 < -over_y or x1 > width + over_x or y1 > height + over_y
    if reaches or x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise InputError(
            f"{name} is {shown(list(box))}, outside the image of {width}×{height} pixels; "
            f"x goes from 0 to {width}, y from 0 to {height}."
        )
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _values(name: str, text: str, model: type[RootModel[Any]], form: str) -> Any:
    if not isinstance(text, str):
        raise InputError(f"{name} is {shown(text)}; give a JSON string of the form {form}.")
    if len(text) > MAX_JSON:
        raise InputError(
            f"{name} is {len(text)} characters of JSON; at most {MAX_JSON} are read "
            f"({MAX_PROMPTED} entries of the form {form})."
        )
    data = _json(name, text, form)
    if not isinstance(data, list):
        raise InputError(f"{name} is {shown(text)}; give a JSON list of the form {form}.")
    if not 1 <= len(data) <= MAX_PROMPTED:
        raise InputError(
            f"{name} has {len(data)} entries; give 1 to {MAX_PROMPTED}, or leave {name} out."
        )
    try:
        # JSON has no tuples: the model reads the text again, strictly (no "1" for 1, no true).
        return model.model_validate(_tuples(data)).root
    except ValidationError as error:
        first = error.errors()[0]
        loc = first["loc"][:1] if first["type"] in ("missing", "too_long") else first["loc"]
        where = "".join(f"[{part}]" for part in loc if isinstance(part, int))
        value = data[int(loc[0])] if len(loc) == 1 else first["input"]
        raise InputError(
            f"{name}{where} is {shown(value)}; {name} has the form {form} with numbers only."
        ) from None


def _json(name: str, text: str, form: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name} is no valid JSON: {error.msg} at character {error.pos + 1} of {shown(text)}; "
            f"the form is {form}."
        ) from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or thousands of brackets.
        raise InputError(f"{name} is no usable JSON: {shown(text)}; the form is {form}.") from None


def _tuples(data: list[Any]) -> list[Any]:
    return [tuple(entry) if isinstance(entry, list) else entry for entry in data]


def _finite(name: str, numbers: Sequence[float]) -> None:
    for number in numbers:
        if not math.isfinite(number):
            raise InputError(f"{name} has the value {number}; only finite numbers are allowed.")
