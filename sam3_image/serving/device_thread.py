"""The one thread on which everything that touches the device runs, in the order of asking.

torch's inference mode belongs to a thread and the caches of features are not made for several, so
one thread has both to itself. Each request comes with one bounded piece of work at a time (an
encoder pass, a few concepts, a batch of tiles) and gets in line again for the next: a long request
costs the others its share of the device, and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sam3_image import model
from sam3_image.masks import Detections
from sam3_image.serving.memory import guarded
from sam3_image.serving.queue import Job

if TYPE_CHECKING:  # transformers takes seconds, in which a service reads its weights
    from sam3_image.model import Features, Find, Pick, Segmenter, Square

T = TypeVar("T")


class DeviceThread:
    """Runs one piece of work after the other; a lack of memory ends only the piece that met it."""

    def __init__(self, forget: Callable[[], None], limit: float | None = None) -> None:
        """Start nothing yet.

        forget: gives cached memory back after an out-of-memory; runs on the device thread.
        limit: seconds after which a piece that has not ended counts as hung; None for a device
            that may be slow but cannot be lost.
        """
        self._forget = forget
        self._limit = limit
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._thread: int | None = None
        self._began: float | None = None

    def run(self, work: Callable[[], T]) -> T:
        """Block until it was this work's turn; returns what it returned, raises what it raised."""
        if threading.get_ident() == self._thread:
            return work()
        return self._executor.submit(self._guarded, work).result()

    def probe(self, work: Callable[[], bool]) -> bool:
        """Return what `work` says when its turn comes; False once the piece before it hangs."""
        future: Future[bool] = self._executor.submit(self._guarded, work)
        while True:
            try:
                return future.result(timeout=1)
            except FutureTimeout:
                if self.hangs:
                    future.cancel()
                    return False

    @property
    def hangs(self) -> bool:
        """Whether the piece that runs now has run past the limit: the device is lost."""
        began = self._began
        return (
            self._limit is not None and began is not None and time.monotonic() - began > self._limit
        )

    def close(self) -> None:
        """Let what runs end; nothing may be asked of the thread afterwards."""
        self._executor.shutdown(wait=not self.hangs, cancel_futures=True)

    def _guarded(self, work: Callable[[], T]) -> T:
        self._thread = threading.get_ident()
        self._began = time.monotonic()
        try:
            with guarded(self._forget):
                return work()
        finally:
            self._began = None


@dataclass(frozen=True)
class Turns:
    """The segmenter as one request sees it: each call waits for its turn on the device thread.

    Time spent waiting is the request's `timing.queue`. Every call raises CanceledError once the
    request is canceled, on the device thread too: what was canceled in the line costs nothing.
    """

    segmenter: Segmenter
    device: DeviceThread
    job: Job[Any]

    def encode(
        self, pixels: NDArray[np.uint8], side: int, squares: dict[int, Square] | None = None
    ) -> Features:
        """As `Segmenter.encode`; the host's part stays on the calling thread.

        squares: what was made of these pixels before, by side; what is made now is added.
        """
        self.job.check()
        square = squares.get(side) if squares else None
        if square is None:
            square = self.segmenter.prepare(pixels, side)
            if squares is not None:
                squares[side] = square
        return self.turn(lambda: self.segmenter.encode_square(square))

    def encode_all(self, crops: Sequence[NDArray[np.uint8]], side: int) -> list[Features]:
        """As `Segmenter.encode_all`; the host's part stays on the calling thread."""
        self.job.check()
        squares = [self.segmenter.prepare(crop, side) for crop in crops]
        return self.turn(lambda: self.segmenter.encode_squares(squares))

    def batch(self, side: int) -> int:
        """As `Segmenter.batch`."""
        return self.segmenter.batch(side)

    def segment(
        self, features: Features, request: Find | Pick, mask_threshold: float = 0.5
    ) -> Detections:
        """As `Segmenter.segment`; others get their turns between its steps."""
        steps = self.segmenter.steps(features, request, mask_threshold)
        found = [self.turn(step) for step in steps]
        self.job.check()
        return model.merged(found, request)

    def turn(self, work: Callable[[], T]) -> T:
        """One bounded piece of work on the device thread."""
        asked = time.perf_counter()

        def run() -> T:
            self.job.report.waited(time.perf_counter() - asked)
            self.job.check()
            return work()

        return self.device.run(run)
