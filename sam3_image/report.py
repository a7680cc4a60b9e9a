"""What a person sees while a request runs: log lines, progress, and the same figures as metrics."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

# A library's logger: silent until a program configures logging or calls `log_to_stdout`.
LOG = logging.getLogger("sam3_image")
LOG.addHandler(logging.NullHandler())

QUEUE = "timing.queue"

Metrics = dict[str, float | int | str]
Progress = Callable[[int, int], None]


class _LineHandler(logging.Handler):
    """Writes each record in one write: Cog mixes up what several requests write in pieces.

    `sys.stdout` is looked up each time, because Cog and the command line redirect it.
    """

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().splitlines())
        failed = record.exc_info and record.exc_info[0] is not None
        trace = logging.Formatter().formatException(record.exc_info) if failed else ""  # type: ignore[arg-type]
        if self._as_json:
            stamp = datetime.fromtimestamp(record.created, UTC).isoformat()
            about = {"time": stamp, "level": record.levelname.lower(), "message": text}
            about |= getattr(record, "fields", {})
            text = json.dumps(about | ({"traceback": trace} if trace else {}))
        elif trace:
            text += f"\n{trace}"
        sys.stdout.write(f"{text}\n")


def log_to_stdout(as_json: bool = False) -> None:
    """Print the log of this process, one line a message: for Cog and for commands.

    as_json: each line is an object with time, level, message, and what else a message carries.
    """
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    if not any(isinstance(handler, _LineHandler) for handler in LOG.handlers):
        LOG.addHandler(_LineHandler(as_json))


def quiet(*_: object) -> None:
    """A log that keeps nothing, and a progress that shows nothing."""


@dataclass
class Report:
    """The log, the progress and the metrics of one request.

    say: takes a line of the log, with values for its %s as in `logging`.
    progress: called with the number of tiles done and their total.
    metrics: seconds of each stage under `timing.NAME`, and other figures.
    """

    say: Callable[..., None] = LOG.info
    progress: Progress = quiet
    metrics: Metrics = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds that the block works to the metric `timing.NAME`.

        What it spends waiting for its turn belongs to `timing.queue` alone.
        """
        start, waited = time.perf_counter(), self.metrics.get(QUEUE, 0.0)
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            seconds -= float(self.metrics.get(QUEUE, 0.0)) - float(waited)
            self._add(f"timing.{name}", max(seconds, 0.0))

    def waited(self, seconds: float) -> None:
        """Add seconds in which the request could do nothing but wait for others."""
        self._add(QUEUE, seconds)

    def _add(self, key: str, seconds: float) -> None:
        """Add seconds to a metric."""
        self.metrics[key] = round(float(self.metrics.get(key, 0.0)) + seconds, 4)
