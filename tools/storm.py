"""A storm: a thousand requests at once and anyhow, and what is left of them in the server.

.venv/bin/python -m tools.storm [--count 1000] [--seed 0]      by hand, not in CI: minutes

40 % are canceled at random moments, some have damaged pictures, some refused inputs. All others
must succeed with their own masks, all slots must come back, and no thread and no file may stay
longer than the time of grace. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.helpers.callers import Question, together
from tests.helpers.cog_server import REPOSITORY, SLOTS, CogServer, Result
from tests.helpers.fault_tools import downloads, worker, workspace

CLIENTS = 14
GRACE = 60 + 10  # seconds until results are gone, and until somebody has looked
SECONDS = 300
WARM_UP = 150  # requests


class Storm:
    """One run against one server; `wrong` says what should not have been."""

    def __init__(self, server: CogServer, count: int, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.turns = iter(range(count))
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def client(self, _: int) -> None:
        """Send requests of a random kind until all are sent."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.server.port}", timeout=SECONDS) as http:
            while True:
                with self.lock:
                    number = next(self.turns, None)
                    share = self.random.random()
                    moment = self.random.choice([0, 0.005, 0.02, 0.05, 0.1, 0.3, 1])
                if number is None:
                    return
                if share < 0.4:
                    self.canceled(http, number, moment)
                elif share < 0.5:
                    self.refused(http, number)
                else:
                    self.plain(http, number)

    def plain(self, http: httpx.Client, number: int) -> None:
        """Expect the right masks."""
        question = Question.numbered(number)
        result = send(http, {"image": question.image, "prompt": question.prompt})
        problem = question.problem(result)
        self.note("plain", problem)

    def refused(self, http: httpx.Client, number: int) -> None:
        """A damaged picture, no picture, or inputs that are not accepted."""
        question = Question.numbered(number)
        wrong: dict[str, Any] = [
            {"image": question.image[:-400]},
            {"image": "data:image/png;base64,aGVsbG8="},
            {"boxes": "[[1,2,3]]"},
            {"prompt": "cancelled " * 40},
        ][number % 4]
        result = send(http, {"image": question.image, "prompt": question.prompt, **wrong})
        good = result.status == "failed" and result.error and "\n" not in result.error.strip()
        self.note("refused", "" if good else f"{result.status}: {result.error!r}")

    def canceled(self, http: httpx.Client, number: int, moment: float) -> None:
        """Cancel, or go away, after that many seconds."""
        question = Question.numbered(number)
        inputs = {"image": question.image, "prompts": [question.prompt] * 4, "save_overlay": True}
        if number % 4 == 0:
            with contextlib.suppress(httpx.TimeoutException):
                http.post("/predictions", json={"input": inputs}, timeout=0.01 + moment)
            self.note("gone", "")
            return
        name = f"storm-{number}"
        answer = http.put(
            f"/predictions/{name}", json={"input": inputs}, headers={"Prefer": "respond-async"}
        )
        time.sleep(moment)
        http.post(f"/predictions/{name}/cancel")
        # Whoever leaves keeps the slot a little longer than the client: that 409 is Cog's.
        self.note("canceled", "" if answer.status_code in (202, 409) else answer.text[:200])

    def note(self, kind: str, problem: str) -> None:
        """Count one; keep what was wrong with it."""
        with self.lock:
            self.counts[kind] += 1
            if problem:
                self.wrong.append(f"{kind}: {problem}")


def send(http: httpx.Client, inputs: dict[str, Any]) -> Result:
    """Post; again while the slots are taken by requests whose clients have gone."""
    while True:
        answer = http.post("/predictions", json={"input": inputs})
        if answer.status_code != 409:
            return Result.read(answer.status_code, answer.json())
        time.sleep(0.05)


def slots(server: CogServer) -> int:
    """How many requests the server takes at once now."""
    taken = 0
    question = Question.numbered(0)
    inputs = {"image": question.image, "prompts": ["star"] * 16}
    for number in range(int(SLOTS)):
        answer = server.http.put(
            f"/predictions/slot-{time.time()}-{number}",
            json={"input": inputs},
            headers={"Prefer": "respond-async"},
        )
        taken += answer.status_code == 202
    return taken


def threads(server: CogServer) -> Counter[str]:
    """The threads of the predictor's process by the names that the system has for them."""
    process = worker(server)
    return Counter(
        Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
        for thread in process.threads()
    )


def main() -> int:
    """Run, print, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="number of requests")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices")
    options = parser.parse_args()
    weights = {"SAM3_WEIGHTS": str(REPOSITORY / "weights" / "demo")}
    with (
        tempfile.TemporaryDirectory() as folder,
        CogServer(Path(folder) / "server", weights) as server,
    ):
        server.ready()
        # Threads start as they are needed, ours and Cog's.
        together(CLIENTS, Storm(server, WARM_UP, options.seed + 1).client)
        slots(server)
        server.wait_for("READY", seconds=60)
        time.sleep(2)
        before = threads(server)
        storm, started = Storm(server, options.count, options.seed), time.monotonic()
        together(CLIENTS, storm.client)
        seconds = time.monotonic() - started
        server.wait_for("READY", seconds=120)
        time.sleep(2)
        free = slots(server)
        end = time.monotonic() + GRACE + 60
        while list(workspace(server).iterdir()) and time.monotonic() < end:
            server.health()
            time.sleep(1)
        after = threads(server)
        left = [path.name for path in workspace(server).iterdir()]
        print(f"{options.count} requests in {seconds:.0f} s: {dict(storm.counts)}")
        print(f"slots free afterwards: {free} of {SLOTS}; threads {dict(before)} → {dict(after)}")
        print(f"files left after the time of grace: {left} (downloads {downloads(server)})")
    for line in storm.wrong[:20]:
        print("WRONG:", line)
    # The threads of Cog's own runtime, in Rust, reach their number sooner or later, and keep to it.
    runtime = after["tokio-rt-worker"]
    grown = after["python"] > before["python"] or runtime > (os.cpu_count() or 1) + int(SLOTS) + 2
    bad = storm.wrong or free != int(SLOTS) or grown or left
    print("something is wrong" if bad else "all is well")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
