"""The figures of everything, mask prompts and several objects in docs/; run by hand.

.venv/bin/python -m tools.everything_figures scenes [FIRST LAST] [--refine]
.venv/bin/python -m tools.everything_figures crowds
.venv/bin/python -m tools.everything_figures empty
.venv/bin/python -m tools.everything_figures beside 640x480|4000x3000 ours|theirs [POINTS [PASS]]
.venv/bin/python -m tools.everything_figures clicks
.venv/bin/python -m tools.everything_figures several
.venv/bin/python -m tools.everything_figures again
.venv/bin/python -m tools.everything_figures full-size FOLDER [SIDE]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

import sam3_image
from sam3_image.masks import Mask
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.large_scenes import crowd
from tests.helpers.peak_memory import status
from tests.helpers.second_scenes import Drawn, arranged, random_picture
from tests.http.test_prompts_http import central

DEMO = REPOSITORY / "weights" / "demo"
HIT = 0.5  # IoU from which an answer shows a drawn object
SIDE = 32  # points along each side
CLICKED, CLICKS = 100, 3


def _load() -> sam3_image.Sam:
    return sam3_image.load(DEMO, device="cpu")


def _ious(mask: Mask, drawn: Sequence[Drawn]) -> NDArray[np.float64]:
    """IoU of a mask with each object."""
    area, found = mask.area, []
    for one in drawn:
        shared = np.count_nonzero(one.mask[mask.window] & mask.inside)
        found.append(shared / (area + one.mask.sum() - shared))
    return np.array(found)


class Score:
    """Counts of answers against drawn objects."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.hits = self.answers = self.drawn = self.doubles = 0
        self.iou = 0.0

    def count(self, masks: Sequence[Mask], drawn: Sequence[Drawn]) -> None:
        """Add the answer to one image, best first."""
        left = set(range(len(drawn)))
        self.drawn += len(drawn)
        for mask in masks:
            self.answers += 1
            ious = _ious(mask, drawn)
            if not len(ious) or ious.max() < HIT:
                continue
            own = int(ious.argmax())
            self.doubles += own not in left
            if own in left:
                left.discard(own)
                self.hits += 1
                self.iou += ious[own]

    def __str__(self) -> str:
        f1 = 2 * self.hits / max(1, self.answers + self.drawn)
        return (
            f"F1 {f1:.4f}: {self.hits} of {self.drawn} objects, {self.answers} answers, "
            f"{self.doubles} doubles, mean IoU {self.iou / max(1, self.hits):.4f}"
        )


def scenes(first: str = "0", last: str = "100", refine: str = "") -> None:
    """F1 and IoU on random images of 2 to 8 objects."""
    sam, score, seconds, seed, done = _load(), Score(), 0.0, int(first), 0
    while done < int(last) - int(first):
        image, drawn = random_picture(seed)
        seed += 1
        if len(drawn) < 2:
            continue
        done += 1
        begin = time.perf_counter()
        found = sam.everything(image, points_per_side=SIDE, refine=bool(refine) or None)
        seconds += time.perf_counter() - begin
        score.count(list(found.iter_masks()), drawn)
    print(f"{done} images, seeds {first} to {seed - 1}: {score}, {seconds / done:.2f} s each")


def crowds() -> None:
    """F1 on crowds with tile_size."""
    sam = _load()
    for count, size, tile_size in ((80, (1600, 1200), 400), (300, (3000, 2000), 500)):
        image, drawn = crowd(1, size, count)
        begin, score = time.perf_counter(), Score()
        found = sam.everything(image, points_per_side=16, tile_size=tile_size)
        seconds = time.perf_counter() - begin
        score.count(list(found.iter_masks()), drawn)
        print(f"{count} on {size}, tile_size {tile_size}, 16×16 points: {score}, {seconds:.0f} s")


def empty() -> None:
    """How many objects are found in images without any."""
    sam = _load()
    found = [len(sam.everything(random_picture(seed, most=0)[0])) for seed in range(20)]
    print(f"20 empty images: {sum(found)} answers")


def beside(size: str, who: str, side: str = "32", points: str = "16") -> None:
    """Time, memory and F1 of ours or of transformers' pipeline, same weights and thresholds.

    side: points along each side. points: decoded in one pass of the pipeline; ours has its own.
    """
    width, height = map(int, size.split("x"))
    image, drawn = arranged(
        ["red circle", "blue square", "green star", "yellow heart"] * 2, (width, height)
    )
    answer: Callable[[], Sequence[Mask]]
    if who == "ours":
        sam = _load()

        def answer() -> Sequence[Mask]:
            sam._model.forget()  # type: ignore[union-attr]
            return list(sam.everything(image, points_per_side=int(side)).iter_masks())
    else:
        answer = _pipeline(image, int(side), int(points))
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    begin, used = time.perf_counter(), time.process_time()
    masks = answer()
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    score = Score()
    score.count(masks, drawn)
    print(
        f"{who}, {size}, {side}×{side} points: {used:.1f} s of one core, {seconds:.1f} s "
        f"by the clock, {(status('VmHWM') - before) / 1e6:.0f} MB, {score}",
        flush=True,
    )


