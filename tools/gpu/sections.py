"""The sections of `tools.gpu.measure`, the most useful first, and the table that they end in."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import agreement, callers, full_size, measure, pictures
from benchmarks.whole import CONCEPTS
from sam3_image.decode import Limits, open_image
from sam3_image.model import Checkpoint, Find, Placement, Segmenter
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings
from sam3_image.shipped import DEMO
from tests.helpers.cog_server import CogServer, data_url
from tools.gpu import blobs, compiled, stages
from tools.gpu.device import Cpu, Cuda, Device, host_milliseconds, milliseconds, sampled_load

ROOT = Path(__file__).resolve().parents[2]
SIZES = ((960, 1280), (3000, 4000))  # (height, width)
LARGE = (4096, 4096)
INSTANCES = 5  # of a request, by its threshold: random weights give every query some score
BATCHES = (1, 2, 4, 8)
CONCEPT_COUNTS = (1, 2, 4, 8, 16)
CLIENTS, CLIENT_SECONDS = 8, 8.0
QUESTIONS = 30
MB = 1e6


@dataclass(frozen=True)
class Figure:
    """One measured number; `floor` is what the device's measured ceilings allow at best."""

    section: str
    case: str
    value: float
    unit: str
    floor: float | None = None
    note: str = ""

    def __str__(self) -> str:
        floor = "" if self.floor is None else f" (floor {self.floor:.3g})"
        return f"{self.case}: {self.value:.4g} {self.unit}{floor} {self.note}".rstrip()


@dataclass
class Bench:
    """What the sections share: the device, the loaded service, and the figures so far.

    rounds: how often each thing is measured. end: the `time.monotonic()` after which no section
        starts.
    """

    device: Device
    folder: Path
    out: Path
    scratch: Path
    rounds: int
    end: float
    rehearsal: bool
    section: str = ""
    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _service: Service | None = None

    @classmethod
    def prepare(cls, out: Path, minutes: float, rehearse: bool, weights: Path | None) -> Bench:
        """Make random weights, where none were named, and nothing else yet."""
        end = time.monotonic() + minutes * 60
        if not rehearse and not torch.cuda.is_available():
            sys.exit("torch sees no GPU here; --rehearse takes a CPU.")
        device: Device = Cpu() if rehearse else Cuda()
        scratch = Path(tempfile.mkdtemp(prefix="sam3-gpu-"))
        if weights is None:
            start = time.perf_counter()
            weights = DEMO if rehearse else _random_weights(scratch, device.kind)
            print(f"Weights in {weights}, made in {time.perf_counter() - start:.1f} s", flush=True)
        return cls(device, weights, out, scratch, 1 if rehearse else 20, end, rehearse)

    def run(self) -> None:
        """All sections in order, each on its own: one that fails is said, and the next begins."""
        print(f"On {self.device.describe()}", flush=True)
        for name, section in SECTIONS.items():
            self.section = name
            left = self.end - time.monotonic()
            if left < 0:
                self.say(f"skipped: the time is over by {-left:.0f} s")
                continue
            self.say(f"{left:.0f} s left")
            try:
                section(self)
            except Exception as error:  # whatever it is, the other figures are still wanted
                traceback.print_exc()
                self.failures.append(f"{name}: {type(error).__name__}: {error}")
        if self._service is not None:
            self._service.close()
        self.finish()

    def say(self, text: object) -> None:
        """Print a line at once: the call may be cut off."""
        print(f"[{self.section}] {text}", flush=True)

    def add(
        self, case: str, value: float, unit: str, floor: float | None = None, note: str = ""
    ) -> None:
        """Keep a figure, and print it."""
        figure = Figure(self.section, case, value, unit, floor, note)
        self.figures.append(figure)
        self.say(figure)

    def finish(self) -> None:
        """Print the table and write the JSON."""
        machine = {**measure.machine(torch.device("cpu")), "device": self.device.describe()}
        weights = "demo" if self.folder == DEMO else "random, full size"
        document = {
            "machine": machine,
            "weights": weights,
            "failures": self.failures,
            "figures": [asdict(figure) for figure in self.figures],
        }
        (self.out / "measure.json").write_text(json.dumps(document, indent=1, ensure_ascii=False))
        print(f"\n{machine}, weights: {weights}\n")
        print("| section | case | measured | floor | |\n| --- | --- | --- | --- | --- |")
        for one in self.figures:
            floor = "" if one.floor is None else f"{one.floor:.3g} {one.unit}"
            row = (one.section, one.case, f"{one.value:.4g} {one.unit}", floor, one.note)
            print(f"| {' | '.join(row)} |")
        for failure in self.failures:
            print(f"FAILED {failure}")

    @property
    def service(self) -> Service:
        """The service on this device, loaded when first asked for."""
        if self._service is None:
            self._service = Service(self.settings())
        return self._service

    @property
    def segmenter(self) -> Segmenter:
        """The service's model."""
        return self.service._segmenter

    def settings(self, dtype: str = "", folder: Path | None = None) -> Settings:
        """Of this device and these weights. dtype: "" for the device's default."""
        return Settings(weights=str(folder or self.folder), device=self.device.kind, dtype=dtype)

    def photo(self, size: tuple[int, int], seed: int = 0) -> Path:
        """A noisy JPEG of (height, width), the same one for the same seed."""
        path = self.scratch / f"{size[1]}x{size[0]}-{seed}.jpg"
        return path if path.exists() else pictures.save_photo(path, size, seed)

    def threshold(self, photo: Path, count: int = INSTANCES) -> float:
        """One that `count` instances of the first concept exceed, if there are so many."""
        pixels = open_image(photo, Limits()).pixels
        features = self.segmenter.encode(self.segmenter.prepare(pixels, self.segmenter.side(100)))
        scores = self.segmenter.segment(features, Find((CONCEPTS[0],), 0.0)).scores
        self.segmenter.forget()
        return 0.0 if len(scores) <= count else float((scores[count - 1] + scores[count]) / 2)


