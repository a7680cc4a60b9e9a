"""What every training stage shares: optimisers, schedule, average weights, files, workers.

A stage is a folder with `state.pt` (everything needed to go on) and `metrics.csv`.
"""

from __future__ import annotations

import csv
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn


@dataclass(frozen=True)
class StageOptions:
    """How long and how fast a stage trains.

    `rate` is the peak learning rate; it warms up over `warmup` steps and falls along a cosine to
    `final` of the peak. `matrix_rate` multiplies it for the matrices of transformer layers, which
    Muon moves; everything else is AdamW's, as are the matrices where it is 0.
    Workers train on their own and average their weights every `meet_steps` steps: on a busy
    machine that costs far less waiting than sharing every gradient.
    """

    steps: int
    batch: int
    rate: float = 1.5e-3
    matrix_rate: float = 2.0
    warmup: int = 100
    final: float = 0.05
    average: float = 0.998
    save_seconds: float = 120.0
    log_steps: int = 50
    meet_steps: int = 10


@dataclass(frozen=True)
class Worker:
    """This process among those that train one model together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that logs and saves."""
        return self.rank == 0


class Stage:
    """The mutable state of one stage of training: modules, optimisers, averages, step."""

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, nn.Module],
        options: StageOptions,
        worker: Worker,
        slower: Mapping[str, float] | None = None,
    ) -> None:
        """`slower`: learning rate factors by prefix of "module.parameter"; 0 freezes."""
        self.folder, self.modules, self.options, self.worker = folder, modules, options, worker
        self.step, self.seconds = 0, 0.0
        self.parameters = self._named_parameters(slower or {})
        self.optimisers = self._optimisers(slower or {})
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._sums: dict[str, float] = {}
        self._started = self._saved = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    def _named_parameters(self, slower: Mapping[str, float]) -> dict[str, nn.Parameter]:
        found = {}
        for module_name, module in self.modules.items():
            for name, parameter in module.named_parameters():
                full = f"{module_name}.{name}"
                if _factor(full, slower) == 0:
                    parameter.requires_grad_(False)
                else:
                    found[full] = parameter
        return found

    def _optimisers(self, slower: Mapping[str, float]) -> list[torch.optim.Optimizer]:
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            matrix = parameter.ndim == 2 and ".layers." in name and min(parameter.shape) >= 32
            matrix = matrix and self.options.matrix_rate > 0
            groups.setdefault((matrix, _factor(name, slower)), []).append(parameter)
        muon: list[dict[str, Any]] = []
        adam: list[dict[str, Any]] = []
        for (matrix, factor), parameters in groups.items():
            scale = factor * (self.options.matrix_rate if matrix else 1.0)
            group = {"params": parameters, "scale": scale, "lr": self.options.rate * scale}
            (muon if matrix else adam).append(group)
        found: list[torch.optim.Optimizer] = []
        if muon:
            found.append(
                torch.optim.Muon(
                    muon,
                    momentum=0.95,
                    weight_decay=0.01,
                    ns_steps=4,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if adam:
            found.append(torch.optim.AdamW(adam, betas=(0.9, 0.98), weight_decay=0.01, fused=True))
        return found

    @property
    def done(self) -> bool:
        """Whether the last step has been made."""
        return self.step >= self.options.steps

    @property
    def progress(self) -> float:
        """0 at the first step, 1 at the last."""
        return self.step / max(1, self.options.steps)

    def update(self, terms: Mapping[str, Tensor]) -> None:
        """One optimiser step on the sum of the loss terms; logs, averages and saves."""
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        loss.backward()
        parameters = [p for p in self.parameters.values() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, 4.0)
        rate = self._rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            if torch.isfinite(norm):
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        if self.worker.count > 1 and (self.step % self.options.meet_steps == 0 or self.done):
            _average_workers(list(self.parameters.values()), self.worker.count)
        self._average()
        self._log({"loss": loss, "norm": norm, **terms})
        if time.monotonic() - self._saved > self.options.save_seconds or self.done:
            self.save()

    def _rate(self) -> float:
        options = self.options
        warm = min(1.0, (self.step + 1) / max(1, options.warmup))
        wave = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress))
        return options.rate * warm * (options.final + (1 - options.final) * wave)

    @torch.no_grad()
    def _average(self) -> None:
        # A young average follows closely, else it would remember the random start.
        keep = min(self.options.average, (1 + self.step) / (10 + self.step))
        names = list(self.averages)
        torch._foreach_lerp_(
            [self.averages[name] for name in names],
            [self.parameters[name].detach() for name in names],
            1 - keep,
        )

    def _log(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        every = self.options.log_steps
        if self.step % every and not self.done:
            return
        now = time.monotonic()
        self.seconds += now - self._started
        self._started = now
        means = {name: total / every for name, total in self._sums.items()}
        self._sums = {}
        if not self.worker.first:
            return
        left = self.seconds / self.step * (self.options.steps - self.step)
        text = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        print(
            f"{self.folder.name} {self.step}/{self.options.steps} "
            f"{self.seconds:.0f} s, {left:.0f} s left | {text}",
            flush=True,
        )
        path = self.folder / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", *means])
            writer.writerow(
                [self.step, round(self.seconds, 1), *(round(v, 5) for v in means.values())]
            )

    def save(self) -> None:
        """Write `state.pt`, so that a kill at any moment leaves a whole one behind."""
        self._saved = time.monotonic()
        if not self.worker.first:
            return
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": self.averages,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.folder / "state.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "state.pt")

    def resume(self) -> bool:
        """Go on from `state.pt` if there is one."""
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.averages = {
            name: state["averages"][name].to(p.device) for name, p in self.parameters.items()
        }
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            scales = [group["scale"] for group in optimiser.param_groups]
            optimiser.load_state_dict(saved)
            for group, scale in zip(optimiser.param_groups, scales, strict=True):
                group["scale"] = scale
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def averaged_state(folder: Path, module: str) -> dict[str, Tensor]:
    """The state dict of `module` in a stage's folder: the averaged weights where there are any."""
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    weights = dict(state["modules"][module])
    for name, value in state["averages"].items():
        owner, _, own = name.partition(".")
        if owner == module:
            weights[own] = value
    return weights


def run_workers(job: Callable[..., None], count: int, *arguments: object) -> None:
    """Call `job(worker, *arguments)` in `count` processes that train one model together."""
    if count <= 1:
        job(Worker(), *arguments)
        return
    # The workers find each other through a file: a port could be taken.
    with tempfile.TemporaryDirectory() as folder:
        spawn(_join, (f"{folder}/meeting", job, count, *arguments), nprocs=count)


def _join(
    rank: int, meeting: str, job: Callable[..., None], count: int, *arguments: object
) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        job(Worker(rank, count), *arguments)
    finally:
        dist.destroy_process_group()


def _factor(name: str, slower: Mapping[str, float]) -> float:
    matching = [prefix for prefix in slower if name.startswith(prefix)]
    return slower[max(matching, key=len)] if matching else 1.0


@torch.no_grad()
def _average_workers(parameters: list[nn.Parameter], count: int) -> None:
    flat = torch.cat([p.detach().flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= count
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.copy_(part.view_as(p))
