"""Eight images of 50 megapixels at once, in a container of 4 GB above the model.

.venv/bin/python -m tools.container_memory [--gigabytes 4]      by hand, as root, on Linux: minutes

There need not be a container engine: the kernel's memory controller (cgroup v1 here) limits the
server's processes and kills whatever goes beyond. In a mount namespace of its own the server finds
that limit where a container has it, in the files of cgroup v2, which this script keeps up to date.
Exit status 1 if the server did not survive, or if an answer is neither right nor one clean line.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from tests.helpers.callers import ask, together
from tests.helpers.cog_server import REPOSITORY, CogServer, Result, data_url
from tests.helpers.fault_tools import worker

CONTROLLER = Path("/sys/fs/cgroup/memory")
SIZE = (8660, 5774)  # 50 megapixels


class Group:
    """A group of processes whose memory the kernel limits, shown to them as cgroup v2 would."""

    def __init__(self, shown: Path) -> None:
        self.folder = CONTROLLER / f"sam3-image-{os.getpid()}"
        self.folder.mkdir()
        self.shown = shown
        shown.mkdir()
        self.limit = 1 << 62
        self.peak = 0
        self.mirror()

    @property
    def used(self) -> int:
        """Bytes in use, file cache included."""
        return int((self.folder / "memory.usage_in_bytes").read_text())

    def set(self, limit: int) -> None:
        """Kill, from now on, what goes beyond."""
        (self.folder / "memory.limit_in_bytes").write_text(str(limit))
        self.limit = limit

    def cache(self) -> int:
        """Bytes of file cache, which the kernel gives back on demand."""
        stat = (self.folder / "memory.stat").read_text().split()
        return int(stat[stat.index("total_cache") + 1])

    def mirror(self) -> None:
        """Write the files in which a container finds its limit."""
        values = {"max": self.limit, "current": self.used, "stat": f"file {self.cache()}"}
        for name, value in values.items():
            partial = self.shown / f".{name}"
            partial.write_text(f"{value}\n")
            partial.replace(self.shown / f"memory.{name}")
        self.peak = max(self.peak, self.used - self.cache())

    def command(self) -> list[str]:
        """What runs a command in the group, with those files in their place."""
        join = f"echo $$ > {self.folder}/cgroup.procs"
        bind = f"mount --bind {self.shown} /sys/fs/cgroup"
        return ["unshare", "--mount", "sh", "-c", f'{join} && {bind} && exec "$@"', "sh"]


@contextmanager
def mirrored(group: Group) -> Iterator[None]:
    """Keep the files up to date while the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.01):
            group.mirror()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def image(seed: int) -> str:
    """A picture of 50 megapixels as a JPEG of some megabytes."""
    coarse = np.random.default_rng(seed).integers(0, 255, (600, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(SIZE, Image.Resampling.NEAREST).save(buffer, "JPEG", quality=85)
    return data_url(buffer.getvalue(), "image/jpeg")


def main() -> int:
    """Run, print, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="above the model")
    parser.add_argument("--count", type=int, default=8, help="of images at once")
    options = parser.parse_args()
    room, count = int(options.gigabytes * 1e9), options.count
    pictures = [image(seed) for seed in range(count)]
    print(f"{count} JPEGs of {SIZE[0]}×{SIZE[1]}, {len(pictures[0]) * 3 // 4 / 1e6:.0f} MB each")
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        group = Group(folder / "cgroup")
        weights = {"SAM3_WEIGHTS": str(REPOSITORY / "weights" / "demo")}
        with (
            mirrored(group),
            CogServer(folder / "server", weights, wrapper=group.command()) as server,
        ):
            process = worker(server.ready())
            model = group.used
            group.set(model + room)
            print(f"with the model {model / 1e6:.0f} MB, limit {group.limit / 1e6:.0f} MB")

            def client(number: int) -> None:
                with httpx.Client() as http:
                    inputs = {"image": pictures[number], "threshold": 0.0, "save_overlay": True}
                    results.append(ask(server, {**inputs, "prompt": "star"}, http))

            started = time.monotonic()
            together(count, client)
            seconds = time.monotonic() - started
            alive = process.is_running() and worker(server).pid == process.pid
            last = server.predict(image=pictures[0], prompt="star", input_size_percent=50)
        group.folder.rmdir()
    right = [one for one in results if one.status == "succeeded" and one.files()]
    refused = [one for one in results if "MemoryLimitError" in one.error]
    print(f"{len(right)} answered, {len(refused)} refused in {seconds:.0f} s; most in use")
    print(f"{(group.peak - model) / 1e6:.0f} MB above the model; the worker lives: {alive}; the")
    print(f"next request: {last.status} {last.error}")
    waits = sorted(one.metrics["timing"]["queue"] for one in right)
    print("seconds of waiting:", ", ".join(f"{wait:.1f}" for wait in waits))
    for one in results:
        if one not in right:
            print(one.status, one.error)
    good = alive and len(right) + len(refused) == count and last.status == "succeeded"
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
