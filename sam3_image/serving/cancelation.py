"""A cancel that arrives while a thread is being started must not hang the server.

Cog cancels a prediction by raising an exception in its thread (`PyThreadState_SetAsyncExc`). In
CPython 3.11 a thread that is just being started still bears the number of the thread that starts
it, so the exception can hit the newborn one instead. That dies before signalling that it started,
so its parent waits forever. Cog itself starts a thread in each prediction, for the download, so one
cancel in a hundred right after the request is enough.
"""

from __future__ import annotations

import _thread
import ctypes
import threading
from collections.abc import Callable
from typing import Any


def survive_cancelation(exception: type[BaseException]) -> None:
    """From now on a newborn thread that `exception` hits hands it to its parent, as was meant.

    Changes how `threading` starts threads in this whole process; where it does not start them in
    the way of CPython 3.11, nothing is changed.
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
