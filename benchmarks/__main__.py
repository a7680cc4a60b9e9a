"""`script/bench [--quick | --full]`: every case, one table. See `--help`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks import (
    bulk,
    device,
    encoders,
    full_size,
    measure,
    page,
    pictures,
    table,
    tiles,
)
from benchmarks.around import HUGE, KINDS, LARGE, SIDES, SMALL, STAGES, Case, Inputs, total
from benchmarks.measure import Spread
from benchmarks.table import Row
from benchmarks.whole import Setup, Whole
from sam3_image.decode import available_memory
from tools.demo_checkpoint.drawing import draw
from tools.demo_checkpoint.scenes import random_scene

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "weights" / "demo"
MB = 1e6
# What the plain pipeline takes for 200 masks of 4096×4096: as float32, as bool, and as int64.
PLAIN_HUGE_BYTES = 200 * 4096 * 4096 * (4 + 1 + 8)


def main() -> None:
    """Run what the command line asks for; print the table and keep it with the raw figures."""
    options = _options()
    where = torch.device(options.device)
    start = time.perf_counter()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sam3-bench-") as name:
        scratch = Path(name)
        if options.quick:
            rows += _around(scratch, QUICK)
            rows += _peaks(scratch, [(LARGE, "ZIP + overlay", True)])
            rows += encoders.rows()
        elif options.callers:
            from benchmarks import callers  # its packages are those of the tests

            rows += callers.rows(scratch)
        elif not options.device_only:
            rows += _around(scratch, USUAL)
            rows += encoders.rows()
            rows += _peaks(
                scratch,
                [
                    (SMALL, "ZIP", True),
                    (LARGE, "ZIP + overlay", True),
                    (LARGE, "overlay PNG", True),
                    (HUGE, "ZIP", available_memory() > PLAIN_HUGE_BYTES),
                ],
            )
            rows += _demo(scratch) + _page(scratch) + tiles.rows()
            rows += bulk.rows(scratch)
        if options.full:
            rows += _full_size(scratch, options.keep)
        if where.type == "cuda" or options.device_only:
            folder = options.weights or full_size.half(options.keep)
            rows += device.rows(Setup(folder, where, threshold=1.0), scratch, options.rounds)
    command = f"script/bench {' '.join(options.given)}".strip()
    print(table.save(rows, measure.machine(where), command, options.output))
    print(f"{time.perf_counter() - start:.0f} s; raw figures in {options.output}/bench.json")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="around the model only, a minute")
    amount.add_argument(
        "--full", action="store_true", help="also full size with random weights, half an hour"
    )
    amount.add_argument(
        "--device-only", action="store_true", help="only the part that runs by itself on a GPU"
    )
    amount.add_argument(
        "--callers", action="store_true", help="only many clients at once, six minutes"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--weights", type=Path, help="a checkpoint for the device part")
    parser.add_argument("--rounds", type=int, default=device.ROUNDS, help="of the device part")
    parser.add_argument(
        "--keep", type=Path, default=ROOT / "out" / "full-size", help="for random weights (5 GB)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "bench")
    options = parser.parse_args()
    options.given = [
        f"--{name.replace('_', '-')}"
        for name in ("quick", "full", "device_only", "callers")
        if options.__dict__[name]
    ]
    return options


@dataclass(frozen=True)
class Plan:
    """How one case around the model is measured; `plain` False where only ours can run it."""

    case: Case
    rounds: int
    kinds: tuple[str, ...] = tuple(KINDS)
    plain: bool = True
    warm: bool = True


QUICK = (
    Plan(SMALL, rounds=5),
    Plan(LARGE, rounds=1, kinds=("ZIP + overlay", "overlay PNG", "overlay JPEG"), warm=False),
    Plan(HUGE, rounds=1, kinds=("ZIP",), plain=False, warm=False),
)
USUAL = (
    Plan(SMALL, rounds=15),
    Plan(LARGE, rounds=3),
    Plan(HUGE, rounds=3, kinds=("ZIP", "annotations"), plain=False),
)


def _around(scratch: Path, plans: Sequence[Plan]) -> list[Row]:
    totals, parts = [], []
    for plan in plans:
        inputs = Inputs.of(plan.case, scratch)
        names = SIDES if plan.plain else {"ours": SIDES["ours"]}
        kinds = list(plan.kinds)
        sides = {name: partial(side(inputs), kinds, scratch) for name, side in names.items()}
        if plan.warm:
            measure.interleaved(sides, 1)
        found = measure.interleaved(sides, plan.rounds)
        section = "Around the model: file to file, the model's outputs given"
        for kind in kinds:
            sums = {name: [total(one, kind) for one in runs] for name, runs in found.items()}
            totals.append(_row(section, f"{plan.case.name}, {kind}", sums))
        for stage in (*STAGES, *kinds):
            values = {name: [one[stage] for one in runs] for name, runs in found.items()}
            parts.append(_row(f"Where it goes at {plan.case.name}", stage, values))
    return totals + parts


def _row(
    section: str, case: str, values: Mapping[str, Sequence[float]], unit: str = "s", note: str = ""
) -> Row:
    """values: "plain" and "ours", either of which may be missing."""
    plain, ours = (
        Spread(tuple(values[side])) if values.get(side) else None for side in ("plain", "ours")
    )
    return Row(section, case, plain, ours, unit, note)


def _peaks(scratch: Path, cases: Sequence[tuple[Case, str, bool]]) -> list[Row]:
    """Peak memory of one run, each in a process of its own; the flag: also the plain pipeline."""
    rows = []
    for case, kind, with_plain in cases:
        inputs = Inputs.of(case, scratch)
        found = {
            name: measure.in_own_process(
                "benchmarks.one", name, str(inputs.photo), str(inputs.outputs), kind
            )
            for name in SIDES
            if with_plain or name == "ours"
        }
        whole = {name: [one["peak"] / MB] for name, one in found.items()}
        above = {name: [(one["peak"] - one["ready"]) / MB] for name, one in found.items()}
        note = "" if with_plain else f"plain would need {PLAIN_HUGE_BYTES / 1e9:.0f} GB"
        name = f"{case.name}, {kind}"
        rows.append(_row("Peak memory", f"{name}: process", whole, "MB", note))
        rows.append(_row("Peak memory", f"{name}: above imports and outputs", above, "MB", note))
        if case == HUGE and with_plain:
            seconds = {name: [total(one["seconds"], kind)] for name, one in found.items()}
            rows.append(_row("Peak memory", f"{name}: seconds of that run", seconds))
    return rows


def _demo(scratch: Path) -> list[Row]:
    photos = []
    for seed in range(4):
        photos.append(scratch / f"scene-{seed}.png")
        draw(random_scene(seed), 1024, 768).save(photos[-1])
    whole = Whole(Setup(DEMO, torch.device("cpu")), scratch)
    return whole.rows("Whole predictions, demo checkpoint, 1024×768, ZIP", photos, (4,))


def _page(scratch: Path) -> list[Row]:
    own, whole = page.clicks(DEMO, scratch)
    section = "The page, demo checkpoint: the model's own time (left), the whole request (right)"
    return [_row(section, "a click on a known 4000×3000 picture", {"plain": own, "ours": whole})]


def _full_size(scratch: Path, keep: Path) -> list[Row]:
    half, single = full_size.half(keep), full_size.single(keep)
    rows = _start(half, single) + _tasks(half)
    photo = pictures.save_photo(scratch / "full.jpg", SMALL.size)
    whole = Whole(Setup(half, torch.device("cpu"), threshold=1.0), scratch)
    section = "Whole predictions, full size with random weights, CPU, float32"
    rows += whole.rows(section, [photo], (4, 16), warm=False)
    section = "Whole predictions, full size with random weights, CPU, in other dtypes"
    return rows + whole.faster_rows(section, photo, ("bfloat16", "int8"))


def _tasks(folder: Path) -> list[Row]:
    """Peak memory of processes that load the model and answer one prompt, or one of each task."""
    peak = {
        what: [measure.in_own_process("benchmarks.tasks", what, str(folder))["peak"] / MB]
        for what in ("plain", "find", "both")
    }
    section = "Peak memory, full size with random weights, CPU: one picture, one prompt"
    both = {"plain": peak["find"], "ours": peak["both"]}
    return [
        _row(section, "find", {"plain": peak["plain"], "ours": peak["find"]}, "MB"),
        _row(section, "ours: find alone (left) against find and pick (right)", both, "MB"),
    ]


def _start(half: Path, single: Path, rounds: int = 3) -> list[Row]:
    """Process start to ready, against the imports alone and against the plain pipeline."""
    work = {"imports": half, "plain": single, "ours": half}
    seconds: dict[str, list[float]] = {name: [] for name in work}
    sizes = {}
    for _ in range(rounds):
        for name, folder in work.items():
            found = measure.in_own_process("benchmarks.start", name, str(time.time()), str(folder))
            seconds[name].append(found["seconds"])
            sizes[name] = found["bytes"]
    section = "Start, full size with random weights, CPU"
    imports = {"plain": seconds["imports"], "ours": seconds["ours"]}
    read = {name: [sizes[name] / MB] for name in ("plain", "ours")}
    return [
        _row(section, "process start to ready", seconds),
        _row(section, "imports alone (left) against ours ready (right)", imports),
        _row(section, "weights read", read, "MB"),
    ]


if __name__ == "__main__":
    main()
