"""Full size on a device: the model alone, throughput, whole predictions, setup, memory.

Meant for a GPU (CUDA events, allocator statistics); runs on a CPU too, where only the clock is
read, so that the code can be tried with the demo checkpoint anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import pictures, plain
from benchmarks.measure import Spread, timed
from benchmarks.table import Row
from benchmarks.whole import CONCEPTS, Setup, quiet
from sam3_image.decode import Limits, open_image
from sam3_image.model import Everything, Find, ModelInput
from sam3_image.model.everything import TURN_POINTS
from sam3_image.model.picker import targets_in_pass
from sam3_image.request import Request
from sam3_image.serving import Service

SECTION = "Model and predictions on the device (random weights unless said otherwise)"
WARM_UP, ROUNDS = 3, 20
REQUEST_SIZES = (1, 4, 16)
BATCHES = (1, 2, 4, 8)  # pictures in one pass of the encoder
POINTS = 32  # along each side, for everything
MIXED = 100
PREDICTIONS = (((768, 1024), 5), ((3000, 4000), 20))


def rows(setup: Setup, scratch: Path, rounds: int = ROUNDS) -> list[Row]:
    """Every device measurement; `rounds` is for each."""
    found: list[Row] = []
    seconds: list[float] = []
    holder: list[Service] = []
    seconds.append(timed(lambda: holder.append(setup.service()), setup.device))
    service = holder[0]
    found.append(_row("setup: load, move, and on a GPU warm up", None, seconds))
    theirs = setup.plain()
    found += _model_alone(setup, service, theirs, rounds)
    found += _throughput(setup, service, rounds)
    found += _batches(setup, service, rounds)
    found += _everything(service, rounds)
    found += _predictions(setup, service, theirs, scratch, rounds)
    del theirs
    found += _memory(setup, service, scratch)
    return found


def _row(case: str, plain: list[float] | None, ours: list[float], unit: str = "s") -> Row:
    theirs = Spread(tuple(plain)) if plain else None
    return Row(SECTION, case, theirs, Spread(tuple(ours)), unit)


def event_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds on the device, between two CUDA events around the call."""
    if device.type != "cuda":
        return timed(work, device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1000


def _fresh(pixels: np.ndarray, number: int) -> np.ndarray:
    """Another picture for the cache, the same work for the model."""
    changed = pixels.copy()
    changed[0, 0] = (number % 256, number // 256 % 256, 77)
    return changed


def _model_alone(setup: Setup, service: Service, theirs: plain.Plain, rounds: int) -> list[Row]:
    """Upload, encoder, text and heads at batch 1, for an image of the encoder's own size.

    Both start from what their preprocessing gave, on the host, and end with the model's outputs,
    on the device.
    """
    segmenter = service._segmenter
    side = segmenter.side(100)
    pixels = pictures.photo(side, side)
    request = Find((CONCEPTS[0],), setup.threshold)
    squares = [segmenter.prepare(_fresh(pixels, turn), side) for turn in range(WARM_UP + rounds)]

    @torch.inference_mode()
    def ours(square: ModelInput) -> None:
        (features,) = segmenter.encode_all([square])
        segmenter._texts.cache.clear()
        segmenter._heads[Find]._forward(features, request.concepts, request)

    inputs = plain.preprocess(theirs.processor, Image.fromarray(pixels), text=CONCEPTS[0])
    both: dict[str, list[float]] = {"plain": [], "ours": []}
    for turn, square in enumerate(squares):
        one = event_seconds(partial(plain.infer, theirs, inputs), setup.device)
        other = event_seconds(partial(ours, square), setup.device)
        if turn >= WARM_UP:
            both["plain"].append(one)
            both["ours"].append(other)
    return [_row(f"model alone, batch 1, {side}², 1 concept", both["plain"], both["ours"])]


def _throughput(setup: Setup, service: Service, rounds: int) -> list[Row]:
    segmenter = service._segmenter
    side = segmenter.side(100)
    pixels = pictures.photo(side, side, seed=1)
    found = []
    for count in REQUEST_SIZES:
        request = Find(tuple(CONCEPTS[:count]), setup.threshold)

        def once(number: int, request: Find = request) -> None:
            segmenter.segment(
                segmenter.encode(segmenter.prepare(_fresh(pixels, number), side)), request
            )

        rates = []
        for number in range(WARM_UP + rounds):
            seconds = timed(partial(once, number), setup.device)
            if number >= WARM_UP:
                rates.append(count / seconds)
        found.append(_row(f"picture·concepts a second, {count} in a request", None, rates, "/s"))
    return found


def _batches(setup: Setup, service: Service, rounds: int) -> list[Row]:
    """Find out whether several images in one pass of the encoder are faster than one by one."""
    segmenter = service._segmenter
    side = segmenter.side(100)
    pixels = pictures.photo(side, side, seed=2)
    squares = [segmenter.prepare(_fresh(pixels, number), side) for number in range(max(BATCHES))]
    rates: dict[int, list[float]] = {count: [] for count in BATCHES}
    for turn in range(WARM_UP + rounds):
        for count in BATCHES:  # in turns: whatever else slows the device slows all of them
            work = partial(segmenter.encode_all, squares[:count])
            seconds = timed(work, setup.device)
            if turn >= WARM_UP:
                rates[count].append(count / seconds)
    return [
        _row(f"pictures a second through the encoder, {count} in a pass", None, own, "/s")
        for count, own in rates.items()
    ]


def _predictions(
    setup: Setup, service: Service, theirs: plain.Plain, scratch: Path, rounds: int
) -> list[Row]:
    """File to ZIP, with a threshold that leaves a given number of instances."""
    found = []
    for size, count in PREDICTIONS:
        photos = [
            pictures.save_photo(scratch / f"device-{size[1]}-{seed}.jpg", size, seed)
            for seed in range(max(2, rounds // 4))
        ]
        both: dict[str, list[float]] = {"plain": [], "ours": []}
        for number, photo in enumerate(photos):
            threshold = _threshold_for(service, photo, count)
            service._segmenter.forget()
            request = Request.from_inputs(
                prompt=CONCEPTS[0], threshold=threshold, max_instances=count
            )
            with quiet():
                ours = timed(partial(service.run, photo, request), setup.device)
            target = scratch / "plain.zip"
            one = timed(
                partial(plain.predict, theirs, photo, target, CONCEPTS[0], threshold), setup.device
            )
            if number:  # the first pays for memory and kernels
                both["plain"].append(one)
                both["ours"].append(ours)
        name = f"predict(), {size[1]}×{size[0]}, {count} instances, ZIP"
        found.append(_row(name, both["plain"], both["ours"]))
    return found


def _threshold_for(service: Service, photo: Path, count: int) -> float:
    """Return a threshold between the scores of two instances, so that `count` are above it."""
    segmenter = service._segmenter
    features = segmenter.encode(
        segmenter.prepare(open_image(photo, Limits()).pixels, segmenter.side(100))
    )
    scores = segmenter.segment(features, Find((CONCEPTS[0],), 0.0)).scores
    if len(scores) <= count:
        return 0.0
    return float((scores[count - 1] + scores[count]) / 2)


def _memory(setup: Setup, service: Service, scratch: Path) -> list[Row]:
    """Device memory after many predictions of all kinds, one after the other."""
    if setup.device.type != "cuda":
        return []
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(setup.device)
    mixed(setup, service, scratch, MIXED)
    kinds = {
        "reserved after": torch.cuda.memory_reserved(setup.device),
        "most in use during": torch.cuda.max_memory_allocated(setup.device),
    }
    return [
        _row(f"memory {kind} {MIXED} mixed predictions", None, [size / 1e6], "MB")
        for kind, size in kinds.items()
    ]


def mixed(setup: Setup, service: Service, scratch: Path, count: int) -> None:
    """`count` predictions of several kinds and sizes in turn."""
    photos = [
        pictures.save_photo(scratch / f"mixed-{number}.jpg", size, number)
        for number, size in enumerate([(768, 1024), (3000, 4000), (300, 500), (4096, 4096)])
    ]
    box = "[[10, 10, 200, 200]]"
    asked: list[dict[str, Any]] = [
        {"prompt": CONCEPTS[0], "threshold": setup.threshold},
        {"prompts": list(CONCEPTS), "threshold": setup.threshold},
        {"prompt": CONCEPTS[1], "boxes": box, "threshold": setup.threshold},
        {"task": "visual", "boxes": box},
        {"prompt": CONCEPTS[2], "input_size_percent": 50, "threshold": setup.threshold},
    ]
    for number in range(count):
        photo, inputs = photos[number % len(photos)], asked[number % len(asked)]
        request = Request.from_inputs(**inputs, save_overlay=number % 3 == 0)
        with quiet():
            service.run(photo, request)


def _everything(service: Service, rounds: int) -> list[Row]:
    """Time the grid of points of `task=everything` on an image that is encoded."""
    segmenter = service._segmenter
    placement = segmenter.placement
    side = segmenter.side(100)
    features = segmenter.encode(segmenter.prepare(pictures.photo(side, side, seed=3), side))
    # Turns of a request hold whole passes, but for a device that takes more points at a time.
    points = min(targets_in_pass(features, placement), TURN_POINTS)
    passes = POINTS**2 // TURN_POINTS * -(-TURN_POINTS // points)
    seconds = []
    for number in range(WARM_UP + max(1, rounds // 4)):
        one = timed(partial(segmenter.segment, features, Everything(POINTS)), placement.device)
        if number >= WARM_UP:
            seconds.append(one)
    name = f"everything, {POINTS}×{POINTS} points, image encoded"
    each = [one / passes for one in seconds]
    return [
        _row(name, None, seconds),
        _row(f"everything, one of {passes} passes of {points} points", None, each),
    ]
