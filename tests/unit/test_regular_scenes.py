"""Tiles on images of many equal objects, answered by the demo checkpoint.

A short form of `tests.helpers.regular_scenes`, which measures the same over more seeds by hand.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import sam3_image
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.regular_scenes import KINDS, Scene, compare, f1, hits, scene


@pytest.fixture(scope="module")
def sam() -> sam3_image.Sam:
    return sam3_image.load(REPOSITORY / "weights" / "demo", device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_lose_nothing_that_one_of_them_finds(sam: sam3_image.Sam, kind: str) -> None:
    """Nothing is doubled, and the answer is no worse than the whole image's.

    F1 is held where single tiles have it: shown many objects at once, the model gives only parts of
    some masks.
    """
    drawn = scene(kind, 1)
    for tile_size in drawn.tile_sizes[1:]:
        counts = compare(sam, drawn, tile_size)
        assert counts["lost"] == 0, (tile_size, counts)
        assert counts["doubles"] == 0, (tile_size, counts)
        if counts["alone"] == counts["drawn"]:
            assert f1(counts) >= 0.97, (tile_size, counts)
        plain = Counter(
            drawn=counts["drawn"], answers=counts["plain_answers"], found=counts["plain"]
        )
        assert f1(counts) >= f1(plain), (tile_size, counts)


@pytest.mark.parametrize("ground", [128, 255])
def test_a_grid_of_equal_squares_is_found_whole(sam: sam3_image.Sam, ground: int) -> None:
    """Without much background the whole image shows nothing; on grey it answers with smears."""
    pixels = np.full((3600, 5900, 3), ground, np.uint8)
    numbers = np.zeros(pixels.shape[:2], np.int64)
    for number in range(50):
        y, x = 210 + 720 * (number // 10), 145 + 590 * (number % 10)
        pixels[y : y + 300, x : x + 300] = 0, 90, 200
        numbers[y : y + 300, x : x + 300] = number + 1
    found = sam.find(pixels, "square", tile_size=1500).detections
    shown = hits(Scene(pixels, numbers, "square", ()), found.masks())
    assert sorted(shown) == list(range(1, 51))
