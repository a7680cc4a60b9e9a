"""What a person sees of a run: a bar on a terminal, plain lines in a log, a summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO

from tqdm import tqdm

from sam3_image.batch.driver import Totals
from sam3_image.errors import shown

MINUTE = 60.0
# In the order of an image's way; the model waits while there is no image to segment.
STAGES = ("read", "decode", "segment", "rows", "write")
WAIT = "wait for an image"


class Progress:
    """Watches the totals of a run."""

    def __init__(self, total: int, file: IO[str], clock: Callable[[], float] = time.monotonic):
        """total: images of this run. file: where to write; a terminal gets a bar."""
        self._total = total
        self._file = file
        self._clock = clock
        self._begun = self._said = clock()
        self._ready: float | None = None  # when the first worker had loaded the model
        self._bar = (
            tqdm(total=total, unit=" images", file=file, dynamic_ncols=True, smoothing=0.1)
            if file.isatty()
            else None
        )

    def rate(self, totals: Totals) -> float | None:
        """Images per second since the first worker was ready, None before there are any."""
        if self._ready is None or not totals.rows:
            return None
        return totals.rows / max(self._clock() - self._ready, 1e-3)

    def __call__(self, totals: Totals) -> None:
        """Show what is done so far."""
        now = self._clock()
        if totals.ready and self._ready is None:
            self._ready = now
            if self._bar is not None:
                self._bar.start_t = self._bar.last_print_t = self._bar._time()
        if self._bar is not None:
            self._bar.set_postfix(instances=totals.instances, errors=totals.failed, refresh=False)
            self._bar.update(totals.rows - self._bar.n)
        elif now - self._said >= MINUTE:
            self._said = now
            say(self._file, self._line(totals))

    def end(self, totals: Totals) -> list[str]:
        """Return the lines at the end of a run."""
        seconds = self._clock() - self._begun
        rate = self.rate(totals)
        speed = f" ({rate:.1f} images/s once the model was loaded)" if rate else ""
        return [
            f"{totals.rows:,} images in {duration(seconds)}{speed}: "
            f"{totals.rows - totals.failed:,} segmented, {totals.instances:,} instances, "
            f"{totals.failed:,} {'error' if totals.failed == 1 else 'errors'}",
            *_details(totals),
        ]

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, totals: Totals) -> str:
        rate = self.rate(totals)
        left = duration((self._total - totals.rows) / rate) if rate else "unknown"
        return (
            f"{totals.rows:,} of {self._total:,} images, "
            f"{f'{rate:.1f}' if rate else '–'} images/s, {totals.instances:,} instances, "
            f"{totals.failed:,} errors, time left: {left}"
        )


def _details(totals: Totals) -> list[str]:
    lines = []
    if totals.deaths:
        lines.append(f"{totals.deaths} {'worker' if totals.deaths == 1 else 'workers'} died")
    each = {name: 1000 * totals.seconds.get(name, 0.0) / max(totals.rows, 1) for name in STAGES}
    slowest = max(each, key=lambda name: each[name])
    times = ", ".join(f"{name} {value:.1f}" for name, value in each.items())
    waited = 1000 * totals.seconds.get(WAIT, 0.0) / max(totals.rows, 1)
    lines.append(
        f"slowest stage: {slowest}; milliseconds an image: {times}; the model waited {waited:.1f}"
    )
    if totals.memory:
        lines.append(f"memory of the largest worker: {totals.memory / 1e6:,.0f} MB")
    if totals.failed:
        count = len(totals.errors)
        lines.append(f"the first {count} errors:" if count > 1 else "the error:")
        lines += [f"  {shown(uri, 200)}: {error}" for uri, error in totals.errors[:count]]
    return lines


def estimate(done: int, whole: int, rate: float | None, size: int) -> str:
    """Return what `done` images at `rate` images per second say about all: time, bytes of
    the results.
    """
    time_for_all = duration(whole / rate) if rate else "unknown time"
    return (
        f"estimate from {done:,} images: all {whole:,} take about {time_for_all} here once the "
        f"model is loaded, and {size / done * whole / 1e6:,.1f} MB of results"
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def say(file: IO[str], text: str) -> None:
    """One line of the log."""
    print(f"batch: {text}", file=file, flush=True)
