"""Many clients at once: requests a second and how long each waits, ours beside a plain server.

`script/bench --callers`. Each client sends its next picture when it has its answer. The pictures
are all different, so no cache helps. The clients take a share of the same cores as the servers.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pictures
from benchmarks.measure import Spread
from benchmarks.table import Row
from tests.helpers.cog_server import REPOSITORY, CogServer, data_url, free_port

CLIENTS = (1, 2, 8, 16)
DEVICES = (None, 25, 40, 120)  # milliseconds of the stand-in; None is the demo checkpoint
SECONDS = 8.0
SIZE = (768, 1024)
PICTURES = 24
DEMO = REPOSITORY / "weights" / "demo"


@dataclass(frozen=True)
class Load:
    """What some clients saw: seconds of every request, and of the whole."""

    clients: int
    latencies: tuple[float, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def p95(self) -> float:
        """Seconds that 95 of 100 requests stay below."""
        return statistics.quantiles(self.latencies, n=20)[-1]


def rows(scratch: Path, seconds: float = SECONDS) -> list[Row]:
    """Every device with every number of clients; pictures and logs go into `scratch`."""
    found: list[Row] = []
    bodies = _bodies(scratch)
    for device in DEVICES:
        loads: dict[str, list[Load]] = {}
        for side, server in (("plain", plain_server), ("ours", our_server)):
            with server(device, scratch) as port:
                loads[side] = [load(port, bodies, count, seconds) for count in CLIENTS]
        found += _rows(device, loads["plain"], loads["ours"])
    return found


def _rows(device: int | None, plain: list[Load], ours: list[Load]) -> list[Row]:
    name = "demo checkpoint" if device is None else f"a device that takes {device} ms"
    section = f"Many callers, 1024×768, ZIP: {name}"
    found = []
    for theirs, own in zip(plain, ours, strict=True):
        note = "" if device is None else f"{own.rate * device / 1000:.0%} of what the device allows"
        case = f"{own.clients} clients"
        found += [
            _row(section, f"{case}, requests", theirs.rate, own.rate, "/s", note),
            _row(section, f"{case}, median", _median(theirs), _median(own)),
            _row(
                section,
                f"{case}, 95 of 100 within",
                theirs.p95,
                own.p95,
                note=f"{own.p95 * own.rate / own.clients:.2f} × the ideal queue's",
            ),
        ]
    return found


def _median(load: Load) -> float:
    return statistics.median(load.latencies)


def _row(
    section: str, case: str, plain: float, ours: float, unit: str = "s", note: str = ""
) -> Row:
    return Row(section, case, Spread((plain,)), Spread((ours,)), unit, note)


@contextlib.contextmanager
def our_server(device: int | None, scratch: Path) -> Iterator[int]:
    """Cog's server with our predictor, or with the stand-in for its device."""
    environment, predictor = {"SAM3_WEIGHTS": str(DEMO)}, "predict.py:Predictor"
    # A slot is free a moment after its answer was sent: with as many as clients some meet a 409.
    environment["COG_MAX_CONCURRENCY"] = str(max(CLIENTS) + 2)
    if device is not None:
        environment["SAM3_BENCH_DEVICE_MS"] = str(device)
        predictor = "benchmarks/stand_in.py:Predictor"
    with CogServer(scratch / f"server-{device}", environment, predictor=predictor) as server:
        yield server.ready().port


@contextlib.contextmanager
def plain_server(device: int | None, _: Path) -> Iterator[int]:
    """Measure the plain server in the same way."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.plain_server", str(port), str(DEMO)]
    process = subprocess.Popen(
        [*command, *([] if device is None else [str(device)])], cwd=REPOSITORY, env=os.environ
    )
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise RuntimeError("the plain server ended by itself")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def load(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Let so many clients ask for so long; raises RuntimeError for any answer but a result."""
    for body in bodies[:2]:
        _ask(port, body)
    latencies: list[float] = []
    errors: list[str] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        turn = number
        while time.perf_counter() < end and not errors:
            start = time.perf_counter()
            answer = _ask(port, bodies[turn % len(bodies)])
            if b"At capacity" in answer:  # Cog's, where two requests arrive in the same instant
                answer = _ask(port, bodies[turn % len(bodies)])
            latencies.append(time.perf_counter() - start)
            if b'"succeeded"' not in answer:
                errors.append(answer[:300].decode(errors="replace"))
            turn += clients

    start = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(f"{clients} clients: {errors[0]}")
    return Load(clients, tuple(latencies), time.perf_counter() - start)


def _bodies(scratch: Path) -> list[bytes]:
    found = []
    for seed in range(PICTURES):
        photo = pictures.save_photo(scratch / "callers.jpg", SIZE, seed)
        url = data_url(photo.read_bytes(), "image/jpeg")
        found.append(json.dumps({"input": {"image": url, "prompt": "red circle"}}).encode())
    return found


def _ask(port: int, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", "/predictions", body, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health-check")
        return connection.getresponse().status == 200
    except OSError:
        return False
