"""`python -m benchmarks.deep_tiff`: a 4000 × 3000 RGB16 TIFF in each layout, beside Pillow alone.

Pillow drops the low byte of each sample, which was also this project's way before it read samples
by itself. Each decodes in a process of its own; seconds are of the processor, the best of several.
Memory is the peak above that of the file.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from sam3_image.decode import Limits, decode
from tests.helpers.peak_memory import status
from tests.helpers.tiff_writer import Layout, write

SIZE = (3000, 4000)
ROUNDS = 5
LAYOUTS = {
    "uncompressed": Layout(rows=64),
    "uncompressed, big-endian": Layout(rows=64, order=">"),
    "uncompressed, planar": Layout(rows=64, planar=True),
    "uncompressed, rows as strips, BigTIFF": Layout(rows=1, big=True),
    "uncompressed, tiles": Layout(tile=(256, 256)),
    "PackBits": Layout(rows=64, compression=32773),
    "zstd": Layout(rows=64, compression=50000),
    "zstd, predictor": Layout(rows=64, compression=50000, predictor=2),
    "zstd, predictor, one strip": Layout(rows=3000, compression=50000, predictor=2),
    "LZW, predictor": Layout(rows=64, compression=5, predictor=2),
    "deflate": Layout(rows=64, compression=8),
    "deflate, planar": Layout(rows=64, compression=8, planar=True),
    "deflate, predictor": Layout(rows=64, compression=8, predictor=2),
    "deflate, predictor, tiles": Layout(tile=(256, 256), compression=8, predictor=2),
    "deflate, predictor, one strip": Layout(rows=3000, compression=8, predictor=2),
}


def main() -> None:
    """Print a row for each layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FILE"), help="what a child measures")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(_measured(options.one[0], Path(options.one[1]))))
        return
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    smooth = 20_000 + 15_000 * np.sin(columns / 300) * np.cos(rows / 200)
    values = (smooth[..., None] + rng.integers(0, 4000, (*SIZE, 3))).astype(np.uint16)
    print("| layout | seconds | Pillow | MB | Pillow |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="sam3-bench-") as folder:
        path = Path(folder) / "image.tif"
        for name, layout in LAYOUTS.items():
            path.write_bytes(write(values, layout))
            ours, plain = (_child(way, path) for way in ("ours", "Pillow"))
            print(
                f"| {name} | {ours[0]:.2f} | {plain[0]:.2f} | {ours[1]:.0f} | {plain[1]:.0f} |",
                flush=True,
            )


def _child(way: str, path: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.deep_tiff", "--one", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def _measured(way: str, path: Path) -> tuple[float, float]:
    """Processor seconds, the best, and the peak of memory in MB, of the first decoding."""
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, seconds, peak = status("VmRSS"), [], 0
    for _ in range(ROUNDS):
        start = time.process_time()
        if way == "ours":
            decode(data, Limits())
        else:
            np.asarray(TiffImageFile(io.BytesIO(data)).convert("RGB"))
        seconds.append(time.process_time() - start)
        peak = peak or status("VmHWM") - before
    return min(seconds), peak / 1e6


if __name__ == "__main__":
    main()
