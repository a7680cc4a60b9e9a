"""Measure a checkpoint on unseen scenes: `python -m tools.demo_checkpoint.evaluate weights/demo`.

Everything goes through plain transformers: `from_pretrained`, the processors, their
post-processing at a score threshold of 0.5, masks at the pictures' own sizes; called so that it
answers as Meta's SAM 3 does (`as_meta.py`), which is the default of the whole project.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from tools.demo_checkpoint.as_meta import masked_box
from tools.demo_checkpoint.drawing import draw
from tools.demo_checkpoint.halves import XYXY, Halves, Question
from tools.demo_checkpoint.measure import deepest_point, mask_iou, next_click
from tools.demo_checkpoint.prompts import lookalikes, near_miss, random_concept, random_description
from tools.demo_checkpoint.report import Report, table
from tools.demo_checkpoint.scenes import SceneOptions, label_map, random_scene
from tools.demo_checkpoint.unknown import held_out_words, unknown_text
from tools.demo_checkpoint.vocabulary import VISUAL, Concept

EVALUATION_SEED = 900_001  # never trained on, never tuned on
VALIDATION_SEED = 800_001  # to look at while training
SCENES = SceneOptions(sizes=(0.05, 0.40), small=0.0, pixels=(300, 700))
CORRECTIONS = 3
PART = 50  # scenes that one process takes at a time


class Thing(Protocol):
    """An object of a picture: attributes, visible pixels, and their box."""

    @property
    def shape(self) -> str:
        """One of SHAPES."""

    @property
    def colour(self) -> str:
        """One of COLOURS."""

    @property
    def texture(self) -> str:
        """One of TEXTURES."""

    @property
    def mask(self) -> np.ndarray:
        """Its visible pixels: bool (height, width)."""

    @property
    def box(self) -> XYXY:
        """Around the mask: x0, y0, x1, y1 in pixels, the far edges exclusive."""


@dataclass(frozen=True)
class SceneThing:
    """A `Thing` of our own scenes."""

    shape: str
    colour: str
    texture: str
    mask: np.ndarray

    @property
    def box(self) -> XYXY:
        """Around the mask, in pixels."""
        rows = np.flatnonzero(self.mask.any(axis=1))
        columns = np.flatnonzero(self.mask.any(axis=0))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def scene_pictures(
    seed: int, indices: Iterable[int]
) -> Iterable[tuple[Image.Image, list[SceneThing]]]:
    """Our own scenes (seed, index), drawn at 300 to 700 pixels."""
    for index in indices:
        scene = random_scene((seed, index), SCENES)
        labels = label_map(scene, scene.width, scene.height)
        things = [
            SceneThing(item.shape, item.colour, item.texture, labels == number + 1)
            for number, item in enumerate(scene.items)
        ]
        yield draw(scene), [thing for thing in things if thing.mask.any()]


def evaluate(
    halves: Halves,
    pictures: Iterable[tuple[Image.Image, Sequence[Thing]]],
    *,
    seed: tuple[int, ...] | int = 0,
    concepts: bool = True,
    visual: bool = True,
) -> Report:
    """Ask about every picture; `concepts` and `visual` choose the halves."""
    report = Report()
    for index, (image, things) in enumerate(pictures):
        rng = np.random.default_rng((*np.atleast_1d(seed).tolist(), index))
        if concepts:
            _ask_concepts(report, halves, image, things, rng)
        if visual and things:
            _ask_visual(report, halves, image, things, rng)
    return report


def _ask_concepts(
    report: Report,
    halves: Halves,
    image: Image.Image,
    things: Sequence[Thing],
    rng: np.random.Generator,
) -> None:
    kinds = [(thing.shape, thing.colour, thing.texture) for thing in things]
    present: list[Concept] = []
    if kinds:
        for shape, colour, _ in [kinds[i] for i in rng.permutation(len(kinds))[:2]]:
            present.append(Concept(shape, colour))
        present.append(random_description(kinds[rng.integers(len(kinds))], rng))
    present = list(dict.fromkeys(present))
    absent = near_miss(kinds, rng) if kinds else random_concept(rng)
    questions = [Question(concept.phrase(rng)) for concept in present]
    questions += [Question(absent.phrase(rng)), Question(unknown_text(rng, held_out_words()))]
    if kinds:
        first = int(rng.integers(len(kinds)))
        questions.append(Question(VISUAL, ((things[first].box, True),)))
    found = halves.find(image, questions)
    for concept, masks in zip(present, found, strict=False):
        report.text.add(
            masks,
            [
                thing.mask
                for thing, kind in zip(things, kinds, strict=True)
                if concept.matches(*kind)
            ],
        )
    rest = found[len(present) :]
    if not any(absent.matches(*kind) for kind in kinds):
        report.absent.append(len(rest[0]) > 0)
    report.unknown.append(len(rest[1]) > 0)
    if kinds:
        like = lookalikes(kinds, first)
        report.exemplar.add(rest[2], [things[i].mask for i in sorted(like)])
        _ask_negative(report, halves, image, things, rng)


def _ask_negative(
    report: Report,
    halves: Halves,
    image: Image.Image,
    things: Sequence[Thing],
    rng: np.random.Generator,
) -> None:
    """Return a shape by name, and a negative box on one of its colours where there are several."""
    kinds = [(thing.shape, thing.colour, thing.texture) for thing in things]
    for shape in {kind[0]: None for kind in kinds}:
        group = [i for i, kind in enumerate(kinds) if kind[0] == shape]
        unwanted = lookalikes(kinds, int(rng.choice(group)))
        others = [i for i in group if i not in unwanted]
        if not others:
            continue
        example = things[min(unwanted)].box
        before, after = halves.find(image, [Question(shape), Question(shape, ((example, False),))])
        had = [i for i in sorted(unwanted) if _is_found(things[i].mask, before)]
        if had:  # what the text alone does not find cannot be removed
            report.removed.append(not any(_is_found(things[i].mask, after) for i in had))
        report.kept += [
            _is_found(things[i].mask, after) for i in others if _is_found(things[i].mask, before)
        ]


def _is_found(mask: np.ndarray, found: np.ndarray) -> bool:
    return any(mask_iou(mask, own) >= 0.5 for own in found)


def _ask_visual(
    report: Report,
    halves: Halves,
    image: Image.Image,
    things: Sequence[Thing],
    rng: np.random.Generator,
) -> None:
    chosen = [things[i] for i in rng.permutation(len(things))[:3]]
    boxed = halves.pick(image, None, None, [thing.box for thing in chosen])
    report.box += [mask_iou(m, t.mask) for m, t in zip(boxed, chosen, strict=True)]
    points = [[deepest_point(thing.mask)] for thing in chosen]
    labels = [[1] for _ in chosen]
    masks = halves.pick(image, points, labels, None)
    report.click += [mask_iou(m, t.mask) for m, t in zip(masks, chosen, strict=True)]
    for _ in range(CORRECTIONS):
        for own, label, mask, thing in zip(points, labels, masks, chosen, strict=True):
            point, positive = next_click(mask, thing.mask)
            own.append(point)
            label.append(positive)
        masks = halves.pick(image, points, labels, None)
    report.corrected += [mask_iou(m, t.mask) for m, t in zip(masks, chosen, strict=True)]


def latency(halves: Halves, runs: int = 20) -> float:
    """Median milliseconds of one text question on one picture, model only.

    With one thread and with two, the better of the two: on a busy machine two threads of torch
    wait for each other.
    """
    image = Image.new("RGB", (640, 480), (90, 120, 150))
    inputs = halves.detector_processor(images=image, text="red circle", return_tensors="pt")
    inputs.pop("original_sizes")
    inputs |= masked_box(1)
    for name in ("pixel_values", "input_boxes"):
        inputs[name] = inputs[name].to(halves.detector.dtype)
    before = torch.get_num_threads()
    medians = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times = []
        with torch.inference_mode():
            for _ in range(runs + 3):
                start = time.perf_counter()
                halves.detector(**inputs)
                times.append(1000 * (time.perf_counter() - start))
        medians.append(float(np.median(times[3:])))
    torch.set_num_threads(before)
    return min(medians)


def _evaluate_part(folder: Path, dtype: str, threads: int, seed: int, part: range) -> Report:
    torch.set_num_threads(threads)
    halves = Halves.load(folder, getattr(torch, dtype))
    return evaluate(halves, scene_pictures(seed, part), seed=(seed, part.start))


def in_parts(job: Callable[[range], Report], parts: list[range], processes: int) -> Report:
    """Return one report of what `job` counts in all parts, in so many processes."""
    report = Report()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for own in pool.map(job, parts):
            report.merge(own)
    return report


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint, for example weights/demo")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1, help="of torch, but for the latency")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--validation", action="store_true", help="use the seeds to look at while training"
    )
    options = parser.parse_args()
    seed = VALIDATION_SEED if options.validation else EVALUATION_SEED
    # Parts of fixed length: the questions then do not depend on how many processes ask them.
    parts = [
        range(start, min(start + PART, options.scenes)) for start in range(0, options.scenes, PART)
    ]
    job = partial(_evaluate_part, options.folder, options.dtype, options.threads, seed)
    report = in_parts(job, parts, options.processes)
    halves = Halves.load(options.folder, getattr(torch, options.dtype))
    report.milliseconds = latency(halves)
    print(f"{options.folder}, {options.dtype}, {options.scenes} unseen scenes of seed {seed}\n")
    print(table(report))


if __name__ == "__main__":
    main()
