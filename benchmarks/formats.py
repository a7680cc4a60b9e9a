"""`python -m benchmarks.formats`: each annotation format of 200 instances at 4000 × 3000 pixels.

Seconds are of the processor, the best of several; the formats take turns, so that what else the
machine does meets all of them. Memory is the peak of what was allocated for one file.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

from sam3_image.decode import Image
from sam3_image.masks import Detections, LowResMasks
from sam3_image.output import FORMATS, Output, render

SIZE, COUNT, CELLS = (3000, 4000), 200, 288
ROUNDS = 10


def main() -> None:
    """Print a row for each format."""
    found = instances()
    image = Image(np.broadcast_to(np.uint8(0), (*SIZE, 3)), "PNG")
    outputs = {name: Output(return_zip=False, annotation_format=name) for name in FORMATS}
    seconds = dict.fromkeys(outputs, np.inf)
    for _ in range(ROUNDS):
        for name, output in outputs.items():
            start = time.process_time()
            render(image, found, output)
            seconds[name] = min(seconds[name], time.process_time() - start)
    print("| format | seconds | × rle | MB of memory | MB of file |\n|---|---|---|---|---|")
    for name, output in outputs.items():
        tracemalloc.start()
        size = len(render(image, found, output).data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(
            f"| {name} | {seconds[name]:.3f} | {seconds[name] / seconds['rle']:.2f} "
            f"| {peak / 1e6:.0f} | {size / 1e6:.2f} |"
        )


def instances() -> Detections:
    """Wavy discs; one in four has a hole, one in ten a second part far away."""
    rng = np.random.default_rng(0)
    values: NDArray[np.float32] = np.empty((COUNT, CELLS, CELLS), dtype=np.float32)
    y, x = np.mgrid[:CELLS, :CELLS]
    for index, logits in enumerate(values):
        middle = rng.uniform(10, CELLS - 10, 2)
        radius, turn = rng.uniform(4, 16), rng.uniform(0, 6)
        down, right = y - middle[0], x - middle[1]
        distance = np.hypot(down, right * 0.8)
        wave = 1 + 0.2 * np.sin(5 * np.arctan2(down, right) + turn)
        logits[:] = radius * wave - distance
        if index % 4 == 0:
            logits[distance < radius / 3] = -2
        if index % 10 == 0:
            logits[:3, :3] = 2
    return Detections.of(
        source=LowResMasks.of_logits(values, 0.5, SIZE),
        size=SIZE,
        boxes=np.zeros((COUNT, 4), dtype=np.float32),
        scores=np.linspace(0.9, 0.5, COUNT, dtype=np.float32),
        presence=np.ones(COUNT, dtype=np.float32),
        concept="thing",
        prompt=0,
    )


if __name__ == "__main__":
    main()
