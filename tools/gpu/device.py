"""What the measurements ask of a device: time, memory, load; of CUDA, or of a CPU in its place."""

from __future__ import annotations

import contextlib
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil
import torch

MS = 1e3


class Stamp(Protocol):
    """A moment in the queue of the device."""

    def until(self, later: Any) -> float:
        """Milliseconds from here to a later stamp, once the device has come to both."""


@dataclass
class CudaStamp:
    """A CUDA event, recorded when made."""

    event: Any = field(default_factory=lambda: torch.cuda.Event(enable_timing=True))

    def __post_init__(self) -> None:
        self.event.record()

    def until(self, later: CudaStamp) -> float:
        """Milliseconds to a later stamp; waits for it."""
        later.event.synchronize()
        return float(self.event.elapsed_time(later.event))


@dataclass
class CpuStamp:
    """The clock when made: a CPU has no queue."""

    moment: float = field(default_factory=time.perf_counter)

    def until(self, later: CpuStamp) -> float:
        """Milliseconds to a later stamp."""
        return (later.moment - self.moment) * MS


class Cuda:
    """The current CUDA device."""

    kind = "cuda"
    stamp = CudaStamp
    warm_up = 3  # calls before the first that counts

    def describe(self) -> str:
        """Name and capability of the card, and the versions of driver and CUDA."""
        name = torch.cuda.get_device_name()
        query = ["nvidia-smi", "--query-gpu=driver_version,power.limit", "--format=csv,noheader"]
        major, minor = torch.cuda.get_device_capability()
        driver = _first(query) or "unknown"
        return f"{name} (sm_{major}{minor}), CUDA {torch.version.cuda}, driver {driver}"

    def wait(self) -> None:
        """Return when the device has done all that was asked of it."""
        torch.cuda.synchronize()

    def memory(self) -> int:
        """Bytes in tensors now."""
        return torch.cuda.memory_allocated()

    @contextlib.contextmanager
    def peak(self) -> Iterator[list[int]]:
        """A list that holds, after the block, the most bytes in tensors at one time within it."""
        found: list[int] = []
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        yield found
        found.append(torch.cuda.max_memory_allocated())

    def load(self) -> float:
        """Percent of the time in which the device computed, of late; NaN where nobody says."""
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        return float(_first(query) or "nan")


class Cpu:
    """A CPU that stands in for a GPU, so that nothing runs for the first time on one."""

    kind = "cpu"
    stamp = CpuStamp
    warm_up = 1

    def describe(self) -> str:
        """That these are no figures of a GPU."""
        return f"a rehearsal on {torch.get_num_threads()} CPU threads"

    def wait(self) -> None:
        """A CPU is done when a call returns."""

    def memory(self) -> int:
        """Bytes of the process now."""
        return psutil.Process().memory_info().rss

    @contextlib.contextmanager
    def peak(self) -> Iterator[list[int]]:
        """A list that holds, after the block, the most bytes of the process so far."""
        found: list[int] = []
        yield found
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def load(self) -> float:
        """Percent of the machine's processors in use since the last call."""
        return psutil.cpu_percent()


Device = Cuda | Cpu


def milliseconds(device: Device, work: Callable[[], Any], rounds: int) -> float:
    """The median time that the device takes for `work`."""
    taken = []
    for turn in range(device.warm_up + rounds):
        start = device.stamp()
        work()
        milliseconds = start.until(device.stamp())  # type: ignore[arg-type]
        if turn >= device.warm_up:
            taken.append(milliseconds)
    return statistics.median(taken)


def host_milliseconds(device: Device, work: Callable[[], Any], rounds: int) -> float:
    """The median time until `work` has returned and the device is done; one call does not count."""
    taken = []
    for _ in range(1 + rounds):
        device.wait()
        start = time.perf_counter()
        work()
        device.wait()
        taken.append((time.perf_counter() - start) * MS)
    return statistics.median(taken[1:])


@contextlib.contextmanager
def sampled_load(device: Device, every: float = 0.25) -> Iterator[list[float]]:
    """A list to which the device's load is added while the block runs."""
    found: list[float] = []
    ended = threading.Event()
    device.load()  # a CPU's counts from the last call on

    def sample() -> None:
        while not ended.wait(every):
            found.append(device.load())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _first(command: list[str]) -> str:
    """The first line that a command prints; nothing where the machine lacks it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.split("\n")[0].strip()
