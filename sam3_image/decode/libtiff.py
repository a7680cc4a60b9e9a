"""libtiff writes its own messages straight to file descriptor 2, and Pillow lets nobody stop it."""

from __future__ import annotations

import ctypes
from pathlib import Path

from PIL import _imaging  # noqa: F401  (loads libtiff)

_SETTERS = (
    "TIFFSetErrorHandler",
    "TIFFSetErrorHandlerExt",
    "TIFFSetWarningHandler",
    "TIFFSetWarningHandlerExt",
)


def silence_libtiff() -> None:
    """Stop libtiff's messages in this whole process; what is wrong is raised anyway.

    Works on the libtiff that Pillow has loaded, where the system tells which that is (Linux).
    """
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return
    files = {line.split(maxsplit=5)[-1] for line in mapped.splitlines() if "/libtiff" in line}
    for file in files:
        library = ctypes.CDLL(file)
        for name in _SETTERS:
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
