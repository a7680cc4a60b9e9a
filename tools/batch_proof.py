"""`script/batch` under kills, and on a Ray cluster of two nodes; by hand, not in CI.

    python -m tools.batch_proof kills PICTURES [--ray] [--kills 5] [--seed 0]
    python -m tools.batch_proof cluster PICTURES
    python -m tools.batch_proof memory PICTURES

`kills`: an undisturbed run, then one whose driver and workers are killed with SIGKILL at random
moments and that is started again each time; the rows of both must be the same, each image once.
`cluster`: two raylets with ports of their own on this machine; one dies in the middle of the job.
`memory`: what the workers and the driver hold after every 200 pictures.

Ray listens on every interface, so whatever starts it runs in a network namespace of its own in
which there is only the loopback (root is needed); processes are ended by their ids.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.helpers.batch_run import rows
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.namespace import enter, is_alone, run_alone
from tests.helpers.server_measure import growth_of

PROMPTS = ["red circle", "star", "blue square"]
SECONDS = 3600
EVERY = 200
MB = 1e6


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["kills", "cluster", "memory"])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if (options.ray or options.what == "cluster") and not is_alone():
        return run_alone([sys.executable, "-m", "tools.batch_proof", *sys.argv[1:]]).returncode
    if is_alone():
        enter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.what == "cluster":
            return cluster(options.pictures, folder)
        if options.what == "memory":
            return memory(options.pictures, folder)
        return kills(options, folder)


def start(pictures: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sam3_image.batch", str(pictures), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--prompts", *PROMPTS, *more],
        cwd=REPOSITORY,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "SAM3_WEIGHTS": str(REPOSITORY / "weights/demo"),
        "SAM3_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
        **more,
    }


def finish(process: subprocess.Popen[str]) -> None:
    _, log = process.communicate(timeout=SECONDS)
    print("".join(f"    {line}\n" for line in log.splitlines() if line.startswith("batch:")))
    assert process.returncode == 0, log[-3000:]


def same(one: Path, other: Path) -> int:
    """How many rows both folders hold; they must be the same but for the time they took."""
    first, second = rows(one), rows(other)
    for found in (first, second):
        for row in found.values():
            row["seconds"] = None
    assert first == second, "the rows differ"
    return len(first)


# Kills


def kills(options: argparse.Namespace, folder: Path) -> int:
    more = ["--ray"] if options.ray else []
    chance = random.Random(options.seed)
    print("undisturbed:", flush=True)
    finish(start(options.pictures, folder / "undisturbed", "--workers", "2", *more))
    out = folder / "disturbed"
    for number in range(options.kills):
        whom = "driver" if number % 2 else "worker"
        process = start(options.pictures, out, "--workers", "2", *more)
        parts = len(list(out.glob("part-*")))
        victim = 0
        while process.poll() is None and not victim:
            if len(list(out.glob("part-*"))) > parts:
                time.sleep(chance.uniform(0, 8))
                ids = workers(process) if whom == "worker" else [process.pid]
                victim = chance.choice(ids) if ids and process.poll() is None else 0
            time.sleep(0.05)
        if not victim:
            print(f"kill {number + 1}: the job was over before", flush=True)
            finish(process)
            break
        os.kill(victim, signal.SIGKILL)
        print(f"kill {number + 1}: a {whom}, with {count(out)} rows written", flush=True)
        if whom == "worker":
            time.sleep(chance.uniform(0, 4))
            process.kill()  # and the driver soon after, so that the next round has work left
        process.communicate()
    finish(start(options.pictures, out, "--workers", "2", *more))
    print(f"{same(folder / 'undisturbed', out)} rows, the same as undisturbed, each image once")
    assert not list(out.glob(".work/attempts*"))
    return 0


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The ids of the processes that hold the model."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(child.cmdline())
                if "spawn_main" in line or "ray::_Actor" in line:
                    found.append(child.pid)
    return found


def count(out: Path) -> int:
    return len(rows(out)) if list(out.glob("part-*")) else 0


# Memory


def memory(pictures: Path, folder: Path) -> int:
    """Print bytes that only each process holds; give at least 800 pictures for a line."""
    process = start(pictures, folder / "out", "--workers", "2", "--format", "coco")
    threading.Thread(target=process.communicate, daemon=True).start()  # or its pipe fills
    held: list[list[int]] = [[], []]
    while process.poll() is None:
        time.sleep(0.5)
        ids = workers(process)  # none while it starts and ends
        if ids and (rows_ := count(folder / "out")) >= EVERY * (len(held[0]) + 1):
            with contextlib.suppress(psutil.NoSuchProcess):
                both = max(map(uss, ids)), uss(process.pid)
                for values, now in zip(held, both, strict=True):
                    values.append(now)
                print(f"{rows_}: worker {both[0] / MB:.0f} MB, driver {both[1] / MB:.0f} MB")
    for name, values in zip(("largest worker", "driver"), held, strict=True):
        if len(values) > 2:
            print(f"{name}: {growth_of(values[1:]):+.1%} along a line after the first {2 * EVERY}")
    return process.returncode


def uss(number: int) -> int:
    return int(psutil.Process(number).memory_full_info().uss)


# A cluster


def cluster(pictures: Path, folder: Path) -> int:
    out, token = folder / "out", secrets.token_hex(32)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with (
        node(folder / "head", "--head", "--port=6379", "--node-ip-address=127.0.0.1") as head,
        node(folder / "second", "--address=127.0.0.1:6379", "--node-ip-address=127.0.0.1") as other,
    ):
        process = start(pictures, out, "--ray", "127.0.0.1:6379")
        while not list(out.glob("part-*")) and process.poll() is None:
            time.sleep(0.2)
        both = {name: actors(one.pid) for name, one in (("head", head), ("second", other))}
        print("actors by node:", json.dumps({k: len(v) for k, v in both.items()}), flush=True)
        time.sleep(5)
        print(f"the second node dies, with {count(out)} rows written", flush=True)
        end(other)
        finish(process)
    print(f"{count(out)} rows")
    assert count(out) == sum(path.is_file() for path in pictures.rglob("*"))
    return 0


def actors(parent: int) -> list[int]:
    return [
        child.pid
        for child in psutil.Process(parent).children(recursive=True)
        if "ray::_Actor" in " ".join(child.cmdline())
    ]


@contextlib.contextmanager
def node(scratch: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """One raylet with ports of its own, `ray start --block`."""
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1"]
    command += ["--object-store-memory=100000000"]
    if "--head" in options:
        command += ["--include-dashboard=false", f"--temp-dir={scratch}"]
    log = scratch.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *options],
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while "Ray runtime started" not in log.read_text():
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.2)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a node and what it has started, all at once, as a power failure does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(process.pid).children(recursive=True)]
        for member in [psutil.Process(process.pid), *family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