def _random_weights(scratch: Path, device: str) -> Path:
    """A checkpoint of full size, drawn on the GPU, or on the CPU where that fails."""
    try:
        return full_size.half(scratch, device)
    except RuntimeError:
        traceback.print_exc()
        return full_size.half(scratch)


def requests(bench: Bench) -> None:
    """A whole `predict()`: file to ZIP, wall time."""
    start = time.perf_counter()
    service = bench.service
    bench.add("load and warm up", time.perf_counter() - start, "s")
    for height, width in SIZES[: 1 if bench.rehearsal else None]:
        rounds = 1 if bench.rehearsal else 5
        photos = [bench.photo((height, width), seed) for seed in range(rounds + 1)]
        threshold = bench.threshold(photos[0])
        with blobs.instead_of_noise(INSTANCES):
            taken = _timed_requests(service, photos, threshold)
        for case, values in taken.items():
            # The first image finds new sizes for every buffer.
            bench.add(f"{width}×{height}, {case}", statistics.median(values[1:]), "ms")
        bench.add(f"{width}×{height}, very first request", taken["first request"][0], "ms")


def _timed_requests(
    service: Service, photos: list[Path], threshold: float
) -> dict[str, list[float]]:
    """Milliseconds of each kind of request, for each photo in turn."""
    taken: dict[str, list[float]] = {}
    for number, photo in enumerate(photos):
        texts = {"first request": CONCEPTS[0], "known image": CONCEPTS[0]}
        texts["another concept"] = CONCEPTS[1 + number % (len(CONCEPTS) - 1)]
        asked = {
            case: Request.from_inputs(prompt=text, threshold=threshold, max_instances=INSTANCES)
            for case, text in texts.items()
        }
        asked["click"] = Request.from_inputs(task="visual", points="[[400, 300]]")
        for case, request in asked.items():
            start = time.perf_counter()
            service.run(photo, request)
            taken.setdefault(case, []).append((time.perf_counter() - start) * 1e3)
    return taken


def batches(bench: Bench) -> None:
    """Several images in one pass, several concepts of one image, a grid of points."""
    segmenter = bench.segmenter
    side = segmenter.side(100)
    counts = BATCHES[: 2 if bench.rehearsal else None]
    squares = [
        segmenter.prepare(pictures.photo(side, side, seed), side) for seed in range(max(counts))
    ]
    for count in counts:
        encode = partial(segmenter.encode_all, squares[:count])
        taken = milliseconds(bench.device, encode, bench.rounds)
        bench.add(f"encoder, {count} images in a pass, each", taken / count, "ms")
    features = segmenter.encode(squares[0])
    for count in CONCEPT_COUNTS[: 2 if bench.rehearsal else None]:
        # At 1.0 nothing is found: the heads without the copies of masks.
        find = partial(segmenter.segment, features, Find(tuple(CONCEPTS[:count]), 1.0))
        taken = host_milliseconds(bench.device, find, bench.rounds)
        bench.add(f"{count} concepts of a known image", taken, "ms")
    if not _has_everything():
        bench.say("everything: skipped, this version has no task of that name")
        return
    per_side = 4 if bench.rehearsal else 32
    request = Request.from_inputs(task="everything", points_per_side=per_side)
    steps = segmenter.steps(features, request.task(features.size))
    taken = host_milliseconds(bench.device, lambda: [step() for step in steps], 1)
    bench.add(f"everything, {per_side**2} points, without upsampled masks", taken, "ms")


def _has_everything() -> bool:
    from sam3_image.model.prompts import TASKS

    return "everything" in TASKS


