"""Thousands of mixed predictions over HTTP, good and bad, and what is left of them in the server.

script/soak [--count 2000] [--seed 0]      by hand, not in CI: 2,000 take five to twenty minutes

Eight clients send at the same time. Every answer is checked. Every 200 predictions the server is
measured at rest: memory, open files and threads of its processes, files in its temporary folder.
Ends with a verdict and exit status 1 if anything grew.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from tests.helpers import image_bombs, image_corpus
from tests.helpers.callers import together
from tests.helpers.cog_server import REPOSITORY, CogServer, Result, data_url, png
from tests.helpers.second_scenes import random_picture
from tests.helpers.server_measure import Measure, growth_of

CLIENTS = 8
EVERY, WARM_UP = 200, 2  # predictions between two measurements; measurements until all is warm
MEMORY_GROWTH = 0.02
GRACE = 60 + 30  # seconds until files that nobody uses are gone, and until somebody has looked
PROCESSES = ("server", "worker")
# Features of images are cached up to a budget of bytes (tested elsewhere), and what a cache holds
# is no leak: the images are few, and the first predictions see each in every way it is cached.
PICTURES = 12
CORPUS = 12
PROMPTS = ["red circle", "blue square", "star", "green triangle", "yellow circle", "circle"]

Inputs = dict[str, Any]


class Soak:
    """One run against one server; `counts` says what was sent and how it ended."""

    def __init__(self, server: CogServer, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.number = 0
        self.lock = threading.Lock()
        self.pictures = [_picture(number) for number in range(PICTURES)]
        self.corpus = self.random.sample(list(image_corpus.cases()), CORPUS)
        self.filling: list[Callable[[], None]] = [
            *(partial(self.fill, image, size) for image in self.pictures for size in (100, 50)),
            *(partial(self.fill, case.data, 100) for case in self.corpus),
        ]
        self.kinds: list[tuple[int, Callable[[], None]]] = [
            (50, self.good),
            (15, self.corpus_image),
            (10, self.bad_image),
            (8, self.bad_inputs),
            (4, self.local_path),
            (4, self.broken_download),
            (8, self.cancelled),
            (4, self.client_gone),
        ]

    def several(self, count: int) -> None:
        """So many predictions, by eight clients at the same time."""
        left = iter(range(count))

        def client(_: int) -> None:
            while True:
                with self.lock:
                    if next(left, None) is None:
                        return
                self.step()

        together(CLIENTS, client)

    def step(self) -> None:
        """One prediction of a random kind; the first ones fill the caches."""
        weights, kinds = zip(*self.kinds, strict=True)
        with self.lock:
            kind = self.filling.pop() if self.filling else self.random.choices(kinds, weights)[0]
            self.number += 1
        try:
            kind()
        except Exception as error:  # the run goes on and says so at the end
            self.wrong.append(f"{kind}: {type(error).__name__}: {error}")
        self.counts[getattr(kind, "__name__", "fill")] += 1

    def at_rest(self) -> Measure:
        """After the same small, good prediction each time, measured when nothing runs."""
        self.server.wait_for("READY", seconds=60)
        self.expect(self.server.predict(image=self.pictures[0], prompt="star"), "succeeded")
        self.server.wait_for("READY", seconds=60)
        time.sleep(1)
        return Measure.of(self.server)

    def left_after_grace(self) -> int:
        """Files that are still there when nobody has used them for the time of grace."""
        end = time.monotonic() + GRACE
        while (left := Measure.of(self.server).temporary) and time.monotonic() < end:
            self.server.health()  # whoever looks after the server asks for it every few seconds
            time.sleep(2)
        return left

    def expect(self, result: Result, *statuses: str) -> None:
        """Note an answer of another kind, and errors that are not one clean line."""
        if result.status not in statuses:
            self.wrong.append(f"{result.status}, not {statuses}: {result.error[:200]}")
        elif result.status != "succeeded" and (
            not result.error or "Traceback" in result.error or "\n" in result.error.strip()
        ):
            self.wrong.append(f"no clean line: {result.error[:300]!r}")

    # Kinds of predictions

    def fill(self, image: bytes, percent: int) -> None:
        """One image in the caches of both tasks."""
        same = {"image": data_url(image), "input_size_percent": percent}
        self.expect(self.server.predict(**same, prompt="star"), "succeeded", "failed")
        visual = self.server.predict(**same, task="visual", points="[[20, 20]]")
        self.expect(visual, "succeeded", "failed")

    def good(self) -> None:
        """Every kind of prompt and of output."""
        choose = self.random.choice
        outputs: list[Inputs] = [
            {},
            {"save_overlay": True, "output_format": choose(["png", "jpg", "webp"])},
            {"annotation_format": choose(["coco", "rle", "polygon"]), "apply_mask": True},
            {"return_zip": False, "show_labels": True, "mask_color": "distinct"},
            {"return_zip": False, "mask_only": True},
            {"return_zip": False, "apply_mask": True, "output_format": "webp"},
            {"return_zip": False, "annotation_format": "coco"},
        ]
        inputs: Inputs = {
            "image": choose(self.pictures),
            "threshold": choose([0.0, 0.3, 0.5, 0.9]),
            "input_size_percent": choose([100, 100, 50]),
            **choose(outputs),
        }
        match choose(["text", "texts", "exemplar", "point", "box"]):
            case "text":
                inputs["prompt"] = choose(PROMPTS)
            case "texts":
                inputs["prompts"] = self.random.sample(PROMPTS, 3)
            case "exemplar":
                inputs["boxes"] = "[[10, 10, 60, 60]]"
            case "point":
                inputs |= {"task": "visual", "points": "[[40, 40]]", "multimask_output": True}
                del inputs["threshold"]
            case "box":
                inputs |= {"task": "visual", "boxes": "[[10, 10, 60, 60], [50, 50, 90, 90]]"}
                del inputs["threshold"]
        self.expect(self.server.predict(**inputs), "succeeded")

    def corpus_image(self) -> None:
        """Any file of the corpus: right or refused."""
        case = self.random.choice(self.corpus)
        allowed = {"good": ("succeeded",), "mislabelled": ("succeeded",), "bomb": ("failed",)}
        result = self.server.predict(image=data_url(case.data, "image/png"), prompt="star")
        self.expect(result, *allowed.get(case.kind, ("succeeded", "failed")))

    def bad_image(self) -> None:
        """No image, or one that is refused."""
        data = self.random.choice(
            [b"", b"hello", b"%PDF-1.7", bytes(100_000), image_bombs.huge_png(20_000)]
        )
        self.expect(self.server.predict(image=data_url(data, "image/png")), "failed")

    def bad_inputs(self) -> None:
        """Inputs that Cog or the predictor refuses."""
        bad: list[Inputs] = [
            {"prompt": ""},
            {"prompt": "x " * 60},
            {"prompt": "x" * 501},
            {"threshold": 2},
            {"mask_color": "mauve"},
            {"boxes": "[[1,2,3]]"},
            {"boxes": "no JSON"},
            {"task": "visual"},
            {"points": "[[1,1]]"},
            {"prompts": []},
        ]
        inputs = {"image": self.pictures[0], **self.random.choice(bad)}
        self.expect(self.server.predict(**inputs), "failed", "invalid")

    def local_path(self) -> None:
        """What is not a URL: nothing may be read."""
        name = self.random.choice(["/etc/hostname", "/dev/zero", "predict.py", "file:///etc/hosts"])
        self.expect(self.server.predict(image=name), "failed")

    def broken_download(self) -> None:
        """An address where nobody listens: Cog leaves an empty file behind each time."""
        self.expect(self.server.predict(image="http://127.0.0.1:9/image.png"), "failed")

    def cancelled(self) -> None:
        """Cancelled at any moment of its life."""
        name = f"soak-{uuid.uuid4()}"
        inputs: Inputs = {
            "image": self.random.choice(self.pictures),
            "prompts": PROMPTS,
            "threshold": 0.0,
            "save_overlay": True,
        }
        answer = self.server.send(
            "PUT", f"/predictions/{name}", inputs, headers={"Prefer": "respond-async"}
        )
        if answer.status_code != 202:
            self.wrong.append(f"async: HTTP {answer.status_code}")
        time.sleep(self.random.choice([0, 0.01, 0.05, 0.1, 0.3]))
        status = self.server.http.post(f"/predictions/{name}/cancel").status_code
        self.counts["cancelled in time" if status == 200 else "cancelled too late"] += 1
        self.server.wait_for("READY", seconds=60)

    def client_gone(self) -> None:
        """The connection closes before the answer."""
        image = data_url(self.random.choice(self.pictures))
        body = json.dumps({"input": {"image": image, "prompts": PROMPTS}}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            connection.sendall(
                b"POST /predictions HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            time.sleep(self.random.choice([0, 0.05, 0.2]))
        self.server.wait_for("READY", seconds=60)


def _picture(number: int) -> bytes:
    """A drawn scene; some are large, turned, or in another format."""
    picture, _ = random_picture(seed=number)
    if number % 5 == 0:
        picture = picture.resize((1600, 1200))
    if number % 4 == 0:
        return png(np.asarray(picture))
    buffer = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = 1 + number % 8
    picture.save(buffer, "JPEG" if number % 3 else "WEBP", exif=exif)
    return buffer.getvalue()


def main() -> int:
    """Run, print the figures, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="number of predictions")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices")
    arguments = parser.parse_args()
    weights = {"SAM3_WEIGHTS": str(REPOSITORY / "weights" / "demo")}
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        CogServer(Path(folder) / "server", weights) as server,
    ):
        soak = Soak(server.ready(), arguments.seed)
        print(f"start: {Measure.of(server)}", flush=True)
        measures = []
        while soak.number < arguments.count:
            soak.several(EVERY)
            measures.append(soak.at_rest())
            minutes = (time.monotonic() - started) / 60
            print(f"{soak.number}: {measures[-1]} after {minutes:.1f} minutes", flush=True)
        left = measures[-1].temporary and soak.left_after_grace()
    print("sent:", ", ".join(f"{count} {kind}" for kind, count in sorted(soak.counts.items())))
    for line in soak.wrong:
        print("WRONG:", line)
    first, last = measures[0], measures[-1]
    warm = measures[WARM_UP - 1 :] or measures
    growth = {name: growth_of([getattr(one, name) for one in warm]) for name in PROCESSES}
    grown = [
        name
        for name, bad in {
            f"memory of the worker {growth['worker']:+.1%}": growth["worker"] > MEMORY_GROWTH,
            f"open files {first.files} → {last.files}": last.files > first.files,
            f"threads {dict(last.names - first.names)}": last.names - first.names,
            f"temporary files {left}": left,
        }.items()
        if bad
    ]
    for name in PROCESSES:
        print(f"memory of the {name} {growth[name]:+.2%} since the first {WARM_UP * EVERY}")
    print("grown: " + ", ".join(grown) if grown else "nothing grew")
    return 1 if grown or soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
