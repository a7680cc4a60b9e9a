"""Thousands of drawn pictures for `script/batch`, one in a hundred damaged.

python -m tools.batch_pictures FOLDER [--count 2000]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.helpers import image_corpus
from tests.helpers.second_scenes import random_picture

# Of twenty pictures: most as phones send them scaled down, some large, one of 12 megapixels.
SIZES = [(640, 480)] * 13 + [(1280, 960)] * 4 + [(2048, 1536)] * 2 + [(4000, 3000)]
DAMAGED = 100  # one in so many
SCENES = 250  # different ones; drawing takes longer than segmenting


def write(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Draw `count` files into `folder` and below; returns (good, damaged) ones."""
    cases = [case for case in image_corpus.cases() if case.kind in ("truncated", "bomb")]
    # Only those that are refused; of a truncated file the rest may be a picture still.
    refused = [case for case in cases if case.kind == "bomb" or case.suffix in (".png", ".webp")]
    good, damaged = [], []
    scenes: dict[int, object] = {}
    for number in range(count):
        place = folder / f"{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        if number % DAMAGED == DAMAGED // 2:
            case = refused[(number * 31) % len(refused)]
            path = place / f"{number:05}-{case.kind}{case.suffix}"
            path.write_bytes(case.data)
            damaged.append(path)
            continue
        scene = scenes.get(number % SCENES)
        if scene is None:
            scene = scenes[number % SCENES] = random_picture(number % SCENES)[0]
        path = place / f"{number:05}.{('jpg', 'jpg', 'png', 'webp')[number % 4]}"
        size = SIZES[(number * 7) % len(SIZES)]
        if size[0] > 2048 and path.suffix != ".jpg":  # a PNG of 12 megapixels takes seconds to make
            path = path.with_suffix(".jpg")
        scene.resize(size).save(path, quality=80 + number // SCENES)  # type: ignore[attr-defined]
        good.append(path)
    return good, damaged


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    good, damaged = write(options.folder, options.count)
    print(f"{len(good)} pictures and {len(damaged)} damaged files in {options.folder}")


if __name__ == "__main__":
    main()
