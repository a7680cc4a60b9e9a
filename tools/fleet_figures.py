"""`sam3-image fleet` under load, kills and redeployment: every figure of docs/deploy.md; by hand.

    python -m tools.fleet_figures [--short] [--only NAME …]

Two replicas with the demo checkpoint on this machine. Ray listens on every interface, so all of it
runs in a network namespace in which there is only the loopback (root is needed). `--short` is what
the tests run.

    python -m tools.fleet_figures deploy ADDRESS [--default-routing] [--line N]

is what it starts: `sam3-image fleet` with a model that an image can kill, as a broken decoder
would.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image, ImageDraw

from tests.helpers.cog_server import REPOSITORY
from tests.helpers.namespace import enter, is_alone, run_alone
from tests.helpers.web_server import WebServer
from tools.fleet_models import FATAL

URL = "http://127.0.0.1:8000"
REPLICA = "ray::ServeReplica:sam3-image:Model"
START_SECONDS = 180
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x" * 32}  # of Ray's, for this network alone
INPUTS = {"prompt": "red circle", "input_size_percent": 50}


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["deploy"])
    parser.add_argument("address", nargs="?", default="local")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="checks of this name alone")
    parser.add_argument("--default-routing", action="store_true")
    parser.add_argument("--line", type=int, default=64)
    options = parser.parse_args()
    if options.what == "deploy":
        return deploy(options.address, options.default_routing, options.line)
    if not is_alone():
        return run_alone([sys.executable, "-m", "tools.fleet_figures", *sys.argv[1:]]).returncode
    enter()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as fleet:
        checks = SHORT if options.short else ALL
        if options.only:
            checks = tuple(check for check in checks if check.__name__ in options.only)
        failed = [check.__name__ for check in checks if not timed(check, fleet)]
    print(f"failed: {', '.join(failed)}" if failed else "all right")
    return 1 if failed else 0


def deploy(address: str, default_routing: bool, line: int) -> int:
    """`sam3-image fleet`, with a model that an image with `FATAL` in it kills."""
    from ray.serve._private.constants import DEFAULT_REQUEST_ROUTER_PATH

    from sam3_image.fleet import FleetOptions, deployments, run_fleet
    from tools.fleet_models import FragileModel

    deployments.Model = FragileModel  # type: ignore[misc]
    if default_routing:
        module: Any = sys.modules["sam3_image.fleet.application"]
        module.ROUTER = DEFAULT_REQUEST_ROUTER_PATH
    os.environ["SAM3_WEB_MAX_WAITING"] = str(line)
    run_fleet(FleetOptions(host="127.0.0.1", replicas=2), address)
    return 0


class Fleet:
    """The fleet that is measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.process = self.start("local")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`deploy` as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tools.fleet_figures", "deploy", *arguments],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "SAM3_WEIGHTS": "demo",
                "SAM3_DEVICE": "cpu",
                **TOKEN,
            },
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("a"),
            stderr=subprocess.STDOUT,
        )

    def redeploy(self, *arguments: str) -> None:
        """Deploy again onto the Ray that runs; returns when all replicas are new."""
        assert self.start("auto", *arguments).wait(START_SECONDS) == 0, self.log.read_text()[-4000:]

    def wait(self) -> None:
        """Wait until it is open."""
        end = time.monotonic() + START_SECONDS
        while "fleet: open" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < end, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def replicas(self) -> list[int]:
        """Process ids of the replicas of the model."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [""])[0].startswith(REPLICA):
                found.append(process.pid)
        return sorted(found)

    def encodings(self) -> Counter[str]:
        """How many images were encoded ("miss") and found in a cache ("hit"), over all replicas."""
        counts: Counter[str] = Counter()
        for line in measures().splitlines():
            if line.startswith("sam3_encodings_total"):
                counts[line.partition('cache="')[2].partition('"')[0]] += int(
                    float(line.split()[-1])
                )
        return counts


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Fleet]:
    """A fleet of two replicas, ended with SIGTERM."""
    begin = time.monotonic()
    fleet = Fleet(folder)
    try:
        fleet.wait()
        print(f"open after {time.monotonic() - begin:.0f} s", flush=True)
        yield fleet
    finally:
        begin = time.monotonic()
        fleet.process.terminate()
        try:
            print(f"SIGTERM: exit {fleet.process.wait(90)} after {time.monotonic() - begin:.1f} s")
        except subprocess.TimeoutExpired:
            fleet.process.kill()


def timed(check: Callable[[Fleet], bool], fleet: Fleet) -> bool:
    begin = time.monotonic()
    good = check(fleet)
    print(f"  {'ok' if good else 'FAILED'}: {check.__name__} in {time.monotonic() - begin:.0f} s")
    sys.stdout.flush()
    return good


def picture(seed: int, tail: bytes = b"") -> bytes:
    """A PNG of 320 × 240 with a red circle, its own for each seed."""
    chance = random.Random(seed)
    image = Image.new("RGB", (320, 240), tuple(chance.randrange(150, 255) for _ in range(3)))
    x, y = chance.randrange(40, 240), chance.randrange(40, 160)
    ImageDraw.Draw(image).ellipse((x, y, x + 50, y + 50), fill=(220, 20, 20))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue() + tail


def ask_openai(client: httpx.Client, image: bytes) -> httpx.Response:
    """A question that carries its image."""
    form = {"prompt": "red circle", "mask_format": "rle"}
    return client.post("/v1/images/segmentations", files={"image": image}, data=form)


def ask_roboflow(client: httpx.Client, image: bytes) -> httpx.Response:
    """The same, in base64."""
    sent = {"type": "base64", "value": base64.b64encode(image).decode()}
    body = {"image": sent, "prompts": [{"type": "text", "text": "red circle"}]}
    return client.post("/sam3/concept_segment", json=body)


def by_clients(
    count: int, images: Sequence[bytes], ask: Callable[[httpx.Client, bytes], httpx.Response]
) -> Counter[int]:
    """How often each HTTP status was answered, 0 where there was no answer, to so many clients."""
    clients = threading.local()

    def one(image: bytes) -> int:
        if not hasattr(clients, "http"):
            clients.http = httpx.Client(base_url=URL, timeout=120)
        try:
            return ask(clients.http, image).status_code
        except httpx.TransportError:
            return 0

    with ThreadPoolExecutor(count) as pool:
        return Counter(pool.map(one, images))


def hit_rate(fleet: Fleet, images: Sequence[bytes], rounds: int) -> tuple[float, float]:
    """The rate of the second round, and requests a second over all of them."""
    rates, begin = [], time.monotonic()
    for number in range(rounds):
        before = fleet.encodings() if number == 1 else Counter[str]()
        assert set(by_clients(4, images, ask_openai)) == {200}
        if number == 1:
            found = fleet.encodings() - before
            rates.append(found["hit"] / found.total())
    return rates[0], len(images) * rounds / (time.monotonic() - begin)


def affinity(fleet: Fleet, count: int = 40, rounds: int = 5) -> bool:
    """Each image is encoded once, whoever asks."""
    images = [picture(seed) for seed in range(count)]
    rate, speed = hit_rate(fleet, images, rounds)
    print(f"{count} images × {rounds}, 4 clients: hit rate {rate:.2f} in the second round")
    print(f"  {speed:.1f} requests/s, the looks at the measures among them")
    return rate >= 0.95


def default_routing(fleet: Fleet) -> bool:
    """What Serve's own routing gives instead."""
    fleet.redeploy("--default-routing")
    rate, speed = hit_rate(fleet, [picture(seed) for seed in range(100, 140)], 5)
    print(f"the same with Serve's default routing: {rate:.2f}, {speed:.1f} requests/s")
    fleet.redeploy()
    return True


