"""Make a demo checkpoint: `python -m tools.demo_checkpoint.train --output weights/demo`.

Draws scenes, trains the vision encoder alone, then together with the concept half, then the visual
half on it, and writes the folder. Everything is seeded, saved every two minutes and resumed from
`--work` when started again. `--budget 0.001` does all of it in about a minute, to see that the
path is alive; what comes out then loads but finds nothing. `--stages` runs only some of the
stages: `tracker` may begin in another process while `concept` still trains, as long as it ends
after it.

On a CPU with glibc, MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=67108864
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in the environment keep the memory of one step for the next:
71 s instead of 115 s for 50 steps of the concept half with two workers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from tools.demo_checkpoint.config import IMAGE_SIZE, MASK_SIZE
from tools.demo_checkpoint.export import parameter_count, write_checkpoint
from tools.demo_checkpoint.loop import StageOptions, Worker, averaged_state, run_workers
from tools.demo_checkpoint.pool import build_pool, open_pool
from tools.demo_checkpoint.scenes import SceneOptions
from tools.demo_checkpoint.tracker_stage import TrackerOptions
from tools.demo_checkpoint.tracker_training import train_tracker
from tools.demo_checkpoint.training import (
    ConceptOptions,
    Setting,
    new_config,
    train_concept,
    train_vision,
)

PART = 4000  # scenes in one pool
# Many objects of middling size, nothing hidden, on plain grounds: most labels per picture, and
# the shapes, which are the last thing to be learnt, begin to be told apart within minutes.
EASY = SceneOptions(
    objects=(5, 8),
    sizes=(0.14, 0.34),
    aspects=(0.6, 1.7),
    min_visible=0.95,
    crowding=0.0,
    repeats=0.1,
    plain=True,
)
# The full difficulty, and three kinds with more of what is hardest: small objects, objects that
# only their place tells apart, objects that hide parts of each other.
SMALL = SceneOptions(objects=(4, 8), sizes=(0.045, 0.2), repeats=0.3, twins=0.2)
TWINS = SceneOptions(objects=(3, 8), sizes=(0.05, 0.32), repeats=0.85, twins=0.8)
CROWDED = SceneOptions(objects=(3, 8), sizes=(0.05, 0.42), crowding=1.0)
KINDS = {
    "easy": EASY,
    "full": SceneOptions(),
    "small": SMALL,
    "twins": TWINS,
    "crowded": CROWDED,
}


_VISION = StageOptions(steps=12000, batch=8)
_CONCEPT = StageOptions(steps=12000, batch=12, rate=1e-3)
_TRACKER = StageOptions(steps=7000, batch=6, rate=1e-3)
# How often the tracker looks for a newer backbone.
FOLLOW_SECONDS = 150.0


@dataclass(frozen=True)
class Plan:
    """How much of everything. weights/demo itself had less; its model card says what."""

    scenes: Mapping[str, int] = field(
        default_factory=lambda: {
            "easy": 4000,
            "full": 20000,
            "small": 8000,
            "twins": 4000,
            "crowded": 5000,
        }
    )
    vision: StageOptions = _VISION
    vision_easy: float = 0.4
    concept: StageOptions = _CONCEPT
    concept_easy: float = 0.2
    tracker: StageOptions = _TRACKER

    def scaled(self, budget: float) -> Plan:
        """The same plan in less time: every count times `budget`, but at least a few."""

        def stage(options: StageOptions) -> StageOptions:
            steps = max(2, round(options.steps * budget))
            warmup = min(options.warmup, max(1, steps // 10))
            return replace(
                options, steps=steps, warmup=warmup, log_steps=min(options.log_steps, steps)
            )

        return replace(
            self,
            scenes={kind: max(16, round(n * budget)) for kind, n in self.scenes.items()},
            vision=stage(self.vision),
            concept=stage(self.concept),
            tracker=stage(self.tracker),
        )


def build_pools(folder: Path, kind: str, count: int, seed: int) -> list[Path]:
    """Draw `count` scenes of a kind in parts of at most PART; returns their folders."""
    folders = []
    for part, start in enumerate(range(0, count, PART)):
        own = folder / f"{kind}-{part}"
        build_pool(
            own,
            min(PART, count - start),
            seed=seed + part,
            options=KINDS[kind],
            image_size=IMAGE_SIZE,
            mask_size=MASK_SIZE,
        )
        print(f"scenes {kind} {min(start + PART, count)}/{count}", flush=True)
        folders.append(own)
    return folders


def _setting(
    worker: Worker, device: str, seed: int, pools: Mapping[str, list[Path]], easy: float
) -> Setting:
    # One thread a process: on small tensors a pool of threads fights with itself and with
    # everything else on the machine.
    torch.set_num_threads(1)
    every = [open_pool(folder) for kind in KINDS if kind != "easy" for folder in pools[kind]]
    simple = [open_pool(folder) for folder in pools["easy"]]
    return Setting(torch.device(device), seed, every, simple, easy)


def _vision(worker: Worker, work: Path, plan: Plan, device: str, seed: int, pools: dict) -> None:
    setting = _setting(worker, device, seed, pools, plan.vision_easy)
    train_vision(worker, work / "vision", plan.vision, setting)


def _concept(worker: Worker, work: Path, plan: Plan, device: str, seed: int, pools: dict) -> None:
    setting = _setting(worker, device, seed, pools, plan.concept_easy)
    start = {name: averaged_state(work / "vision", name) for name in ("vision", "heads")}
    train_concept(worker, work / "concept", plan.concept, ConceptOptions(), setting, start)


def _tracker(worker: Worker, work: Path, plan: Plan, device: str, seed: int, pools: dict) -> None:
    setting = _setting(worker, device, seed, pools, 0.0)
    train_tracker(
        worker,
        work / "tracker",
        plan.tracker,
        TrackerOptions(),
        setting,
        work / "concept",
        FOLLOW_SECONDS,
    )


STAGES = {"vision": _vision, "concept": _concept, "tracker": _tracker}


def train(
    work: Path,
    output: Path,
    plan: Plan,
    *,
    seed: int,
    device: str,
    workers: int = 1,
    stages: Sequence[str] = tuple(STAGES),
) -> None:
    """Run the stages in `work`; once both halves are there, write the checkpoint to `output`."""
    pools = {
        kind: build_pools(work / "pools", kind, count, seed + 1000 * number)
        for number, (kind, count) in enumerate(plan.scenes.items())
    }
    for name in stages:
        run_workers(STAGES[name], workers, work, plan, device, seed, pools)
    if not all((work / name / "state.pt").exists() for name in STAGES):
        return
    write_checkpoint(
        output,
        new_config(),
        averaged_state(work / "concept", "detector"),
        averaged_state(work / "tracker", "tracker"),
    )
    print(f"{output}: {parameter_count(output):,} parameters")


def main() -> None:
    """Read the command line, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("weights/demo"))
    parser.add_argument("--work", type=Path, default=Path("runs/demo"))
    parser.add_argument("--budget", type=float, default=1.0, help="share of the full training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that train together")
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES), default=tuple(STAGES))
    options = parser.parse_args()
    train(
        options.work,
        options.output,
        Plan().scaled(options.budget),
        seed=options.seed,
        device=options.device,
        workers=options.workers,
        stages=options.stages,
    )


if __name__ == "__main__":
    main()
