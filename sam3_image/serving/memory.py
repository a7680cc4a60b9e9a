"""Out of memory during one prediction: give back what it took, say what to do, go on."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import torch

from sam3_image.errors import MemoryLimitError

# torch's CPU allocator raises a plain RuntimeError; this is how it can be told from others.
ALLOCATOR_SIGNS = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator")


@contextmanager
def guarded(forget: Callable[[], None]) -> Iterator[None]:
    """Turn any lack of memory inside the block into MemoryLimitError, after calling `forget`."""
    where = None
    try:
        yield
    except torch.OutOfMemoryError:
        where = "The device"
    except MemoryError:
        where = "This machine"
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        where = "This machine"
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ALLOCATOR_SIGNS):
            raise
        where = "This machine"
    # Out of the except blocks, so that the traceback no longer holds the tensors.
    if where is not None:
        forget()
        raise MemoryLimitError(
            f"{where} ran out of memory on this request; try a smaller image, "
            "fewer prompts in one request, or a smaller input_size_percent."
        )


def give_back() -> None:
    """Return the host memory that nobody uses any more to the system; for when nothing runs.

    A prediction that failed or was cancelled leaves cycles (its exception holds the frames, they
    hold the exception) with whole images in them. And glibc keeps what was freed in pieces, more
    of it with every size of image; elsewhere than with glibc that part is left out.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
