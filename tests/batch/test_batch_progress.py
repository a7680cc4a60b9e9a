"""What a person sees of a run, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from benchmarks import bulk
from sam3_image.batch.driver import Totals
from sam3_image.batch.job import Manifest
from sam3_image.batch.progress import RunProgress, duration, error_lines, estimate


class Clock:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def totals(rows: int) -> Totals:
    found = Totals(ready=1)
    found.add(Manifest("part", rows, 0, 3 * rows, seconds={"segment": 2.0, "decode": 0.5}))
    return found


def test_a_log_gets_a_line_a_minute_and_a_rate_without_the_loading() -> None:
    log, clock = io.StringIO(), Clock()
    progress = RunProgress(100, log, clock)
    progress(Totals(ready=1))
    for clock.now in (59, 60, 61):
        progress(totals(20))
    assert log.getvalue() == (
        "batch: 20 of 100 images, 0.3 images/s, 60 instances, 0 errors, time left: 4 min 0 s\n"
    )


def test_loading_is_not_part_of_the_speed() -> None:
    clock = Clock()
    progress = RunProgress(20, io.StringIO(), clock)
    progress(Totals())
    clock.now = 30
    progress(Totals(ready=1))
    clock.now = 40
    lines = progress.end(totals(20))
    assert lines[0].startswith("20 images in 40 s (2.0 images/s once the model was loaded)")
    assert "slowest stage: segment" in lines[1]


def test_the_benchmark_reads_what_is_said() -> None:
    done = totals(20)
    done.memory = 1_234_000_000
    log = "\n".join(["batch: 2 workers on cpu", *RunProgress(20, io.StringIO()).end(done)])
    assert bulk.figure(bulk.MEMORY, log) == 1234
    with pytest.raises(RuntimeError, match="the log has no"):
        bulk.figure(bulk.SPEED, log)


def test_a_terminal_gets_one_bar() -> None:
    screen = Terminal()
    progress = RunProgress(20, screen)
    progress(Totals(ready=1))
    progress(totals(5))
    progress(totals(20))
    progress.close()
    assert "20/20" in screen.getvalue()
    assert "instances=60" in screen.getvalue()
    assert screen.getvalue().count("\n") == 1


def test_errors_are_counted_by_sentence_with_their_first_files() -> None:
    errors = [(f"{n}.png", f"The image '{n}.png' has {n:,} bytes too many") for n in range(1200)]
    lines = error_lines([("odd.png", "why"), *errors])
    assert lines[0] == "1,201 errors:"
    assert lines[1] == "  1,200 images: The image '0.png' has 0 bytes too many"
    assert lines[2:12] == [f"    '{n}.png'" for n in range(10)]
    assert lines[12] == "    and 1,190 more"
    assert lines[13:] == ["  'odd.png': why"]
    assert error_lines([]) == []


def test_durations_and_estimates() -> None:
    assert [duration(s) for s in (5, 65, 3 * 3600 + 120)] == ["5 s", "1 min 5 s", "3 h 2 min"]
    said = estimate(10, 2000, rate=4.0, size=100_000)
    assert said == (
        "estimate from 10 images: all 2,000 take about 8 min 20 s here once the model is loaded, "
        "and 20.0 MB of results"
    )
