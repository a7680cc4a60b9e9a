"""Every way through the segmenter finds what the plain pipeline finds, on drawn scenes.

The plain pipeline is `benchmarks.plain` in float32, called as Meta's SAM 3, one concept at a call;
ours takes several at once, in chunks, in both precisions, from the file as it ships and at half its
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import plain
from sam3_image.model.compatibility import META
from sam3_image.model.device import Placement
from sam3_image.model.finder import CHUNK
from sam3_image.model.prompts import Find
from sam3_image.model.segmenter import Segmenter
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.download import store
from tests.helpers.second_scenes import random_picture
from tools.demo_checkpoint.measure import match_ious

THRESHOLD = 0.5
SEEDS = range(3000, 3006)
OTHERS = ["red circle", "star", "person", "striped ring", "blue square"]
SAME = 0.95  # share of the questions with the same answer; some scores lie at the threshold


@pytest.fixture(scope="module")
def expected(weights: Path) -> list[tuple[np.ndarray, list[str], list[np.ndarray]]]:
    """For each scene its pixels, what is asked, and the plain pipeline's masks (N, H, W)."""
    detector = plain.load(weights, as_meta=True)
    answers = []
    for seed in SEEDS:
        image, objects = random_picture(seed)
        names = list(dict.fromkeys([*(drawn.name for drawn in objects[:3]), *OTHERS]))[: CHUNK + 2]
        masks = []
        for name in names:
            inputs = plain.preprocess(detector.processor, image, text=name)
            outputs = plain.infer(detector, inputs)
            size = (image.height, image.width)
            found = plain.post_process(
                detector.processor, outputs, size, THRESHOLD, as_meta=detector.as_meta
            )
            masks.append(found["masks"].numpy() > 0)
        answers.append((np.array(image), names, masks))
    assert sum(len(own) for _, _, masks in answers for own in masks) > len(SEEDS)
    return answers


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_paths_find_the_same_instances(
    weights: Path,
    tmp_path: Path,
    expected: list[tuple[np.ndarray, list[str], list[np.ndarray]]],
    stored: str,
    dtype: str,
) -> None:
    folder = weights
    if stored == "bfloat16":
        folder = tmp_path / "half"
        store(weights, folder)
    placement = Placement(torch.device("cpu"), getattr(torch, dtype))
    segmenter = Segmenter(Checkpoint.open(folder), placement, reference=META)
    same = [
        len(mine) == len(theirs) and all(v > 0.7 for v in match_ious(mine, theirs))
        for pixels, names, wanted in expected
        for mine, theirs in zip(answers(segmenter, pixels, names), wanted, strict=True)
    ]
    assert np.mean(same) >= (1 if dtype == stored == "float32" else SAME)


def answers(segmenter: Segmenter, pixels: np.ndarray, names: list[str]) -> Iterator[np.ndarray]:
    """The masks (N, H, W) of each name, all asked in one request."""
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    request = Find(tuple(names), THRESHOLD)
    found = segmenter.segment(features, request)
    masks = [mask.full() for mask in found.masks()]
    for index in range(len(names)):
        own = [mask for mask, prompt in zip(masks, found.prompts, strict=True) if prompt == index]
        yield np.array(own).reshape(len(own), *pixels.shape[:2])
