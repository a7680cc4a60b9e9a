"""The Python API: its page runs, it gives what the server gives, and importing it costs nothing."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

import sam3_image
from tests.helpers.cog_server import REPOSITORY, CogServer, png
from tests.helpers.second_scenes import random_picture

SHAPES = REPOSITORY / "examples" / "shapes.png"
SCENES = [seed for seed in range(24) if random_picture(seed)[1]][:20]  # one is empty


@pytest.fixture(scope="module")
def sam(weights: Path) -> sam3_image.Sam:
    return sam3_image.load(weights, device="cpu")


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, sam3_image; print(*{'torch', 'numpy', 'cv2', 'PIL'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("seed", SCENES)
def test_find_and_pick_give_what_the_server_gives(
    server: CogServer, sam: sam3_image.Sam, seed: int
) -> None:
    image, objects = random_picture(seed)
    content = png(np.asarray(image))
    name = objects[0].name
    found = sam.find(image, [name, "star"], threshold=0.2)
    over_http = server.predict(image=content, prompts=[name, "star"], threshold=0.2).masks()
    assert len(found) == len(over_http)
    for ours, theirs in zip(found.masks(), over_http, strict=True):
        assert np.array_equal(ours, theirs > 0)
    box = [float(value) for value in objects[-1].box]
    picked = sam.pick(image, boxes=[box])
    (theirs,) = server.predict(image=content, task="visual", boxes=str([box])).masks()
    assert np.array_equal(picked.masks()[0], theirs > 0)


def test_a_path_a_pillow_image_and_an_array_are_one_picture(sam: sam3_image.Sam) -> None:
    with Image.open(SHAPES) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        answers = [sam.find(image, "star") for image in (SHAPES, str(SHAPES), picture, pixels)]
    assert len(answers[0])
    for answer in answers:
        assert np.array_equal(answer.masks(), answers[0].masks())
    assert [answer.metrics["encoder_cached"] for answer in answers[1:]] == [1, 1, 1]


def test_a_pillow_image_is_turned_as_its_exif_says(sam: sam3_image.Sam) -> None:
    with Image.open(SHAPES) as picture:
        upright = picture.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    with Image.open(buffer) as turned:
        found = sam.find(turned, "star")
    assert found.size == (upright.height, upright.width)
    assert np.array_equal(found.image.pixels, np.asarray(upright))


def test_results_agree_with_each_other(sam: sam3_image.Sam, tmp_path: Path) -> None:
    found = sam.find(SHAPES, ["red circle", "star"])
    masks = found.masks()
    assert masks.shape == (len(found), *found.size)
    coco = found.to_coco()
    for mask, annotation in zip(masks, coco["annotations"], strict=True):
        assert np.array_equal(coco_masks.decode(annotation["segmentation"]), mask)
    detections = found.to_supervision()
    assert np.array_equal(detections.mask, masks)
    assert np.array_equal(detections.confidence, found.scores)
    assert list(detections.data["class_name"]) == list(found.concepts)
    changed = (found.overlay(mask_opacity=1.0) != found.image.pixels).any(axis=-1)
    assert not changed[~masks.any(axis=0)].any()
    saved = found.save(tmp_path / "new.png", return_zip=False, mask_only=True)
    assert np.array_equal(np.asarray(Image.open(saved)) > 0, masks.any(axis=0))


def test_nothing_found_is_an_answer(sam: sam3_image.Sam, tmp_path: Path) -> None:
    none = sam.find(SHAPES, "red circle", threshold=1.0)
    assert len(none) == 0
    assert none.masks().shape == (0, *none.size)
    assert len(none.to_supervision()) == 0
    assert none.to_coco()["annotations"] == []
    assert none.save(tmp_path / "masks.zip").is_file()


def test_threads_share_one_model(sam: sam3_image.Sam) -> None:
    words = ["red circle", "star", "blue square", "ring"] * 4
    alone = {word: sam.find(SHAPES, word).masks() for word in set(words)}
    with ThreadPoolExecutor(8) as pool:
        for word, found in zip(words, pool.map(lambda w: sam.find(SHAPES, w), words), strict=True):
            assert np.array_equal(found.masks(), alone[word])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda sam: sam.find(SHAPES), ["nothing to look for"]),
        (lambda sam: sam.find(SHAPES, " "), ["blank"]),
        (lambda sam: sam.find(SHAPES, "star", points=[[1, 2]]), ["task='visual'"]),
        (lambda sam: sam.find(SHAPES, "star", task="concept"), ["task"]),
        (lambda sam: sam.find(SHAPES, "star", treshold=0.1), ["treshold", "threshold"]),
        (lambda sam: sam.pick(SHAPES), ["points, boxes, or both"]),
        (lambda sam: sam.pick(SHAPES, points=[[1, 2]], threshold=0.5), ["threshold"]),
        (lambda sam: sam.find("missing.png", "star"), ["missing.png"]),
        (lambda sam: sam.find(7, "star"), ["image is 7"]),
        (lambda sam: sam.find(np.zeros((4, 4)), "star"), ["float64", "(height, width, 3)"]),
        (lambda sam: sam3_image.load("no/such folder"), ["no/such folder"]),
        (lambda sam: sam3_image.load(REPOSITORY / "weights" / "demo", device="tpu"), ["tpu"]),
    ],
)
def test_errors_are_the_projects_own_in_one_line(
    sam: sam3_image.Sam, call: Any, words: list[str]
) -> None:
    with pytest.raises(sam3_image.UserError) as caught:
        call(sam)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_saving_where_nothing_can_be_written_is_one_line(
    sam: sam3_image.Sam, tmp_path: Path
) -> None:
    found = sam.find(SHAPES, "star")
    with pytest.raises(sam3_image.OutputError, match="no such"):
        found.save(tmp_path / "no such" / "masks.zip")
