"""Every allowed combination of the output inputs, over Cog's real HTTP server."""

from __future__ import annotations

import io
import json
import zipfile
from itertools import product
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from pycocotools import mask as coco_masks

from sam3_image.errors import InputError
from sam3_image.output import formats
from sam3_image.output.images import PICTURE_FORMATS
from sam3_image.output.options import Output
from tests.helpers.cog_server import CogServer, pixels, png
from tests.helpers.second_scenes import arranged

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

VALIDATOR = jsonschema.Draft202012Validator(formats.schema())
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}

# Threshold 0 and a limit: three instances on any weights, also random ones.
SCENE, _ = arranged(["red circle", "blue square", "green triangle"])
REQUEST = {"image": png(SCENE), "prompt": "red circle", "threshold": 0.0, "max_instances": 3}


def combinations() -> list[dict[str, Any]]:
    """All values of all output inputs but colour and opacity, which touch pixels only.

    Of the annotation formats those that the schema describes; the others are asked for below.
    """
    on_off = (False, True)
    values = {
        "return_zip": on_off,
        "save_overlay": on_off,
        "mask_only": on_off,
        "apply_mask": on_off,
        "show_labels": on_off,
        "output_format": PICTURE_FORMATS,
        "annotation_format": ("none", "coco", "polygon", "rle"),
    }
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def is_allowed(inputs: dict[str, Any]) -> bool:
    try:
        Output(**inputs)
    except InputError:
        return False
    return True


def name_of(inputs: dict[str, Any]) -> str:
    given = {k: v for k, v in inputs.items() if v != getattr(Output(), k)}
    return "-".join(k if v is True else f"{k}={v}" for k, v in given.items()) or "defaults"


ALLOWED = [inputs for inputs in combinations() if is_allowed(inputs)]
REFUSED = [inputs for inputs in combinations() if not is_allowed(inputs)]


@pytest.fixture(scope="module")
def masks(server: CogServer) -> list[NDArray[np.bool_]]:
    """What the drop-in defaults give for the scene: the truth for every other output."""
    found = server.predict(**REQUEST).masks()
    assert len(found) == 3
    return [mask == 255 for mask in found]


@pytest.mark.parametrize("inputs", ALLOWED, ids=name_of)
def test_every_allowed_combination(
    server: CogServer, masks: list[NDArray[np.bool_]], inputs: dict[str, Any]
) -> None:
    result = server.predict(**REQUEST, **inputs)
    assert result.status == "succeeded", result.error
    output = Output(**inputs)
    if output.return_zip:
        assert zipfile.is_zipfile(io.BytesIO(result.content))
        files = result.files()
        mask_names = [f"mask_{index:03}.png" for index in range(3)]
        assert list(files)[:3] == mask_names
        for name, mask in zip(mask_names, masks, strict=True):
            assert np.array_equal(pixels(files.pop(name)), np.where(mask, 255, 0))
    elif output.wants_annotations:
        assert result.media_type == "application/json"
        files = {"annotations.json": result.content}
    elif output.mask_only:
        assert result.media_type == "image/png"
        assert np.array_equal(result.pixels(), np.where(np.any(masks, axis=0), 255, 0))
        files = {}
    else:
        assert result.media_type == MEDIA_TYPES[output.output_format]
        kind = "cutout" if output.apply_mask else "overlay"
        files = {f"{kind}.{output.output_format}": result.content}

    if output.return_zip and output.wants_silhouette:
        picture = pixels(files.pop("overlay.png"))
        assert np.array_equal(picture, np.where(np.any(masks, axis=0), 255, 0))
    if output.wants_overlay:
        check_overlay(files.pop(f"overlay.{output.output_format}"), masks, output)
    if output.apply_mask:
        check_cutout(files.pop(f"cutout.{output.output_format}"), masks, output)
    if output.wants_annotations:
        check_annotations(files.pop("annotations.json"), masks, output)
    assert not files, "something nobody asked for"


def check_overlay(content: bytes, masks: list[NDArray[np.bool_]], output: Output) -> None:
    inside, original = np.any(masks, axis=0), np.asarray(SCENE)
    wanted = original.copy()
    wanted[inside] = np.floor((original[inside] + np.array([0.0, 255.0, 0.0])) / 2)
    with Pillow.open(io.BytesIO(content)) as picture:
        assert picture.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[output.output_format]
        drawn = np.asarray(picture)
    if output.show_labels:
        assert (drawn != wanted).any()
    elif output.output_format == "png":
        assert np.array_equal(drawn, wanted)
    else:
        assert np.abs(drawn.astype(int) - wanted).mean() < 8


