"""What a person sees of a run: a bar on a terminal, plain lines in a log, a summary at the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import IO

from tqdm import tqdm

from sam3_image.batch.driver import Totals
from sam3_image.errors import shown

MINUTE = 60.0
SHOWN_FILES = 10  # of each kind of error, at the end
# In the order of an image's way; the model waits while there is no image to segment.
STAGES = ("read", "decode", "segment", "rows", "write")
WAIT = "wait for an image"


class RunProgress:
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
        """Return images per second since the first worker was ready, None before there are any."""
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
            rate = self.rate(totals)
            left = duration((self._total - totals.rows) / rate) if rate else "unknown"
            say(
                self._file,
                f"{totals.rows:,} of {self._total:,} images, "
                f"{f'{rate:.1f}' if rate else '–'} images/s, {totals.instances:,} instances, "
                f"{totals.failed:,} errors, time left: {left}",
            )

    def end(self, totals: Totals) -> list[str]:
        """Return the lines at the end of a run."""
        rate = self.rate(totals)
        speed = f" ({rate:.1f} images/s once the model was loaded)" if rate else ""
        lines = [
            f"{totals.rows:,} images in {duration(self._clock() - self._begun)}{speed}: "
            f"{totals.rows - totals.failed:,} segmented, {totals.instances:,} instances, "
            f"{_count(totals.failed, 'error')}"
        ]
        if totals.deaths:
            lines.append(f"{_count(totals.deaths, 'worker')} died")
        each = {
            name: 1000 * totals.seconds.get(name, 0.0) / max(totals.rows, 1)
            for name in (*STAGES, WAIT)
        }
        waited = each.pop(WAIT)
        lines.append(
            f"slowest stage: {max(each, key=lambda name: each[name])}; milliseconds an image: "
            f"{', '.join(f'{name} {value:.1f}' for name, value in each.items())}; the model "
            f"waited {waited:.1f}"
        )
        if totals.memory:
            lines.append(f"memory of the largest worker: {totals.memory / 1e6:,.0f} MB")
        return lines

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.close()


def error_lines(errors: Sequence[tuple[str, str]]) -> list[str]:
    """Return what is wrong with which images: by error, the most frequent first.

    errors: address and sentence. Sentences that differ in names and numbers only are one.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for uri, sentence in errors:
        kind = re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*", "…", sentence)
        groups.setdefault(kind, []).append((uri, sentence))
    lines = [f"{_count(len(errors), 'error')}:"] if errors else []
    for group in sorted(groups.values(), key=len, reverse=True):
        files = [shown(uri, 200) for uri, _ in group[:SHOWN_FILES]]
        if len(group) == 1:
            lines.append(f"  {files[0]}: {group[0][1]}")
            continue
        lines += [f"  {len(group):,} images: {group[0][1]}", *(f"    {file}" for file in files)]
        if len(group) > SHOWN_FILES:
            lines.append(f"    and {len(group) - SHOWN_FILES:,} more")
    return lines


def estimate(done: int, whole: int, rate: float | None, size: int) -> str:
    """Return what `done` images at `rate` images per second, and `size` bytes, say about all."""
    time_for_all = duration(whole / rate) if rate else "unknown time"
    return (
        f"estimate from {done:,} images: all {whole:,} take about {time_for_all} here once the "
        f"model is loaded, and {size / done * whole / 1e6:,.1f} MB of results"
    )


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def say(file: IO[str], text: str) -> None:
    """Write one line of the log."""
    print(f"batch: {text}", file=file, flush=True)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
