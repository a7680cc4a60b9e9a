"""What a person sees while a prediction runs: log lines, and the same figures as metrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

QUEUE = "timing.queue"

Progress = Callable[[int, int], None]


def print_line(text: str) -> None:
    """Print one whole line in one write: Cog mixes up what several requests write in pieces."""
    sys.stdout.write(" ".join(text.splitlines()) + "\n")


def quiet(_text: str) -> None:
    """Say nothing: for a caller without a log."""


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


@dataclass
class Report:
    """The log and the metrics of one prediction.

    say: writes one line. progress: is called with how many tiles are done, and how many there are.
    """

    say: Callable[[str], None] = print_line
    progress: Progress = no_progress
    metrics: dict[str, float | int | str] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds that the block works to the metric `timing.NAME`.

        What it spends waiting for its turn belongs to `timing.queue` alone.
        """
        start, waited = time.perf_counter(), self._seconds(QUEUE)
        try:
            yield
        finally:
            seconds = time.perf_counter() - start - (self._seconds(QUEUE) - waited)
            self._add(f"timing.{name}", max(seconds, 0.0))

    def waited(self, seconds: float) -> None:
        """Add seconds in which the prediction could do nothing but wait for others."""
        self._add(QUEUE, seconds)

    def _seconds(self, key: str) -> float:
        return float(self.metrics.get(key, 0.0))

    def _add(self, key: str, seconds: float) -> None:
        self.metrics[key] = round(self._seconds(key) + seconds, 4)
