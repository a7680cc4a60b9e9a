"""A folder of images: `script/batch` against as many bare loops at once as it has workers.

python -m benchmarks.bulk loop FOLDER     prints the loop's images per second as JSON
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Spread
from benchmarks.table import Row
from sam3_image.output import available_cores
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings
from tools.demo_checkpoint.drawing import draw
from tools.demo_checkpoint.scenes import random_scene

DEMO = Path(__file__).resolve().parent.parent / "weights" / "demo"
PROMPTS = ("red circle", "star")
IMAGES = 300
SIZE = (640, 480)
SECTION = "A folder of 300 JPEGs of 640×480, demo checkpoint, 2 concepts, to Parquet, CPU"
# In the log of script/batch.
SPEED = r"([\d.,]+) images/s once"
MEMORY = r"largest worker: ([\d,]+) MB"
# One thread a process on both sides: the workers are as many as there are cores.
ENVIRONMENT = {"SAM3_WEIGHTS": str(DEMO), "SAM3_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}


def rows(scratch: Path, rounds: int = 3) -> list[Row]:
    """Images per second once the model is loaded, and the memory of a worker."""
    if not importlib.util.find_spec("pyarrow"):
        return [Row(SECTION, "not run", None, None, note="needs script/setup --batch")]
    folder = scratch / "bulk"
    folder.mkdir()
    for seed in range(IMAGES):
        draw(random_scene(seed), *SIZE).save(folder / f"{seed:03}.jpg", quality=90)
    kinds: dict[str, list[str]] = {"processes": []}
    if importlib.util.find_spec("ray"):
        kinds["a Ray of its own"] = ["--ray"]
    os.environ |= ENVIRONMENT
    loop: list[float] = []
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    memory: dict[str, list[float]] = {kind: [] for kind in kinds}
    workers = available_cores()
    for number in range(rounds):
        loop.append(_loops(folder, workers))
        for kind, options in kinds.items():
            options = [*options, "--workers", str(workers)]
            log = _batch(folder, scratch / f"bulk-{kind}-{number}", options)
            speeds[kind].append(figure(SPEED, log))
            memory[kind].append(figure(MEMORY, log))
    ideal = Spread(tuple(loop))
    found = []
    for kind in kinds:
        case = f"{kind}, {workers} workers, against {workers} loops"
        found.append(Row(SECTION, case, ideal, Spread(tuple(speeds[kind])), "/s"))
        found.append(Row(SECTION, f"{kind}: a worker", None, Spread(tuple(memory[kind])), "MB"))
    return found


def _loops(folder: Path, count: int) -> float:
    """Return the sum of the images per second of several loops at once."""
    with ThreadPoolExecutor(count) as pool:
        call = ("benchmarks.bulk", "loop", str(folder))
        runs = [pool.submit(measure.in_own_process, *call) for _ in range(count)]
        return sum(float(run.result()["rate"]) for run in runs)


def _batch(folder: Path, out: Path, options: list[str]) -> str:
    """Return the log of one job."""
    command = [sys.executable, "-m", "sam3_image.batch", str(folder), "--out", str(out)]
    done = subprocess.run(
        [*command, "--prompts", *PROMPTS, *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"script/batch ended with {done.returncode}:\n{done.stderr}")
    return done.stderr


def figure(pattern: str, log: str) -> float:
    """Return the number that a pattern finds in a log."""
    found = re.search(pattern, log)
    if not found:
        raise RuntimeError(f"the log has no {pattern!r}:\n{log}")
    return float(found[1].replace(",", ""))


def loop(folder: Path) -> float:
    """Images per second of the simplest program: open, segment, encode the masks, the next."""
    service = Service(Settings.from_environment(os.environ), say=lambda _: None)
    request = Request.from_inputs(prompts=list(PROMPTS))
    paths = sorted(folder.iterdir())
    begun = time.perf_counter()
    for path in paths:
        service.segment(service.open(path), request).annotations("rle")
    return len(paths) / (time.perf_counter() - begun)


if __name__ == "__main__":
    print(json.dumps({"rate": loop(Path(sys.argv[2]))}))
