"""Seconds, bytes and medians: how every figure of the benchmark is taken."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

Seconds = dict[str, float]


class Stages:
    """Seconds by stage of one run."""

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.seconds: Seconds = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block under that name."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing, in its own unit."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value that half of the measurements stay below."""
        return statistics.median(self.values)

    def record(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "median": self.median,
            "least": min(self.values),
            "most": max(self.values),
            "rounds": len(self.values),
        }


def interleaved(
    sides: Mapping[str, Callable[[], Seconds]], rounds: int
) -> dict[str, list[Seconds]]:
    """Run every side once per round, so that a busy spell of the machine meets all of them.

    The order alternates: whoever runs second finds warm caches.
    """
    results: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides)
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(sides[name]())
    return results


def timed(work: Callable[[], Any], device: torch.device | None = None) -> float:
    """Seconds of one call; on a GPU until its queue is empty."""
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Return the most memory this process ever held.

    Linux hands `ru_maxrss` of a parent down to its children, so there the kernel's own high-water
    mark of this address space is read instead.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def in_own_process(module: str, *arguments: str) -> Any:
    """Return the JSON on the last line that `python -m module arguments…` prints."""
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise RuntimeError(
            f"{module} {' '.join(arguments)} ended with {finished.returncode}:\n{finished.stderr}"
        )
    return json.loads(finished.stdout.strip().splitlines()[-1])


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine and the versions that the figures depend on."""
    packages = ("torch", "transformers", "pillow", "opencv-python-headless", "isal", "numpy")
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