def check_cutout(content: bytes, masks: list[NDArray[np.bool_]], output: Output) -> None:
    inside, original = np.any(masks, axis=0), np.asarray(SCENE)
    drawn = pixels(content)
    if output.output_format == "jpg":
        assert drawn.shape == original.shape
        assert inside.all() or drawn[~inside].mean() > 240
    else:
        assert np.array_equal(drawn[..., 3], np.where(inside, 255, 0))
        assert np.array_equal(drawn[inside, :3], original[inside])


def check_annotations(content: bytes, masks: list[NDArray[np.bool_]], output: Output) -> None:
    document = json.loads(content)
    VALIDATOR.validate(document)
    if output.annotation_format == "coco":
        listed = [(item["segmentation"], item) for item in document["annotations"]]
    elif output.annotation_format == "rle":
        listed = [(item["rle"], item) for item in document["instances"]]
    else:
        listed = [(None, item) for item in document["instances"]]
    scores = [item["score"] for _, item in listed]
    assert scores == sorted(scores, reverse=True)
    for (runs, item), mask in zip(listed, masks, strict=True):
        assert item["concept"] == "red circle"
        assert item["area"] == mask.sum()
        if runs is not None:
            assert np.array_equal(coco_masks.decode(runs), mask)


@pytest.mark.parametrize("annotation_format", formats.FORMATS)
def test_every_format_comes_alone_and_among_the_masks(
    server: CogServer, annotation_format: str
) -> None:
    known = formats.FORMATS[annotation_format]
    inputs = {**REQUEST, "annotation_format": annotation_format}
    alone = server.predict(**inputs, return_zip=False)
    zipped = server.predict(**inputs).files()
    added = {name: data for name, data in zipped.items() if not name.startswith("mask_")}
    assert known.file_name in added
    assert all(added.values())
    if known.extra:
        assert alone.media_type == "application/zip"
        assert alone.files() == added
    else:
        assert added == {known.file_name: alone.content}


@pytest.mark.parametrize("inputs", REFUSED[::13], ids=name_of)
def test_what_makes_no_sense_is_refused_and_the_server_goes_on(
    server: CogServer, inputs: dict[str, Any]
) -> None:
    refused = server.predict(**REQUEST, **inputs)
    assert refused.status == "failed"
    assert "return_zip" in refused.error or "set one of them to false" in refused.error
    assert len(refused.error.splitlines()) == 1
    assert server.predict(**REQUEST).status == "succeeded"


@pytest.mark.parametrize("annotation_format", ["coco", "rle", "polygon"])
def test_candidates_of_a_picked_object_are_told_apart(
    server: CogServer, annotation_format: str
) -> None:
    result = server.predict(
        image=REQUEST["image"],
        task="visual",
        points=json.dumps([[SCENE.width // 6, SCENE.height // 2]]),
        multimask_output=True,
        return_zip=False,
        annotation_format=annotation_format,
    )
    assert result.status == "succeeded", result.error
    document = json.loads(result.content)
    VALIDATOR.validate(document)
    listed = document["annotations" if annotation_format == "coco" else "instances"]
    assert sorted(item["candidate"] for item in listed) == [0, 1, 2]
    assert {item["concept"] for item in listed} == {"object"}


@pytest.mark.parametrize("color", ["red", "magenta", "distinct"])
@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_color_and_opacity(
    server: CogServer, masks: list[NDArray[np.bool_]], color: str, opacity: float
) -> None:
    picture = server.predict(
        **REQUEST, return_zip=False, mask_color=color, mask_opacity=opacity
    ).pixels()
    inside, original = np.any(masks, axis=0), np.asarray(SCENE)
    assert np.array_equal(picture[~inside], original[~inside])
    if opacity == 0:
        assert np.array_equal(picture, original)
    elif color != "distinct":
        assert len(np.unique(picture[inside], axis=0)) == 1
    else:
        assert 1 <= len(np.unique(picture[inside], axis=0)) <= 3
