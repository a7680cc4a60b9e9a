"""450 requests beside the drop-in interface's predecessor, redrawn here in the plainest way.

What is known of it: masks of the instances as PNGs in a ZIP; a picture, as the result or beside the
masks, that is the image with the masks tinted or, with mask_only, white on black; tinted values are
image · (1 - opacity) + color · opacity with the fraction cut off.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam3_image
from tests.helpers.cog_server import CogServer, png
from tests.helpers.second_scenes import random_picture

COLORS = {
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
OPACITIES = (0.0, 0.1, 0.29, 0.37, 0.5, 0.63, 0.7, 0.9, 1.0)
SWITCHES = ("return_zip", "save_overlay", "mask_only")
SCENES = 3


def requests() -> list[dict[str, Any]]:
    """All switches, colors and opacities, and some more opacities at random: 450."""
    rng = np.random.default_rng(0)
    asked = [
        {**dict(zip(SWITCHES, switches, strict=True)), "mask_color": c, "mask_opacity": o}
        for switches in itertools.product([True, False], repeat=3)
        for c, o in itertools.product(COLORS, OPACITIES)
    ]
    while len(asked) < 450:
        asked.append({**asked[rng.integers(len(asked))], "mask_opacity": float(rng.random())})
    return asked


def redrawn(image: np.ndarray, masks: np.ndarray, request: dict[str, Any]) -> dict[str, np.ndarray]:
    """The predecessor's files for an image (H, W, 3) and masks (N, H, W)."""
    union = masks.any(axis=0)
    if request["mask_only"]:
        picture = np.where(union, 255, 0).astype(np.uint8)
    else:
        picture = image.copy()
        opacity, color = request["mask_opacity"], np.array(COLORS[request["mask_color"]])
        picture[union] = (image[union] * (1 - opacity) + color * opacity).astype(np.uint8)
    if not request["return_zip"]:
        return {"": picture}
    files = {f"mask_{i:03}.png": mask * np.uint8(255) for i, mask in enumerate(masks)}
    return {**files, "overlay.png": picture} if request["save_overlay"] else files


def opened(content: bytes) -> dict[str, np.ndarray]:
    """The pictures of a result by name; a picture alone has none."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {"": np.asarray(Image.open(io.BytesIO(content)))}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {n: np.asarray(Image.open(archive.open(n))) for n in archive.namelist()}


@pytest.fixture(scope="module")
def found(weights: Path) -> list[sam3_image.Instances]:
    sam = sam3_image.load(weights, device="cpu")
    shapes = ["red circle", "star", "square"]
    return [
        sam.find(np.asarray(random_picture(seed)[0]), shapes[seed], threshold=0.05)
        for seed in range(SCENES)
    ]


def test_450_requests_give_its_pictures_exactly(
    found: list[sam3_image.Instances], tmp_path: Path
) -> None:
    assert max(len(instances) for instances in found) >= 2
    asked = requests()
    assert len(asked) == 450
    for number, request in enumerate(asked):
        instances = found[number % SCENES]
        content = instances.save(tmp_path / "result", **request).read_bytes()
        wanted = redrawn(instances.image.pixels, instances.masks(), request)
        ours = opened(content)
        assert list(ours) == list(wanted), request
        for name, picture in wanted.items():
            assert np.array_equal(ours[name], picture), (request, name)


@pytest.mark.parametrize(
    ("zipped", "overlay", "only"), list(itertools.product([True, False], repeat=3))
)
def test_the_same_over_http(server: CogServer, zipped: bool, overlay: bool, only: bool) -> None:
    image, _ = random_picture(seed=1)
    asked = {"image": png(np.asarray(image)), "prompt": "star", "threshold": 0.05}
    masks = [mask > 0 for mask in server.predict(**asked).masks()]
    request = {
        "return_zip": zipped,
        "save_overlay": overlay,
        "mask_only": only,
        "mask_color": "red",
        "mask_opacity": 0.37,
    }
    ours = opened(server.predict(**asked, **request).content)
    wanted = redrawn(np.asarray(image), np.array(masks), request)
    assert list(ours) == list(wanted)
    for name, picture in wanted.items():
        assert np.array_equal(ours[name], picture), name
