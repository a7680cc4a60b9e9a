"""How far answers in another dtype are from float32's, on drawn questions to the demo checkpoint.

`python -m benchmarks.agreement bfloat16 int8 [--questions 300]` prints a line for each dtype.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_image.masks import Detections
from sam3_image.model import Checkpoint, Find, Pick, Placement, Segmenter, Target
from sam3_image.settings import Settings
from sam3_image.shipped import DEMO
from tools.demo_checkpoint.drawing import draw
from tools.demo_checkpoint.measure import deepest_point
from tools.demo_checkpoint.prompts import PromptMix, sample_prompt
from tools.demo_checkpoint.scenes import label_map, random_scene

THRESHOLD = 0.5
ASKED_OF_A_SCENE = 3  # two searches and a click
# An instance is the same one in both answers if its masks overlap by that much.
SAME_IOU = 0.5
SEED = 20


@dataclass(frozen=True)
class Agreement:
    """questions: asked. same: answered with the same instances. ious: of masks of the same one."""

    questions: int
    same: int
    ious: NDArray[np.float64]

    def __str__(self) -> str:
        return (
            f"same instances in {self.same} of {self.questions} questions "
            f"({self.same / self.questions:.1%}); {len(self.ious)} masks, mean IoU "
            f"{self.ious.mean():.4f}, least {self.ious.min():.3f}"
        )


def questions(count: int, seed: int = SEED) -> Iterator[tuple[NDArray[np.uint8], Find | Pick]]:
    """Give pictures of scenes (H, W, 3) uint8, each with one question about it."""
    mix = PromptMix()
    for number in range(-(-count // ASKED_OF_A_SCENE)):
        scene = random_scene((seed, number))
        rng = np.random.default_rng((seed, number, 1))
        pixels = np.asarray(draw(scene).convert("RGB"))
        labels = label_map(scene, scene.width, scene.height)
        kinds = [(item.shape, item.colour, item.texture) for item in scene.items]
        for asked in range(min(ASKED_OF_A_SCENE, count - number * ASKED_OF_A_SCENE)):
            shown = [index + 1 for index in range(len(kinds)) if (labels == index + 1).any()]
            if asked == ASKED_OF_A_SCENE - 1 and shown:
                point = deepest_point(labels == rng.choice(shown))
                yield pixels, Pick((Target((point,), (1,)),), False)
                continue
            prompt = sample_prompt(kinds, mix, rng)
            usable = [(index, on) for index, on in prompt.boxes if index + 1 in shown]
            boxes = tuple(_box(labels == index + 1) for index, _ in usable)
            signs = tuple(int(on) for _, on in usable)
            yield pixels, Find((prompt.text,), THRESHOLD, boxes, signs)


def compare(one: Segmenter, other: Segmenter, count: int) -> Agreement:
    """Ask both the same questions."""
    same, ious = 0, []
    for pixels, question in questions(count):
        answers = [
            model.segment(model.encode(model.prepare(pixels, model.side(100))), question)
            for model in (one, other)
        ]
        overlaps = _overlaps(*answers)
        same += len(answers[0]) == len(answers[1]) == len(overlaps)
        ious += overlaps
    return Agreement(count, same, np.array(ious))


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return (
        float(columns.min()),
        float(rows.min()),
        float(columns.max() + 1),
        float(rows.max() + 1),
    )


def _overlaps(first: Detections, second: Detections) -> list[float]:
    """IoU of each instance with the one that is the same in the other answer, if there is one."""
    left = list(second.masks())
    found = []
    for mask in first.masks():
        ious = [mask.iou(other) for other in left]
        if ious and max(ious) >= SAME_IOU:
            found.append(max(ious))
            left.pop(int(np.argmax(ious)))
        elif not mask.area and any(not other.area for other in left):
            left.pop(next(index for index, other in enumerate(left) if not other.area))
            found.append(1.0)
    return found


def main() -> None:
    """Compare the dtypes that the command line names with float32, on this machine's CPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("dtypes", nargs="+", help="values of SAM3_DTYPE")
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args()
    checkpoint = Checkpoint.open(DEMO)
    for name in options.dtypes:
        exact, lower = (Segmenter(checkpoint, _placement(dtype)) for dtype in ("float32", name))
        print(f"{name}: {compare(exact, lower, options.questions)}", flush=True)


def _placement(dtype: str) -> Placement:
    return Placement.of(
        Settings.from_environment({**os.environ, "SAM3_DEVICE": "cpu", "SAM3_DTYPE": dtype})
    )


if __name__ == "__main__":
    main()
