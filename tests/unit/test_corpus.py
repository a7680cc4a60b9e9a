"""The corpus against `open_image`: a right result, or one line that names the cause."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from sam3_image.decode.image import Image, Limits, open_image
from sam3_image.errors import ImageError
from tests.helpers import image_corpus

CASES = {case.name: case for case in image_corpus.cases()}
LIMITS = Limits()


def centres(pixels: np.ndarray) -> np.ndarray:
    """Mean of the middle of each block, (ROWS, COLUMNS, 3); lossy codecs ring at the edges."""
    block = image_corpus.BLOCK
    rows = pixels.reshape(image_corpus.ROWS, block, image_corpus.COLUMNS, block, 3)
    return rows[:, 4:-4, :, 4:-4].mean(axis=(1, 3))


def is_right(image: Image, case: image_corpus.Case) -> bool:
    if image.pixels.shape != case.upright.shape:
        return False
    if case.slack == 0:
        return bool((image.pixels == case.upright).all())
    return bool(np.abs(centres(image.pixels) - centres(case.upright)).max() <= case.slack)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    path = tmp_path / f"image{case.suffix}"
    path.write_bytes(case.data)
    started = time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            image = open_image(path, LIMITS)
        except ImageError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 400
            assert str(tmp_path) not in message
            assert ": " in message  # what is wrong: what to do
            assert case.kind not in ("good", "mislabelled"), message
        else:
            assert image.pixels.dtype == np.uint8
            assert image.pixels.flags.c_contiguous
            assert case.kind != "bomb"
            if case.kind != "corrupted":
                assert is_right(image, case)
    assert not warned
    assert time.process_time() - started < 5
    assert capfd.readouterr() == ("", "")  # nor do the C libraries write to the screen


def test_corpus_is_what_it_says() -> None:
    kinds = [case.kind for case in CASES.values()]
    recipes = image_corpus.RECIPES
    assert len(CASES) > 400
    assert kinds.count("good") == sum(len(recipe.orientations) for recipe in recipes)
    for bad in ("mislabelled", "truncated", "corrupted", "bomb"):
        assert kinds.count(bad) == len(recipes)
    assert max(len(case.data) for case in CASES.values()) < 1_000_000
