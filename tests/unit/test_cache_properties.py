"""What was asked before changes no answer: a warm service agrees with a cold one bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sam3_image
from sam3_image import Instances, Sam

Ask = Callable[[Sam], Instances]
SIZES = [(84, 84), (84, 336), (336, 84), (120, 90)]
TEXTS = ["circle", "ﬁsh", "fish", "Red  star"]


def image(rng: np.random.Generator) -> np.ndarray:
    """Draw an image; those of one kind look the same to the encoder whatever their size."""
    height, width = SIZES[rng.integers(len(SIZES))]
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    if rng.random() < 0.5:
        pixels[: height // 2, : width // 2] = 230, 40, 40
    return pixels


def question(rng: np.random.Generator) -> Ask:
    """Draw an image and what to ask about it; few values, so that they come together often."""
    pixels, percent = image(rng), int(rng.choice([25, 100]))
    boxes = [[8, 8, 40, 60], [20, 30, 70, 80]][: rng.integers(1, 3)]
    labels = [1, 0][: len(boxes)]
    texts = rng.permutation(TEXTS)[: rng.integers(1, 3)].tolist()
    options: dict[str, Any] = {"input_size_percent": percent}
    kind = rng.integers(5)
    if kind == 0:
        return lambda sam: sam.pick(pixels, boxes=boxes, **options)
    options["threshold"] = 0.0
    if kind == 1:
        return lambda sam: sam.find(pixels, texts, **options)
    if kind == 2:
        reference = {"reference_image": image(rng), "reference_boxes": boxes}
        return lambda sam: sam.find(pixels, texts, **reference, **options)
    if kind == 3:
        options["tile_size"] = 200
    return lambda sam: sam.find(pixels, texts, boxes=boxes, box_labels=labels, **options)


def assert_equal(one: Instances, other: Instances) -> None:
    assert one.size == other.size
    assert one.concepts == other.concepts
    for name in ("scores", "boxes", "prompts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.masks(), other.masks())


@pytest.mark.parametrize("seed", [0])
def test_a_warm_service_agrees_with_a_cold_one(weights: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    warm = sam3_image.load(weights)
    for _ in range(20):
        ask = question(rng)
        cold = sam3_image.load(weights)
        assert_equal(ask(warm), ask(cold))


def test_exemplars_of_an_image_with_the_same_features_but_another_size(weights: Path) -> None:
    """Stripes of two heights are one square to the encoder; a box is at another place in each."""
    stripes = np.zeros((336, 336, 3), dtype=np.uint8)
    stripes[:, ::48] = stripes[:, 1::48] = 255
    tall = np.repeat(stripes, 4, axis=0)
    warm, cold = sam3_image.load(weights), sam3_image.load(weights)
    boxes = [[20, 20, 120, 120]]
    assert len(warm.find(stripes, boxes=boxes, threshold=0.0))
    options: dict[str, Any] = {"boxes": boxes, "threshold": 0.0, "max_instances": 5}
    assert_equal(warm.find(tall, **options), cold.find(tall, **options))
