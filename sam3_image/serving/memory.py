"""Host memory: a budget that requests share, and what happens when memory runs out all the same.

The memory that the system reports as free says nothing about the requests that have just begun.
Eight large images that are decoded at once each find enough of it, and together do not. So every
request claims what it may still take, and a claim counts against the others.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import cv2
import torch

from sam3_image.decode import available_memory
from sam3_image.errors import MemoryLimitError

# How often a request that waits for memory looks again: others end, but the system also changes.
LOOK_SECONDS = 0.1
# Bytes per pixel of the image that a request may take once it is decoded: a canvas with its overlay
# and cut-out, masks and files that wait to be written, and the answer that Cog makes of the result.
# Measured with `tools/container_memory.py`, one image of 50 megapixels: 19; the rest is a margin.
WORK_BYTES = 24

# torch's CPU allocator raises a plain RuntimeError; this is how it can be told from others.
ALLOCATOR_SIGNS = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator")
# And what CUDA and its libraries raise where torch's own allocator was not asked.
DEVICE_SIGNS = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
DEVICE, MACHINE = "The device", "This machine"
T = TypeVar("T")


@dataclass(eq=False)
class Claim:
    """The bytes that one request was promised and has not taken yet; made by `MemoryBudget`.

    check: raises when the request need not go on; asked while it waits.
    waited: called with the seconds that the claim had to wait.
    """

    budget: MemoryBudget
    check: Callable[[], None]
    waited: Callable[[float], None]
    bytes: int = 0

    def take(self, needed: int, pixels: int = 0) -> int | None:
        """Claim `needed` bytes more, or what work on so many pixels takes if that is more.

        Waits until the other requests leave room; a request that is alone may try with less than
        the work takes. Returns None, or, where there is too little even without the others, the
        number of bytes that there are. Raises what `check` raises.
        """
        start = time.perf_counter()
        available = self.budget._take(self, needed, pixels * WORK_BYTES)
        if available is None:
            self.waited(time.perf_counter() - start)
        return available

    def keep(self, needed: int) -> None:
        """Lower the claim: the rest was taken, or is not needed any more."""
        self.budget._keep(self, needed)


class MemoryBudget:
    """The claims of all requests in work; callable from several threads."""

    def __init__(self, available: Callable[[], int] = available_memory) -> None:
        """available: bytes that the system can still give."""
        self._available = available
        self._changed = threading.Condition()
        self._claims: set[Claim] = set()

    @contextmanager
    def claim(
        self,
        check: Callable[[], None] = lambda: None,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> Iterator[Claim]:
        """An empty claim, which ends with the block; see `Claim`."""
        claim = Claim(self, check, waited)
        with self._changed:
            self._claims.add(claim)
        try:
            yield claim
        finally:
            with self._changed:
                self._claims.discard(claim)
                self._changed.notify_all()

    def _take(self, claim: Claim, needed: int, later: int) -> int | None:
        with self._changed:
            # While it waits it holds nothing: two requests that wait for each other's claim would
            # do so forever.
            kept, claim.bytes = claim.bytes, 0
            while True:
                claim.check()
                others = sum(other.bytes for other in self._claims if other is not claim)
                # What the others have taken already is counted twice, which errs on the safe side.
                available = self._available()
                whole = kept + max(needed, later)
                if whole + others <= available or (others == 0 and needed <= available):
                    claim.bytes = whole
                    return None
                if others == 0:
                    return available
                self._changed.wait(LOOK_SECONDS)

    def _keep(self, claim: Claim, needed: int) -> None:
        with self._changed:
            claim.bytes = min(claim.bytes, needed)
            self._changed.notify_all()


def within_memory(work: Callable[[], T], forget: Callable[[], None], tries: int = 1) -> T:
    """What `work` returns; a lack of memory in it becomes MemoryLimitError, after `forget`.

    forget: gives back what is kept for later; called when nothing holds the tensors of the failed
        work any more.
    tries: how often to try where it is the device that lacks memory; for work without side effects.
    """
    for left in reversed(range(tries)):
        try:
            return work()
        except Exception as error:
            where = _lacking(error)
            if where is None:
                raise
            # The traceback holds the frames, and those all that they had allocated.
            traceback.clear_frames(error.__traceback__)
        # Not in the except block, where the error would still be alive.
        forget()
        if where != DEVICE or not left:
            break
    raise MemoryLimitError(
        f"{where} ran out of memory on this request; try a smaller image, "
        "fewer prompts in one request, or a smaller input_size_percent."
    )


def _lacking(error: Exception) -> str | None:
    """Whose memory was too small, as the error says; None for an error of another kind."""
    if isinstance(error, torch.OutOfMemoryError):
        return DEVICE
    if isinstance(error, MemoryError):
        return MACHINE
    if isinstance(error, cv2.error):
        return MACHINE if error.code == cv2.Error.StsNoMem else None
    if isinstance(error, RuntimeError):
        for where, signs in ((DEVICE, DEVICE_SIGNS), (MACHINE, ALLOCATOR_SIGNS)):
            if any(sign in str(error) for sign in signs):
                return where
    return None


def give_back() -> None:
    """Return unused host memory to the system; for when nothing runs.

    A prediction that failed or was canceled leaves cycles (its exception holds the frames, they
    hold the exception) with whole images in them. And glibc keeps what was freed in pieces, more
    of it with every size of image; with other C libraries that part is left out.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
