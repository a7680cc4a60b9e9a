"""Panning and zooming 24 megapixels with 200 instances in Chromium: how long its tasks take.

python -m tools.page_frames [--count 200]

Prints, for the page's main thread, the longest task by the clock and by its own CPU time (on a
shared machine a task also waits for others), the frames, and what the tab holds.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from sam3_image.masks import Mask, rle
from tests.helpers.browser import Visit, chromium
from tests.helpers.web_server import WebServer

WIDTH, HEIGHT = 6000, 4000
LONG_MS = 50
TASKS = {"RunTask", "ThreadControllerImpl::RunTask"}


def picture() -> bytes:
    """A noisy JPEG of 24 megapixels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def answer(count: int) -> dict[str, Any]:
    """So many blobs with ragged edges, side by side and over one another."""
    rng = np.random.default_rng(1)
    instances, scores = [], np.linspace(0.99, 0.55, count)
    for score in scores:
        radius = int(rng.uniform(60, 320))
        y, x = np.mgrid[-radius:radius, -radius:radius]
        angle = np.arctan2(y, x)
        waves = sum(
            rng.uniform(0, 0.08) * np.sin(k * angle + rng.uniform(0, 6)) for k in range(2, 40)
        )
        inside = np.hypot(x, y) < radius * (0.7 + waves)
        top, left = rng.integers(0, HEIGHT - 2 * radius), rng.integers(0, WIDTH - 2 * radius)
        mask = Mask(inside, int(top), int(left), (HEIGHT, WIDTH))
        record = {"concept": "blob", "score": score, "area": mask.area, "rle": rle.encode(mask)}
        instances.append(record)
    return {
        "annotations": {"instances": instances},
        "scores": scores.tolist(),
        "metrics": {"timing.find": 0.1},
    }


def move(visit: Visit) -> None:
    """What a person does for a few seconds: zoom in and out, pan at several zooms."""
    visit.mode("words")
    mouse = visit.page.mouse
    mouse.move(450, 380)
    for _ in range(4):
        for _ in range(12):
            mouse.wheel(0, -200)
        mouse.down()
        mouse.move(750, 200, steps=25)
        mouse.move(200, 600, steps=25)
        mouse.up()
        for _ in range(5):
            mouse.wheel(0, 200)
        mouse.down()
        mouse.move(750, 200, steps=25)
        mouse.up()
        for _ in range(14):
            mouse.wheel(0, 200)
        mouse.move(300, 300, steps=10)
        mouse.move(450, 380, steps=10)


def tasks(trace: bytes) -> tuple[list[float], list[float]]:
    """Milliseconds of each task of the page's main thread: by the clock, and of its CPU time."""
    events = json.loads(trace)["traceEvents"]
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["ph"] == "M" and event["name"] == "thread_name"
    }
    drawing = {event["pid"] for event in events if event["name"] == "FireAnimationFrame"}
    mine = [
        event
        for event in events
        if event["name"] in TASKS
        and event["ph"] == "X"
        and event["pid"] in drawing
        and names.get((event["pid"], event["tid"])) == "CrRendererMain"
    ]
    clock = [event["dur"] / 1000 for event in mine]
    return clock, [event.get("tdur", event["dur"]) / 1000 for event in mine]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        environment = {"SAM3_WEIGHTS": "weights/demo"}
        with (
            WebServer(Path(folder), environment) as web,
            Visit(browser, web.ready().url) as visit,
        ):
            whole = answer(count)
            visit.page.route("**/api/segment", lambda route: route.fulfill(json=whole))
            visit.open({"name": "large.jpg", "mimeType": "", "buffer": picture()})
            visit.ask("blob").expect_count(count)
            move(visit)  # once, so that all is compiled
            visit.page.evaluate(FRAMES)
            browser.start_tracing(page=visit.page, categories=["toplevel", "devtools.timeline"])
            move(visit)
            clock, used = tasks(browser.stop_tracing())
            frames = visit.page.evaluate("() => window.frames_seen")
            over = [sum(value > LONG_MS for value in times) for times in (clock, used)]
            print(f"{len(clock)} tasks of the page; longest {max(clock):.0f} ms by the clock,")
            print(f"{max(used):.0f} ms of CPU; over {LONG_MS} ms: {over[0]} and {over[1]}")
            apart = [np.median(frames), np.percentile(frames, 99), max(frames)]
            print(f"{len(frames)} frames; apart: median, 99 %, most: {np.round(apart)} ms")
            print(f"tab: {tab_megabytes():.0f} MB of its own")


FRAMES = """() => { window.frames_seen = []; let last = performance.now();
    const next = (now) => { window.frames_seen.push(now - last); last = now;
        requestAnimationFrame(next); }; requestAnimationFrame(next); }"""


def tab_megabytes() -> float:
    """The private memory of the largest renderer below this process."""
    mine = psutil.Process().children(recursive=True)
    tabs = [process for process in mine if "--type=renderer" in process.cmdline()]
    return max(process.memory_full_info().uss for process in tabs) / 1e6


if __name__ == "__main__":
    main()
