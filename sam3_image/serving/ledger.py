"""Host memory that is promised to requests: what each may still take counts against the others.

The memory that the system reports as free says nothing about the requests that have just begun.
Eight large images that are decoded at once each find enough of it, and together do not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sam3_image.decode import available_memory
from sam3_image.serving.queue import Job

# How often a request that waits for memory looks again: others end, but the system also changes.
LOOK_SECONDS = 0.1
# Bytes per pixel of the image that a request may take once it is decoded: a canvas with its overlay
# and cut-out, masks and files that wait to be written, and the answer that Cog makes of the result.
# Measured with `tests/container_memory.py`, one image of 50 megapixels: 19; the rest is a margin.
WORK_BYTES = 24


class Claim:
    """What one request was promised and has not taken yet, in bytes."""

    def __init__(self, ledger: Ledger, job: Job[object]) -> None:
        """For `Ledger.claim`."""
        self._ledger = ledger
        self._job = job
        self.bytes = 0

    def take(self, needed: int, later: int = 0) -> int | None:
        """Promise `needed` bytes more, or `later` if that is more, once the others leave room.

        later: what the request may need afterwards; alone it may try with less.

        Returns None, or, where there is too little even without the other requests, the number of
        bytes that there are. Raises CanceledError once the request is canceled.
        """
        return self._ledger._take(self, self._job, needed, later)

    def keep(self, needed: int) -> None:
        """Lower the promise: the rest was taken, or is not needed any more."""
        self._ledger._keep(self, needed)


class Ledger:
    """The promises of all requests in work; callable from several threads."""

    def __init__(self, available: Callable[[], int] = available_memory) -> None:
        """With nothing promised. available: bytes that the system can still give."""
        self._available = available
        self._changed = threading.Condition()
        self._claims: set[Claim] = set()

    @contextmanager
    def claim(self, job: Job[object]) -> Iterator[Claim]:
        """Give a promise of nothing yet, which ends with the block."""
        claim = Claim(self, job)
        with self._changed:
            self._claims.add(claim)
        try:
            yield claim
        finally:
            with self._changed:
                self._claims.discard(claim)
                self._changed.notify_all()

    def _take(self, claim: Claim, job: Job[object], needed: int, later: int) -> int | None:
        start = time.perf_counter()
        with self._changed:
            # While it waits it holds no promise: two requests that wait for each other's would do
            # so forever.
            kept, claim.bytes = claim.bytes, 0
            while True:
                job.check()
                others = sum(other.bytes for other in self._claims if other is not claim)
                # What the others have taken already is counted twice, which errs on the safe side.
                available = self._available()
                whole = kept + max(needed, later)
                if whole + others <= available or (others == 0 and needed <= available):
                    claim.bytes = whole
                    break
                if others == 0:
                    return available
                self._changed.wait(LOOK_SECONDS)
        job.report.waited(time.perf_counter() - start)
        return None

    def _keep(self, claim: Claim, needed: int) -> None:
        with self._changed:
            claim.bytes = min(claim.bytes, needed)
            self._changed.notify_all()