def _pipeline(image: Pillow.Image, side: int, points: int) -> Callable[[], Sequence[Mask]]:
    from transformers import pipeline

    from sam3_image.model import EVERYTHING_THRESHOLD
    from sam3_image.model.everything import STABILITY_OFFSET, STABLE

    generate: Any = pipeline("mask-generation", model=str(DEMO), device="cpu")
    size = image.size[1], image.size[0]

    def answer() -> Sequence[Mask]:
        found = generate(
            image,
            points_per_batch=points,
            points_per_crop=side,
            pred_iou_thresh=EVERYTHING_THRESHOLD,
            stability_score_thresh=STABLE,
            stability_score_offset=STABILITY_OFFSET,
        )
        return [Mask(np.asarray(mask, dtype=bool), 0, 0, size) for mask in found["masks"]]

    return answer


def clicks() -> None:
    """IoU after each of several clicks, with and without the logits of the answer before."""
    sam, done, seed = _load(), 0, 500
    sums = {with_logits: np.zeros(CLICKS) for with_logits in (False, True)}
    while done < CLICKED:
        image, drawn = random_picture(seed)
        seed += 1
        for one in drawn[: CLICKED - done]:
            done += 1
            for with_logits, own in sums.items():
                own += _after_clicks(sam, image, one, with_logits)
    for with_logits, own in sums.items():
        shown = ", ".join(f"{value:.4f}" for value in own / done)
        print(f"{done} objects, {'with' if with_logits else 'without'} logits: IoU {shown}")


def _after_clicks(
    sam: sam3_image.Sam, image: Pillow.Image, one: Drawn, with_logits: bool
) -> NDArray[np.float64]:
    points, labels, ious = [central(one.mask)], [1], []
    previous = None
    for _ in range(CLICKS):
        (previous,) = sam.pick(
            image, points=points, point_labels=labels, mask=previous if with_logits else None
        )
        ious.append(_ious(previous.region, [one])[0])
        missing, surplus = one.mask & ~previous.mask, previous.mask & ~one.mask
        error = missing if missing.sum() >= surplus.sum() else surplus
        if error.any():
            points.append(central(error))
            labels.append(int(error is missing))
    return np.array(ious)


def several() -> None:
    """20 objects in one request against 20 requests, on an image that is encoded."""
    sam = _load()
    names = ["red circle", "blue square", "green star", "yellow heart"] * 3
    image, drawn = arranged(names[:12], (900, 600))
    places = [central(one.mask) for one in drawn]
    points = [[place] for place in (places + places)[:20]]
    sam.pick(image, points=points[0])
    seconds: dict[str, list[float]] = {"one": [], "twenty": []}
    for _ in range(5):
        begin = time.process_time()
        together = sam.pick(image, points=points)
        seconds["one"].append(time.process_time() - begin)
        begin = time.process_time()
        alone = [sam.pick(image, points=own)[0] for own in points]
        seconds["twenty"].append(time.process_time() - begin)
    by_prompt = {one.prompt: one for one in together}
    worst = min(by_prompt[index].region.iou(single.region) for index, single in enumerate(alone))
    one, twenty = (float(np.median(own)) for own in seconds.values())
    print(
        f"CPU: one request {one:.3f} s, 20 requests {twenty:.3f} s: {one / twenty:.2f}; least IoU "
        f"of a mask with its own request's {worst:.6f}"
    )


def again() -> None:
    """The first and the second click on an image of 12 megapixels that is encoded already."""
    sam = _load()
    image = np.asarray(arranged(["red circle", "blue square"], (4000, 3000))[0])
    sam.pick(image, points=[[10, 10]])
    firsts, seconds = [], []
    for turn in range(15):
        begin = time.process_time()
        first = sam.pick(image, points=[[1000 + turn, 1500]])
        middle = time.process_time()
        sam.pick(image, points=[[1000 + turn, 1500], [1050, 1500]], mask=first[0])
        end = time.process_time()
        firsts.append(middle - begin)
        seconds.append(end - middle)
    first_time, second_time = float(np.median(firsts)), float(np.median(seconds))
    print(f"CPU: first click {first_time:.4f} s, second, with its logits, {second_time:.4f} s")


def full_size(keep: str, side: str = "8") -> None:
    """Passes of the mask decoder and their time at full size, with random weights.

    keep: the folder in which the weights are made and kept.
    """
    from benchmarks.full_size import single
    from sam3_image.model import Everything
    from sam3_image.model import everything as module
    from sam3_image.model.picker import targets_in_pass

    model = sam3_image.load(single(Path(keep)), device="cpu", dtype="float32")._model
    assert model is not None
    pixels = np.asarray(random_picture(1)[0])
    begin = time.perf_counter()
    features = model.encode(model.prepare(pixels, model.side(100)))
    encoded = time.perf_counter()
    seconds: list[float] = []
    real = module.decode_points

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        found = real(*arguments)
        seconds.append(time.perf_counter() - start)
        return found

    module.decode_points = timed
    found = model.segment(features, Everything(int(side), 0.0))
    total = time.perf_counter() - encoded
    passes = targets_in_pass(features, model.placement)
    print(
        f"full size, random weights, {model.placement}: encoder {encoded - begin:.1f} s; "
        f"{int(side) ** 2} points in {len(seconds)} passes of {passes}, median "
        f"{np.median(seconds):.3f} s a pass; {total:.1f} s in all, {len(found)} masks, "
        f"peak {status('VmHWM') / 1e6:.0f} MB; 32×32 points are {-(-1024 // passes)} passes"
    )


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "scenes": scenes,
        "crowds": crowds,
        "empty": empty,
        "beside": beside,
        "clicks": clicks,
        "several": several,
        "again": again,
        "full-size": full_size,
    }
    torch.set_num_threads(1)  # the same for both sides; small operations gain nothing by more
    commands[sys.argv[1]](*sys.argv[2:])
