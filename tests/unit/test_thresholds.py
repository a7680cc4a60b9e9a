"""Thresholds are monotone from 0 to 1: a higher one gives parts of what a lower one gave."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sam3_image
from sam3_image import Sam
from tests.helpers.drawn_instances import disc

THRESHOLDS = [0.0, 1e-6, 0.05, 0.3, 0.5, 0.9, 0.999999, 1.0]
SIZE = (90, 140)


@pytest.fixture(scope="module")
def sam(weights: Path) -> Sam:
    return sam3_image.load(weights)


def image(seed: int) -> np.ndarray:
    """Draw a few discs on a plain ground."""
    rng = np.random.default_rng(seed)
    pixels = np.full((*SIZE, 3), rng.integers(150, 250, 3), dtype=np.uint8)
    for _ in range(3):
        inside = disc(SIZE, tuple(rng.random(2) * SIZE), rng.uniform(8, 25))
        pixels[inside] = rng.integers(0, 120, 3)
    return pixels


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("find", {"concepts": ["circle", "star"], "threshold": 0.1}),
    ("find", {"boxes": [[20, 20, 70, 60]], "threshold": 0.1}),
    ("pick", {"points": [[60, 40]], "multimask_output": True}),
    ("pick", {"boxes": [[20, 20, 70, 60], [0, 0, 140, 90]]}),
]
REFINED: list[tuple[str, dict[str, Any]]] = [
    ("find", {"concepts": "circle", "threshold": 0.1, "refine": True}),
    ("pick", {"points": [[60, 40]], "refine": True}),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("task", "inputs"), ASKED)
def test_masks_shrink_as_their_threshold_grows(
    sam: Sam, task: str, inputs: dict[str, Any], seed: int
) -> None:
    """At 0 they hold nearly every pixel, at 1 none; the instances stay the same ones."""
    pixels = image(seed)
    ask = getattr(sam, task)
    found = [ask(pixels, mask_threshold=value, **inputs) for value in THRESHOLDS]
    assert len(found[0])
    for one, other in pairwise(found):
        np.testing.assert_array_equal(one.scores, other.scores)
        assert not (other.masks() & ~one.masks()).any()
    assert found[0].masks().mean() > 0.9
    assert not found[-1].masks().any()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize(("task", "inputs"), REFINED)
def test_extreme_mask_thresholds_are_refined(
    sam: Sam, task: str, inputs: dict[str, Any], value: float
) -> None:
    found = getattr(sam, task)(image(2), mask_threshold=value, **inputs)
    assert np.isfinite(found.boxes).all()
    assert found.masks().any() == (value == 0.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_instances_become_fewer_as_the_threshold_grows(sam: Sam, seed: int) -> None:
    pixels = image(seed)
    asked: dict[str, Any] = {"concepts": ["circle", "star"]}
    every = sam.find(pixels, threshold=0.0, **asked)
    assert len(every) > 3
    for value in THRESHOLDS:
        found = sam.find(pixels, threshold=value, **asked)
        np.testing.assert_array_equal(found.scores, every.scores[every.scores > value])
        np.testing.assert_array_equal(found.masks(), every.masks()[: len(found)])
    assert not len(sam.find(pixels, threshold=1.0, **asked))