def uploads(_: Fleet, count: int = 200) -> bool:
    """A question about an image that was just sent finds it."""

    def ask(client: httpx.Client, image: bytes) -> httpx.Response:
        known = client.post("/api/pictures", content=image).json()["id"]
        return client.post("/api/segment", json={"picture": known, "inputs": INPUTS})

    found = by_clients(4, [picture(1000 + seed) for seed in range(count)], ask)
    print(f"upload, then a question, {count} times: {dict(found)}")
    return found == {200: count}


def asked_twice(_: Fleet) -> bool:
    """The second question about an image finds it encoded, in every replica."""
    hits = 0
    with httpx.Client(base_url=URL, timeout=120) as client:
        for seed in range(8):
            known = client.post("/api/pictures", content=picture(seed)).json()["id"]
            body = {"picture": known, "inputs": INPUTS}
            answers = [client.post("/api/segment", json=body).json() for _ in range(2)]
            hits += answers[1]["metrics"]["encoder_cached"]
    print(f"8 images asked twice: {hits} found encoded")
    return hits == 8


def kept_things(_: Fleet) -> bool:
    """Jobs, files, results, names and reference images are found whichever replica has them."""
    with httpx.Client(base_url=URL, timeout=120) as client:
        seen = []
        for seed in range(6):
            image = picture(2000 + seed)
            file = client.post("/v1/files", files={"content": image}).json()["urls"]["get"]
            body = {"input": {"image": file, "prompt": "red circle"}}
            job = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"}).json()
            again = client.get(job["urls"]["get"]).json()
            seen.append(again["status"])
            named = {"image_id": f"name-{seed}", "prompts": [{"type": "text", "text": "circle"}]}
            sent = {"type": "base64", "value": base64.b64encode(image).decode()}
            client.post("/sam3/embed_image", json={"image": sent, "image_id": f"name-{seed}"})
            seen.append(client.post("/sam3/concept_segment", json=named).status_code)
            url = f"data:image/png;base64,{sent['value']}"
            edit = {"input_image": url, "prompt": "red circle"}
            made = client.post("/api/ai/images/edit", json=edit).json()["images"][0]["url"]
            seen.append(client.get(made).status_code)
            other = client.post("/api/pictures", content=picture(3000 + seed)).json()["id"]
            own = client.post("/api/pictures", content=image).json()["id"]
            example = {"reference_image": other, "reference_boxes": [[10, 10, 90, 90]]}
            asked = {"picture": own, "inputs": example}
            seen.append(client.post("/api/segment", json=asked).status_code)
        listed = len(client.get("/v1/predictions").json()["results"])
    counts = Counter(seen)
    print(f"jobs, names, results, reference images: {dict(counts)}, {listed} jobs listed")
    return counts == {"succeeded": 6, 200: 18} and listed >= 6


