"""Peak memory of a process that finds, or finds and picks: `python -m benchmarks.tasks …`."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import plain
from benchmarks.measure import peak_bytes
from sam3_image.model import Checkpoint, Find, Pick, Placement, Segmenter, Target


def main(what: str, folder: str) -> None:
    """Print a JSON line with the bytes at the peak. what: "plain", "find" or "both"."""
    pixels = np.random.default_rng(0).integers(0, 255, (768, 1024, 3), dtype=np.uint8)
    if what == "plain":
        _plain(folder, pixels)
    else:
        _ours(folder, pixels, pick=what == "both")
    print(json.dumps({"peak": peak_bytes()}))


def _plain(folder: str, pixels: NDArray[np.uint8]) -> None:
    theirs = plain.load(folder)
    with tempfile.TemporaryDirectory() as scratch:
        photo = Path(scratch) / "photo.png"
        Image.fromarray(pixels).save(photo)
        plain.predict(theirs, photo, Path(scratch) / "masks.zip", "red circle", threshold=1.0)


def _ours(folder: str, pixels: NDArray[np.uint8], pick: bool) -> None:
    checkpoint = Checkpoint.open(Path(folder))
    if not pick:  # without the other half, as if it were not in the file
        checkpoint = replace(checkpoint, config=checkpoint.config.detector_config)
    segmenter = Segmenter(checkpoint, Placement(torch.device("cpu"), torch.float32))
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    segmenter.segment(features, Find(("red circle",), 1.0))
    if pick:
        segmenter.segment(features, Pick((Target(box=(100, 100, 500, 500)),), False))


if __name__ == "__main__":
    main(*sys.argv[1:])
