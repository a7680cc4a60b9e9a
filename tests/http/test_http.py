"""The first eight inputs over Cog's real HTTP server: each does what its description says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import DEMO
from tests.helpers.cog_server import CogServer, Result, pixels
from tests.helpers.second_scenes import Drawn, arranged, iou

COLOURS = {
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
NAMES = ["red circle", "blue square", "red circle", "yellow star"]

Predict = Callable[..., Result]


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, list[Drawn]]:
    """A picture (H, W, 3) uint8 with two red circles in it, and what was drawn."""
    picture, objects = arranged(NAMES, (320, 240))
    return np.asarray(picture), objects


@pytest.fixture(scope="module")
def image(scene: tuple[np.ndarray, list[Drawn]]) -> np.ndarray:
    return scene[0]


@pytest.fixture(scope="module")
def predict(server: CogServer, weights: Path, image: np.ndarray) -> Predict:
    """A prediction that succeeds and, unless told otherwise, finds several instances."""
    # Random weights score everything about 0.25.
    usual: dict[str, Any] = {"image": image, "prompt": "red circle"}
    if weights != DEMO:
        usual["threshold"] = 0.0

    def call(**inputs: Any) -> Result:
        result = server.predict(**{**usual, **inputs})
        assert result.status == "succeeded", result.error
        return result

    return call


@pytest.fixture(scope="module")
def union(predict: Predict) -> np.ndarray:
    """Where any instance is: (H, W) bool."""
    masks = predict().masks()
    assert len(masks) >= 2
    return np.any([mask == 255 for mask in masks], axis=0)


def picture(predict: Predict, **inputs: Any) -> np.ndarray:
    """The one picture that a call without ZIP returns."""
    result = predict(return_zip=False, **inputs)
    assert result.media_type == "image/png"
    return result.pixels()


def test_default_is_a_zip_of_grayscale_masks(predict: Predict, image: np.ndarray) -> None:
    result = predict()
    assert result.media_type == "application/zip"
    files = result.files()
    assert list(files) == [f"mask_{index:03}.png" for index in range(len(files))]
    for content in files.values():
        with Image.open(io.BytesIO(content)) as mask:
            assert mask.mode == "L"
            assert mask.size == (image.shape[1], image.shape[0])
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert result.metrics["instances"] == len(files)


def test_defaults_are_those_of_the_drop_in_interface(predict: Predict, weights: Path) -> None:
    spelt_out = predict(
        save_overlay=False,
        mask_only=False,
        return_zip=True,
        mask_opacity=0.5,
        mask_color="green",
        **({"threshold": 0.5} if weights == DEMO else {}),
    )
    assert spelt_out.content == predict().content
    assert np.array_equal(
        picture(predict), picture(predict, mask_opacity=0.5, mask_color="green", mask_only=False)
    )
    assert predict(prompt=None).content == predict(prompt="person").content


def test_masks_come_best_score_first(predict: Predict) -> None:
    scores = [mask["score"] for mask in annotations(predict(annotation_format="coco"))]
    assert len(scores) >= 2
    assert scores == sorted(scores, reverse=True)


def annotations(result: Result) -> list[dict[str, Any]]:
    return json.loads(result.files()["annotations.json"])["annotations"]


def test_image_decides(predict: Predict, image: np.ndarray) -> None:
    """Cut to the half without red circles, and the same call finds something else."""
    half = image[:, image.shape[1] // 2 :]
    masks, others = predict().masks(), predict(image=half).masks()
    assert all(mask.shape == half.shape[:2] for mask in others)
    assert len(others) != len(masks) or not np.array_equal(others[0], masks[0][:, -half.shape[1] :])


def test_prompt_decides(predict: Predict) -> None:
    assert predict(prompt="red circle").content != predict(prompt="blue square").content


@pytest.mark.parametrize("prompt", ["red circle", "blue square", "yellow star"])
def test_prompt_finds_what_it_names_and_nothing_else(
    predict: Predict, scene: tuple[np.ndarray, list[Drawn]], prompt: str
) -> None:
    wanted = [drawn.mask for drawn in scene[1] if drawn.name == prompt]
    found = [mask == 255 for mask in predict(prompt=prompt).masks()]
    assert len(found) == len(wanted)
    for mask in wanted:
        assert max(iou(mask, own) for own in found) > 0.75


def test_threshold_keeps_the_better_scores(predict: Predict) -> None:
    """A higher threshold gives a prefix of what a lower one gives, and 1 gives nothing."""
    everything = annotations(predict(threshold=0.0, annotation_format="coco"))
    scores = [item["score"] for item in everything]
    masks = predict(threshold=0.0).masks()
    middle = float(np.median(scores))
    kept = predict(threshold=middle).masks()
    assert len(kept) == sum(score > middle for score in scores)
    assert 0 < len(kept) < len(masks) == len(scores)
    assert all(np.array_equal(a, b) for a, b in zip(kept, masks, strict=False))
    assert predict(threshold=1.0).masks() == []


def test_save_overlay_adds_the_picture_to_the_zip(predict: Predict) -> None:
    plain, with_overlay = predict(), predict(save_overlay=True)
    assert set(with_overlay.files()) - set(plain.files()) == {"overlay.png"}
    assert np.array_equal(pixels(with_overlay.files()["overlay.png"]), picture(predict))
    masks = {name: content for name, content in with_overlay.files().items() if "mask" in name}
    assert masks == plain.files()


def test_mask_only_is_white_on_black(predict: Predict, union: np.ndarray) -> None:
    mask = picture(predict, mask_only=True)
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal((mask if mask.ndim == 2 else mask[..., 0]) == 255, union)
    assert not np.array_equal(picture(predict), mask)


def test_return_zip_decides_between_masks_and_a_picture(
    predict: Predict, image: np.ndarray
) -> None:
    assert predict(return_zip=True).media_type == "application/zip"
    assert picture(predict).shape == image.shape


def test_opacity_blends(predict: Predict, image: np.ndarray, union: np.ndarray) -> None:
    assert np.array_equal(picture(predict, mask_opacity=0.0), image)
    pure = picture(predict, mask_opacity=1.0)
    assert np.all(pure[union] == COLOURS["green"])
    assert np.array_equal(pure[~union], image[~union])
    for opacity in (0.25, 0.5):
        blend = picture(predict, mask_opacity=opacity)
        wanted = image[union] * (1 - opacity) + np.array(COLOURS["green"]) * opacity
        assert np.abs(blend[union] - wanted).max() <= 1
        assert np.array_equal(blend[~union], image[~union])


@pytest.mark.parametrize("name", COLOURS)
def test_each_colour(predict: Predict, union: np.ndarray, name: str) -> None:
    tinted = picture(predict, mask_opacity=1.0, mask_color=name)
    assert np.all(tinted[union] == COLOURS[name])


def test_distinct_gives_each_instance_its_own_colour(
    predict: Predict, image: np.ndarray, union: np.ndarray
) -> None:
    tinted = picture(predict, mask_opacity=1.0, mask_color="distinct")
    covered = np.zeros(union.shape, dtype=bool)
    colours = []
    for mask in predict().masks():
        alone = (mask == 255) & ~covered  # where two overlap, the better score lies on top
        covered |= mask == 255
        if alone.any():
            (colour,) = np.unique(tinted[alone], axis=0)
            colours.append(tuple(colour))
    assert len(colours) >= 2
    assert len(set(colours)) == len(colours)
    assert np.array_equal(tinted[~union], image[~union])


def test_nothing_found_is_a_result(predict: Predict, image: np.ndarray) -> None:
    nothing = {"threshold": 1.0}
    assert predict(**nothing).files() == {}
    assert predict(**nothing).metrics["instances"] == 0
    assert list(predict(**nothing, save_overlay=True).files()) == ["overlay.png"]
    assert np.array_equal(picture(predict, **nothing), image)
    assert not picture(predict, **nothing, mask_only=True).any()
    assert picture(predict, **nothing, mask_only=True).shape[:2] == image.shape[:2]


def test_absent_concept_gives_nothing(predict: Predict) -> None:
    assert predict(prompt="green triangle").files() == {}


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied(predict: Predict, image: np.ndarray, orientation: int) -> None:
    """Stored turned or mirrored with the tag that undoes it: the same masks as upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).transpose(undo[orientation]).save(buffer, "PNG", exif=exif)
    turned = buffer.getvalue()
    assert predict(image=turned).content == predict().content
    assert np.array_equal(picture(predict, image=turned), picture(predict))
