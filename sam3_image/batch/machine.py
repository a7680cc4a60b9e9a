"""How many workers this machine can take, and where each computes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam3_image.decode import available_memory
from sam3_image.output import available_cores
from sam3_image.settings import Settings

# What a worker holds beside its weights: Python, torch, and a few images of 12 megapixels. Measured
# with the demo checkpoint; docs/batch.md has the figures.
BASE_BYTES = 1_200_000_000
# On a CPU 16-bit weights are expanded as they are used.
WEIGHTS_FACTOR = 1.5
MOST_DECODERS = 8


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of one machine.

    devices: where each computes, as SAM3_DEVICE takes it. threads: of torch in each, 0 for its own
    choice. decoders: images that each decodes at the same time.
    """

    devices: tuple[str, ...]
    threads: int
    decoders: int

    def __str__(self) -> str:
        count = len(self.devices)
        where = ", ".join(dict.fromkeys(self.devices))
        return f"{count} worker{'' if count == 1 else 's'} on {where}"


def plan_workers(environment: Mapping[str, str], weights: Path, wanted: int | None) -> WorkerPlan:
    """As many workers as fit: one per GPU, or on a CPU by cores and free memory.

    wanted: that many instead.
    """
    cores = _cores()
    if gpus := _gpus(environment):
        count = wanted or len(gpus)
        devices = tuple(gpus[number % len(gpus)] for number in range(count))
        return WorkerPlan(devices, 0, min(MOST_DECODERS, max(2, cores // count)))
    count = wanted or max(1, min(cores, int(0.9 * available_memory()) // worker_bytes(weights)))
    # OMP_NUM_THREADS is the user's own decision.
    threads = 0 if environment.get("OMP_NUM_THREADS") else max(1, cores // count)
    return WorkerPlan(("cpu",) * count, threads, 1)


def worker_bytes(weights: Path) -> int:
    """About how much memory a worker needs on a CPU, in bytes."""
    stored = sum(file.stat().st_size for file in weights.glob("*.safetensors"))
    return BASE_BYTES + int(stored * WEIGHTS_FACTOR)


def _cores() -> int:
    """The cores of this process's CPU set, or its container's share of time if less."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available_cores(), round(int(quota) / int(period))))
    except (OSError, ValueError):  # "max" where there is no limit
        return available_cores()


def _gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that may be used, none for a CPU; warns where torch was built for one."""
    wanted = environment.get("SAM3_DEVICE", "").strip()
    if wanted not in ("", "cuda"):
        return [wanted] if wanted.startswith("cuda") else []
    import torch  # takes a second, so not for --help

    from sam3_image.model import missing_gpu

    if missing := missing_gpu(Settings(device=wanted)):
        warnings.warn(missing, RuntimeWarning, stacklevel=2)
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
