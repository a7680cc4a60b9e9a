"""How large an image may be, and how much memory this machine can still give.

Limits are checked on the header of a file, before its pixels are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def available_memory(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """The bytes of host memory that can still be taken.

    Linux hands out memory that it does not have and then kills the process, so an allocation
    that succeeds proves nothing. The smallest of what the machine and each limit on this process
    (of a container, a Kubernetes pod, a systemd unit) leave counts.
    """
    machine = int(psutil.virtual_memory().available)
    return min([machine, *_rests(cgroups, own)])


def check_memory(needed: int, _pixels: int) -> int | None:
    """Return None where `needed` bytes are available, else how many bytes are."""
    available = available_memory()
    return None if needed <= available else available


def _rests(cgroups: Path, own: Path) -> Iterator[int]:
    """The bytes that each limit of this process's control groups leaves, in version 1 and 2.

    A limit on any group above the process's own counts, too. In a container the path in `own` may
    be the host's; the container's own group is then the root of what can be seen.
    """
    paths = {"": "/", "memory": "/"}  # of version 2, and of version 1
    for line in _lines(own):
        controllers, _, path = line.partition(":")[2].partition(":")
        for name in controllers.split(","):
            paths[name] = path
    for root, path, limit_file, used_file in (
        (cgroups, paths[""], "memory.max", "memory.current"),
        (cgroups / "memory", paths["memory"], "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        group = Path(path.strip("/"))
        for folder in (root / group, *(root / parent for parent in group.parents)):
            limit, used = _lines(folder / limit_file), _lines(folder / used_file)
            if limit and used and limit[0].isdigit():  # "max" where there is none
                yield int(limit[0]) - int(used[0]) + _file_cache(folder)


def _file_cache(folder: Path) -> int:
    """Bytes that count as used by a control group but are given back on demand."""
    numbers = dict(line.split()[:2] for line in _lines(folder / "memory.stat"))
    prefix = "total_" if "total_inactive_file" in numbers else ""  # version 1: with all below it
    return sum(int(numbers.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