def precision(bench: Bench) -> None:
    """Half precision beside float32 on this device: the same instances, masks and scores?"""
    count = 3 if bench.rehearsal else QUESTIONS
    kind = torch.device(bench.device.kind)

    def loaded(folder: Path, dtype: torch.dtype) -> Segmenter:
        return Segmenter(Checkpoint.open(folder), Placement(kind, dtype))

    # TF32 would round the float32 that the others are compared with.
    torch.backends.cudnn.allow_tf32 = False
    exact = loaded(DEMO, torch.float32)
    dtypes = (torch.bfloat16,) if bench.rehearsal else (torch.bfloat16, torch.float16)
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        found = agreement.compare(exact, loaded(DEMO, dtype), count)
        bench.add(
            f"{name}, demo weights, same instances", found.same / count, "of 1", note=str(found)
        )
    del exact
    if bench.folder == DEMO:
        return
    photo = pictures.photo(*SIZES[0])
    answers = {}
    for dtype in (torch.float32, *dtypes):
        model = loaded(bench.folder, dtype)
        features = model.encode(model.prepare(photo, model.side(100)))
        answers[dtype] = model.segment(features, Find((CONCEPTS[0],), 0.0))
        del model, features
    for dtype in dtypes:
        _compare(bench, str(dtype).removeprefix("torch."), answers[torch.float32], answers[dtype])


def _compare(bench: Bench, name: str, exact: Any, half: Any) -> None:
    """Scores and best masks of two answers about the same image, of random weights."""
    difference = np.abs(np.sort(exact.scores) - np.sort(half.scores)).max()
    bench.add(f"{name}, full size, scores differ by at most", float(difference), "")
    masks = list(half.masks())[: 2 * INSTANCES]
    ious = [max(exact.mask(i).iou(mask) for mask in masks) for i in range(INSTANCES)]
    bench.add(f"{name}, full size, least mask IoU of the best {INSTANCES}", min(ious), "")


def memory(bench: Bench) -> None:
    """Device memory: of the weights, of a request, of the most that a request can find."""
    bench.segmenter.forget()
    bench.add("weights and caches at rest", bench.device.memory() / MB, "MB")
    cases = {"a request of 5 instances, 1280×960": (bench.photo(SIZES[0]), INSTANCES)}
    if not bench.rehearsal:
        cases["a request of 200 instances, 4096×4096"] = (bench.photo(LARGE), 200)
    for case, (photo, count) in cases.items():
        request = Request.from_inputs(prompt=CONCEPTS[0], threshold=0.0, max_instances=count)
        with bench.device.peak() as peak, blobs.instead_of_noise(count):
            start = time.perf_counter()
            bench.service.run(photo, request)
            seconds = time.perf_counter() - start
        bench.add(f"{case}: peak", peak[0] / MB, "MB", note=f"{seconds:.2f} s")
    crops = bench.segmenter.batch(bench.segmenter.side(100))
    bench.add("tiles that go through the encoder together", crops, "")


def faults(bench: Bench) -> None:
    """The tests of faults that need a GPU: out of memory and a lost device."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "--noconftest",
        "-p",
        "no:cacheprovider",
    ]
    # Elsewhere the CPU's variant runs with the other tests.
    command += ["tests/unit/test_gpu_faults.py", "-k", "cuda or lost"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    print(done.stdout[-2000:], flush=True)
    bench.add("pytest's exit status", done.returncode, "", note=done.stdout.strip().split("\n")[-1])


def clients(bench: Bench) -> None:
    """Eight clients at Cog's server, each image a new one; how busy the device is."""
    photos = [bench.photo(SIZES[0], seed) for seed in range(2 if bench.rehearsal else 24)]
    threshold = bench.threshold(photos[0])
    bodies = []
    for photo in photos:
        image = data_url(photo.read_bytes(), "image/jpeg")
        inputs = {
            **{"image": image, "prompt": CONCEPTS[0]},
            **{"threshold": threshold, "max_instances": INSTANCES},
        }
        bodies.append(json.dumps({"input": inputs}).encode())
    environment = {
        "SAM3_WEIGHTS": str(bench.folder),
        "SAM3_DEVICE": bench.device.kind,
        "COG_MAX_CONCURRENCY": "18",
        blobs.VARIABLE: str(INSTANCES),
    }
    predictor = "tools/gpu/blobs.py:Predictor"
    with CogServer(bench.scratch / "server", environment, predictor=predictor) as server:
        server.ready()
        for count in (1, CLIENTS):
            seconds = 0.5 if bench.rehearsal else CLIENT_SECONDS
            with sampled_load(bench.device) as load:
                found = callers.load(server.port, bodies, count, seconds)
            busy = statistics.mean(load) if load else 0.0
            note = f"device busy {busy:.0f} %, 95 of 100 within {found.p95 * 1e3:.0f} ms"
            bench.add(f"{count} clients, 1280×960", found.rate, "requests/s", note=note)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "a whole request": requests,
    "b stages": stages.section,
    "c batches": batches,
    "d precision": precision,
    "e memory": memory,
    "f faults": faults,
    "g clients": clients,
    "h compiled": compiled.section,
}
