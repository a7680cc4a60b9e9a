"""How large an image may be, and how much memory this machine can still give.

Limits are checked on the header of a file, before its pixels are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from sam3_image.errors import ImageError
from sam3_image.settings import MAX_BYTES, MAX_PIXELS, MAX_SIDE, Settings


@dataclass(frozen=True)
class Limits:
    """What an image file may measure at most.

    pixels: width × height.
    side: the longer of width and height, in pixels.
    bytes: length of the file.
    """

    pixels: int = MAX_PIXELS
    side: int = MAX_SIDE
    bytes: int = MAX_BYTES

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the environment sets."""
        return cls(settings.max_pixels, settings.max_side, settings.max_bytes)

    def check_bytes(self, length: int) -> None:
        """Raise ImageError when a file of `length` bytes is over the limit."""
        if length > self.bytes:
            raise ImageError(
                f"The image file has {length:,} bytes; at most {self.bytes:,} are accepted: "
                "send a smaller file (or raise SAM3_MAX_BYTES where the server runs)."
            )

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ImageError when an image of `size` = (height, width) is over a limit."""
        height, width = size
        if height < 1 or width < 1:
            raise ImageError(
                f"The image is {width} × {height} pixels; each side needs at least 1: "
                "send an image that has pixels."
            )
        if max(size) > self.side:
            raise ImageError(
                f"The image is {width:,} × {height:,} pixels; a side may have at most "
                f"{self.side:,}: send a smaller image (or raise SAM3_MAX_SIDE where the server "
                "runs)."
            )
        if height * width > self.pixels:
            raise ImageError(
                f"The image is {width:,} × {height:,} = {height * width:,} pixels; at most "
                f"{self.pixels:,} are accepted: send a smaller image (or raise SAM3_MAX_PIXELS "
                "where the server runs)."
            )


def available_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of host memory that can still be taken.

    Linux hands out memory that it does not have and then kills the process, so an allocation
    that succeeds proves nothing. The smaller of the machine's and the container's rest counts.
    """
    machine = int(psutil.virtual_memory().available)
    container = _container_memory(cgroup)
    return machine if container is None else min(machine, container)


def check_memory(needed: int, _pixels: int) -> int | None:
    """Return None where `needed` bytes are available, else how many bytes are."""
    available = available_memory()
    return None if needed <= available else available


def _container_memory(cgroup: Path) -> int | None:
    """Return the rest of a container's limit, or None where there is no limit (cgroup v2)."""
    limit, used = _lines(cgroup / "memory.max"), _lines(cgroup / "memory.current")
    if not (limit and used and limit[0].isdigit() and used[0].isdigit()):
        return None
    # File cache counts as used but is given back on demand.
    cache = [line.split()[1] for line in _lines(cgroup / "memory.stat") if "file " in line[:5]]
    return int(limit[0]) - int(used[0]) + int(cache[0] if cache else 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
