"""What a person sees while a prediction runs: log lines, and the same figures as metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Report:
    """The log and the metrics of one prediction; `say` writes one line."""

    say: Callable[[str], None]
    metrics: dict[str, float | int | str] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to the metric `timing.NAME`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            key = f"timing.{name}"
            seconds = float(self.metrics.get(key, 0.0)) + time.perf_counter() - start
            self.metrics[key] = round(seconds, 4)
