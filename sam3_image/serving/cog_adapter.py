"""Everything that is different in a process that Cog runs; only `predict.py` also knows Cog.

`take_over_process` is the one place that changes the process as a whole, and is called by name.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import gc
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sam3_image.decode import silence_libtiff
from sam3_image.errors import DeviceError
from sam3_image.model import missing_gpu
from sam3_image.serving.scheduler import CanceledError
from sam3_image.settings import Settings

# Cog answers "canceled", without any message, where an error's text holds one of these words.
CANCEL_WORDS = ("cancelled", "CancelledError")
WORD_JOINER = "\u2060"  # has no width, and no line breaks at it


def require_gpu(settings: Settings) -> None:
    """Raise DeviceError where torch was built for a GPU and none answers, unless SAM3_DEVICE says.

    A container that quietly computes on the CPU looks healthy, and answers too late to be of use.
    """
    missing = missing_gpu(settings)
    if missing:
        raise DeviceError(missing)


def take_over_process(downloads: Path, cancelation: type[BaseException]) -> None:
    """Make this whole process fit for a server; to be called once, when the weights are loaded.

    downloads: becomes the temporary folder, so that Cog downloads into it. cancelation: what Cog
    raises in a thread of its own to cancel a download.
    """
    tempfile.tempdir = str(downloads)
    silence_libtiff()
    _survive_cancelation(cancelation)
    # Imports and weights are a million objects that live as long as the process: without them a
    # garbage collection takes milliseconds.
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def errors_for_cog() -> Iterator[None]:
    """Let errors out of `predict()` in a form in which Cog passes their text on."""
    try:
        yield
    except CanceledError:  # Cog did not ask for it: it would know without us
        raise RuntimeError("The request was dropped because the server is closing.") from None
    except Exception as error:
        text = str(error)
        if not any(word in text for word in CANCEL_WORDS):
            raise
        for word in CANCEL_WORDS:
            text = text.replace(word, word[0] + WORD_JOINER + word[1:])
        error.args = (text,)
        if str(error) == text:
            raise
        raise RuntimeError(text) from None


def _survive_cancelation(exception: type[BaseException]) -> None:
    """From now on a newborn thread that `exception` hits hands it to its parent, as was meant.

    Cog cancels a download by raising an exception in its thread (`PyThreadState_SetAsyncExc`). In
    CPython 3.11 a thread that is just being started still has the number of the thread that starts
    it, so the exception can hit the newborn one instead. That dies before signaling that it
    started, so its parent waits forever, and with it one of the server's slots.

    Changes how `threading` starts threads; where it does not start them in the way of CPython
    3.11, nothing is changed.
    """
    start = getattr(threading, "_start_new_thread", None)
    if start is not _thread.start_new_thread:
        return

    def start_new_thread(bootstrap: Callable[[], None], arguments: tuple[Any, ...]) -> int:
        return _thread.start_new_thread(_Birth(bootstrap, exception), arguments)

    threading._start_new_thread = start_new_thread  # type: ignore[attr-defined]


class _Birth:
    """What a new thread calls first. It is deleted when the thread ends, however it ends."""

    def __init__(self, bootstrap: Callable[[], None], exception: type[BaseException]) -> None:
        self._bootstrap = bootstrap
        self._exception = exception
        self._parent = threading.get_ident()

    def __call__(self) -> None:
        self._bootstrap()

    def __del__(self) -> None:
        thread = getattr(self._bootstrap, "__self__", None)
        if not isinstance(thread, threading.Thread) or thread._started.is_set():  # type: ignore[attr-defined]
            return
        # It died before its first word. Nothing else was told, so tell it here: the thread is
        # over, the parent may go on, and gets the exception.
        threading._limbo.pop(thread, None)  # type: ignore[attr-defined]
        thread._is_stopped = True  # type: ignore[attr-defined]
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._parent), ctypes.py_object(self._exception)
        )
        thread._started.set()  # type: ignore[attr-defined]