def killed_replica(fleet: Fleet, count: int = 200) -> bool:
    """No request is lost when a replica is killed."""
    images = [picture(seed % 40) for seed in range(count)]
    victim = fleet.replicas()[0]
    timer = threading.Timer(2, os.kill, (victim, signal.SIGKILL))
    timer.start()
    found = by_clients(12, images, ask_roboflow)
    timer.join()
    print(f"kill -9 of a replica under 12 clients, {count} requests: {dict(found)}")
    return found == {200: count}


def fatal_image(fleet: Fleet, beside: int = 40) -> bool:
    """An image that kills its process is one error, and ends each replica once at most."""
    before = fleet.replicas()
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=URL, timeout=120) as client:
        images = [picture(seed % 40) for seed in range(beside)]
        others = pool.submit(by_clients, 4, images, ask_openai)
        fatal = picture(9999, FATAL)
        first, second = ask_openai(client, fatal), ask_openai(client, fatal)
        found = others.result()
    ended = len(set(before) - set(fleet.replicas()))
    print(f"a fatal image: {first.status_code}, again {second.status_code}; {ended} replicas ended")
    print(f"  {first.json()['message']}; beside it {dict(found)}")
    all_well = found[200] == beside == found.total()
    return first.status_code == second.status_code == 422 and ended <= 2 and all_well


def wait_for_replicas(fleet: Fleet, count: int) -> None:
    """Wait until so many replicas answer again after one was killed."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        asked = Counter(
            line.split()[0] for line in measures().splitlines() if "sam3_model_info" in line
        )
        if len(fleet.replicas()) >= count and asked.total() >= count:
            return
        time.sleep(1)
    raise AssertionError("the replicas did not come back")


def measures() -> str:
    """All measures of all replicas, in Prometheus' format."""
    return in_ray("from tools.fleet_models import print_measures; print_measures()")


