"""Drawn pictures with what Cog's /predictions answers about them, for the routes of clients."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers.cog_server import CogServer, png
from tests.helpers.second_scenes import Drawn, random_picture
from tests.helpers.web_server import WebServer

COUNT = 20
SMALLEST = 256  # pixels a side
ABSENT = "green hexagon"  # asked for everywhere, and mostly not there


@dataclass(frozen=True)
class Scene:
    """One picture.

    image: a PNG. names: concepts to ask for. found: for each of them its instances as /predictions
    has them with annotation_format=rle, best first. result: the ZIP for the first name with
    apply_mask, so with `cutout.png` beside the masks.
    """

    image: bytes
    size: tuple[int, int]
    names: tuple[str, ...]
    found: tuple[list[dict[str, Any]], ...]
    result: bytes

    def mask(self, prompt: int, index: int) -> np.ndarray:
        """One of the masks found, (height, width) bool."""
        return decoded(self.found[prompt][index]["rle"])

    def files(self) -> dict[str, bytes]:
        """What is in `result`, by name."""
        with zipfile.ZipFile(io.BytesIO(self.result)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def mask_files(self) -> dict[str, bytes]:
        """The masks in it."""
        files = self.files().items()
        return {name: content for name, content in files if name.startswith("mask_")}


def decoded(rle: dict[str, Any]) -> np.ndarray:
    """COCO's run lengths → (height, width) bool."""
    return coco_masks.decode(rle).astype(bool)


def picked(web: WebServer, image: bytes, **inputs: Any) -> np.ndarray:
    """The best mask of task=visual with these inputs, from the page's route."""
    picture = web.http.post("/api/pictures", content=image).json()["id"]
    asked = {"picture": picture, "inputs": {"task": "visual", **inputs}}
    answer = web.http.post("/api/segment", json=asked)
    assert answer.status_code == 200, answer.text
    return decoded(answer.json()["annotations"]["instances"][0]["rle"])


def make(server: CogServer) -> list[Scene]:
    """`COUNT` scenes, asked of Cog's own server; none too small for Prodia's limits."""
    drawn = (random_picture(seed=seed) for seed in itertools.count())
    large = (pair for pair in drawn if min(pair[0].size) >= SMALLEST)
    return [_scene(server, *pair) for pair in itertools.islice(large, COUNT)]


def _scene(server: CogServer, picture: Image.Image, objects: list[Drawn]) -> Scene:
    names = tuple(dict.fromkeys([*(drawn.name for drawn in objects[:3]), ABSENT]))
    image = png(picture)
    document = _asked(server, image, prompts=list(names), annotation_format="rle", return_zip=False)
    instances = json.loads(document)["instances"]
    return Scene(
        image=image,
        size=(picture.height, picture.width),
        names=names,
        found=tuple(
            [instance for instance in instances if instance["prompt"] == index]
            for index in range(len(names))
        ),
        result=_asked(server, image, prompt=names[0], apply_mask=True),
    )


def _asked(server: CogServer, image: bytes, **inputs: Any) -> bytes:
    result = server.predict(image=image, **inputs)
    assert result.status == "succeeded", result.error
    return result.content
