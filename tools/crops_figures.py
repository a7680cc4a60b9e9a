"""The figures of tile_size, refine and reference_image, over Cog's HTTP server; run by hand.

.venv/bin/python -m tools.crops_figures crowds|many|seams|refine|reference FIRST LAST

FIRST and LAST are the seeds of the pictures, which `large_scenes` draws; the demo checkpoint
answers. tests/http/test_crops_http.py holds the same on a few of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers.cog_server import REPOSITORY, CogServer
from tests.helpers.large_scenes import SHAPES, crowd, few, on_seams, reference_pair
from tests.helpers.second_scenes import Drawn, iou
from tests.http.test_prompts_http import central
from tools.crops_measures import Counts, boundary_iou, counted, matched


def masks(server: CogServer, image: Image.Image, **inputs: Any) -> list[np.ndarray]:
    """The masks of one answer, which must be one."""
    result = server.predict(image=image, **inputs)
    assert result.status == "succeeded", result.error
    return [mask > 0 for mask in result.masks()]


def crowds(server: CogServer, seed: int) -> dict[str, Any]:
    """300 shapes of 36 to 84 pixels on 3000×2000, each shape by its word."""
    picture, objects = crowd(seed)
    counts = {}
    for shape in SHAPES:
        truth = [one for one in objects if one.shape == shape]
        counts[shape] = _crowd(server, picture, shape, truth, 4 * 84)
    return counts


def many(server: CogServer, seed: int) -> dict[str, Any]:
    """600 shapes of 36 to 60 pixels, all by one word; needs 5 GB for their masks."""
    picture, objects = crowd(seed, count=600, extents=(36, 60))
    return {"shape": _crowd(server, picture, "shape", objects, 4 * 60)}


def _crowd(
    server: CogServer, picture: Image.Image, prompt: str, truth: list[Drawn], tile_size: int
) -> Counts:
    """As run lengths: hundreds of masks of megapixels are gigabytes."""
    inputs = {"annotation_format": "rle", "return_zip": False, "tile_size": tile_size}
    result = server.predict(image=picture, prompt=prompt, **inputs)
    assert result.status == "succeeded", result.error
    found = [one["rle"] for one in json.loads(result.content)["instances"]]
    wanted = [coco_masks.encode(np.asfortranarray(one.mask, np.uint8)) for one in truth]
    if not found or not wanted:
        return Counts(len(wanted), len(found))
    return matched(np.asarray(coco_masks.iou(wanted, found, [0] * len(found))))


def seams(server: CogServer, seed: int) -> dict[str, Any]:
    """Objects of 5 to 60 % of the side across seams, with tiles and without."""
    picture, objects = on_seams(seed)
    counts = {"tiles": Counts(), "plain": Counts()}
    for name in dict.fromkeys(one.name for one in objects):
        truth = [one.mask for one in objects if one.name == name]
        counts["tiles"] += counted(masks(server, picture, prompt=name, tile_size=384), truth)
        counts["plain"] += counted(masks(server, picture, prompt=name), truth)
    return counts


def refine(server: CogServer, seed: int) -> dict[str, Any]:
    """Five shapes on 1600×1200, by their names and by a click each, before and after."""
    picture, objects = few(seed)
    pairs: dict[str, list[tuple[float, ...]]] = {"concept": [], "visual": []}
    for name in dict.fromkeys(one.name for one in objects):
        answers = [masks(server, picture, prompt=name, refine=on) for on in (False, True)]
        _compare(pairs["concept"], answers, [one.mask for one in objects if one.name == name])
    for one in objects:
        asked = {"task": "visual", "points": json.dumps([central(one.mask)])}
        answers = [masks(server, picture, **asked, refine=on) for on in (False, True)]
        _compare(pairs["visual"], answers, [one.mask])
    return {kind: values for kind, values in pairs.items()}


def reference(server: CogServer, seed: int) -> dict[str, Any]:
    """An object of one picture found in another; every third one has nothing like it."""
    present = seed % 3 != 0
    first, wanted, second, objects = reference_pair(seed, present)
    kind = (wanted.shape, wanted.colour, wanted.texture)
    truth = [one.mask for one in objects if (one.shape, one.colour, one.texture) == kind]
    boxes = json.dumps([wanted.box])
    found = masks(server, second, reference_image=first, reference_boxes=boxes)
    return {"present" if present else "absent": counted(found, truth)}


def _compare(
    pairs: list[tuple[float, ...]], answers: list[list[np.ndarray]], truth: list[np.ndarray]
) -> None:
    """IoU and boundary IoU of each instance before and after; the order is the same."""
    for before, after in zip(*answers, strict=True):
        own = max(truth, key=lambda mask: iou(mask, before))
        if iou(own, before) >= 0.5:
            both = [f(mask, own) for mask in (before, after) for f in (iou, boundary_iou)]
            pairs.append(tuple(both))


KINDS: dict[str, Callable[[CogServer, int], dict[str, Any]]] = {
    "crowds": crowds,
    "many": many,
    "seams": seams,
    "refine": refine,
    "reference": reference,
}


def main(kind: str, first: int, last: int) -> None:
    """Print one line for each part of the figures, over all pictures so far."""
    counts: dict[str, Counts] = defaultdict(Counts)
    pairs: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    weights = {"SAM3_WEIGHTS": str(REPOSITORY / "weights" / "demo")}
    with tempfile.TemporaryDirectory() as folder, CogServer(Path(folder), weights) as server:
        server.ready()
        for seed in range(first, last + 1):
            for name, value in KINDS[kind](server, seed).items():
                if isinstance(value, Counts):
                    counts[name] += value
                else:
                    pairs[name] += value
            print(f"seed {seed}")
            for name, value in counts.items():
                print(
                    f"  {name}: F1 {value.f1:.3f}, {value.hits} of {value.truths} found, "
                    f"{value.found - value.hits} too many, of these {value.doubles} doubles, "
                    f"mean IoU {value.mean_iou:.3f}"
                )
            for name, own in pairs.items():
                values = np.array(own)
                before, after = values[:, :2].mean(axis=0), values[:, 2:].mean(axis=0)
                print(
                    f"  {name}: {len(own)} instances, IoU {before[0]:.3f} → {after[0]:.3f}, "
                    f"boundary IoU {before[1]:.3f} → {after[1]:.3f}, "
                    f"worst change {(values[:, 2] - values[:, 0]).min():+.3f}"
                )


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:4]))