def in_ray(code: str) -> str:
    """What a program prints that joins the Ray of the fleet."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def metrics_port(_: Fleet) -> bool:
    """Ray gives out the measures of all replicas."""
    code = "import ray; ray.init('auto', log_to_driver=False); "
    code += "print(ray.nodes()[0]['MetricsExportPort'])"
    done = in_ray(code).split()[-1]
    end, found = time.monotonic() + 60, 0
    while found < 2 and time.monotonic() < end:  # it collects them every ten seconds
        time.sleep(2)
        text = httpx.get(f"http://127.0.0.1:{done}/metrics").text
        found = len(re.findall(r"^ray_sam3_queue_length\{", text, re.M))
    print(f"queue lengths at Ray's metrics port: {found}")
    return found >= 2


def redeployed(fleet: Fleet, count: int = 300) -> bool:
    """Replicas are replaced without an error."""
    wait_for_replicas(fleet, 2)
    before = fleet.replicas()
    done = threading.Thread(target=fleet.redeploy)
    done.start()
    found: Counter[int] = Counter()
    while done.is_alive() or found.total() < count:
        found += by_clients(4, [picture(seed % 40) for seed in range(40)], ask_openai)
    done.join()
    new = set(fleet.replicas()) - set(before)
    print(f"redeployed under 4 clients: {dict(found)}, {len(new)} new replicas")
    return set(found) == {200} and len(new) == 2


def over_the_limit(fleet: Fleet) -> bool:
    """More clients than the line takes get 429 with Retry-After, and nothing else."""
    fleet.redeploy("--line", "2")
    retry = []

    def ask(client: httpx.Client, image: bytes) -> httpx.Response:
        answer = ask_openai(client, image)
        if answer.status_code == 429:
            retry.append(answer.headers.get("retry-after"))
        return answer

    found = by_clients(24, [picture(7)] * 300, ask)
    print(f"24 clients, one image, room for 20: {dict(found)}, Retry-After {set(retry)}")
    fleet.redeploy()
    return set(found) == {200, 429} and set(retry) == {"1"}


def leaving_clients(_: Fleet) -> bool:
    """The place of a client that leaves is free at once."""
    seconds = leave_and_ask()
    lines = [line for line in measures().splitlines() if line.startswith("sam3_queue_length")]
    waiting = sum(float(line.split()[-1]) for line in lines)
    print(f"24 clients left: {waiting:g} requests wait, the next one took {seconds:.2f} s")
    return waiting == 0 and seconds < 2


def leave_and_ask() -> float:
    """Seconds that a question takes after 24 clients have left in the middle of a long one."""
    image = picture(11)

    def leave(_: int) -> None:
        slow = {"prompt": "red circle", "tile_size": 64, "return_zip": False}
        with contextlib.suppress(httpx.TransportError):
            client = httpx.Client(base_url=URL, timeout=0.4)
            known = client.post("/api/pictures", content=image).json()["id"]
            client.post("/api/segment", json={"picture": known, "inputs": slow})

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(leave, range(24)))
    time.sleep(1)
    with httpx.Client(base_url=URL, timeout=120) as client:
        begin = time.monotonic()
        assert ask_openai(client, image).status_code == 200
        return time.monotonic() - begin


def overhead(fleet: Fleet, count: int = 200) -> bool:
    """What the fleet adds to a question about an image that is known."""
    environment = {"SAM3_WEIGHTS": "demo", "SAM3_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    with WebServer(fleet.folder / "web", environment) as web:
        web.ready()
        times: dict[str, list[float]] = {"fleet": [], "script/web": []}
        clients = {"fleet": httpx.Client(base_url=URL), "script/web": web.http}
        inputs = {"task": "visual", "points": [[60, 60]], "input_size_percent": 50}
        known = {
            name: client.post("/api/pictures", content=picture(5)).json()["id"]
            for name, client in clients.items()
        }
        for _ in range(count):
            for name, client in clients.items():
                begin = time.perf_counter()
                body = {"picture": known[name], "inputs": inputs}
                assert client.post("/api/segment", json=body).status_code == 200
                times[name].append(1000 * (time.perf_counter() - begin))
    p50 = {name: statistics.median(values) for name, values in times.items()}
    p95 = {name: statistics.quantiles(values, n=20)[-1] for name, values in times.items()}
    for name in times:
        print(f"a cached question to {name}: p50 {p50[name]:.1f} ms, p95 {p95[name]:.1f} ms")
    return p50["fleet"] - p50["script/web"] < 20


def fatal_image_after_the_kill(fleet: Fleet) -> bool:
    wait_for_replicas(fleet, 2)
    return fatal_image(fleet)


def fatal_image_alone(fleet: Fleet) -> bool:
    """Without waiting for the next replicas."""
    return fatal_image(fleet, 0)


def clients_that_left(_: Fleet) -> bool:
    """The same, by the next request alone."""
    return leave_and_ask() < 5


ALL = (
    *(affinity, uploads, kept_things, leaving_clients, metrics_port, overhead),
    *(killed_replica, fatal_image_after_the_kill, redeployed, over_the_limit, default_routing),
)
SHORT = (asked_twice, kept_things, clients_that_left, fatal_image_alone)


if __name__ == "__main__":
    sys.exit(main())
