"""What is kept for clients between their requests: files, names, jobs; bounded in every way.

What is over a bound of number, bytes or age goes, the oldest first; whoever asks for it later is
told that it is gone. Used from the event loop only, so nothing takes a lock.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sam3_image.errors import UserError, shown

MAX_FILES = 256
MAX_BYTES = 512_000_000
MAX_SECONDS = 3600.0

MEDIA_TYPES = {
    "zip": "application/zip",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "json": "application/json",
    "geojson": "application/geo+json",
    "xml": "application/xml",
}

T = TypeVar("T")


class Gone(UserError):
    """What a client asks for was never here, or is no longer kept (HTTP 404)."""


class Busy(UserError):
    """More is waiting than is accepted (HTTP 429)."""


@dataclass
class _Kept(Generic[T]):
    item: T
    size: int
    since: float


class Shelf(Generic[T]):
    """Things by id.

    clock: seconds that only grow. gone: is told of what had to go.
    """

    def __init__(
        self,
        name: str,
        max_count: int,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[T], None] | None = None,
    ) -> None:
        self._name = name
        self._max_count, self._max_bytes, self._max_seconds = max_count, max_bytes, max_seconds
        self._clock, self._gone = clock, gone
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    @property
    def bytes(self) -> int:
        """Bytes of everything that is kept."""
        return sum(kept.size for kept in self._kept.values())

    def put(self, key: str, item: T, size: int = 0) -> None:
        """Keep `item`, anew if it was kept before, at the cost of the oldest."""
        self._kept.pop(key, None)
        self._kept[key] = _Kept(item, size, self._clock())
        self._sweep()

    def get(self, key: str) -> T:
        """Return what is kept by this id; raises Gone."""
        self._sweep()
        if key not in self._kept:
            raise Gone(
                f"No {self._name} {shown(key)} is kept here: it never was, or it is older than "
                f"{self._max_seconds:g} s, or newer ones took its place. Send it again."
            )
        return self._kept[key].item

    def remove(self, key: str) -> None:
        """Keep it no longer."""
        self._kept.pop(key, None)

    def items(self) -> list[tuple[str, T]]:
        """Everything that is kept, with its id, the newest first."""
        self._sweep()
        return [(key, kept.item) for key, kept in reversed(self._kept.items())]

    def values(self) -> list[T]:
        """Everything that is kept, the newest first."""
        return [item for _, item in self.items()]

    def _sweep(self) -> None:
        limit = self._clock() - self._max_seconds
        while self._kept:
            first = next(iter(self._kept.values()))
            over = len(self._kept) > self._max_count or self.bytes > self._max_bytes
            if first.since >= limit and not (over and len(self._kept) > 1):
                return
            _, oldest = self._kept.popitem(last=False)
            if self._gone is not None:
                self._gone(oldest.item)


@dataclass(frozen=True)
class File:
    """A file of a result, or one that was uploaded. created: seconds since the epoch."""

    name: str
    media_type: str
    content: bytes
    created: float = field(default_factory=time.time, compare=False)

    @classmethod
    def named(cls, name: str, content: bytes) -> File:
        """Return a file of a result, with the media type of its name's ending."""
        return cls(name, MEDIA_TYPES[name.rpartition(".")[2]], content)

    @property
    def sha256(self) -> str:
        """Digest of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


class Gate:
    """Counts the requests that are being answered, and refuses what is over the bound."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take one of the places while a request is answered; raises Busy."""
        if self._taken >= self._places:
            raise Busy(
                f"{self._taken} requests are waiting, which is all that may "
                "(SAM3_WEB_MAX_WAITING where the server runs): try again later."
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def new_id() -> str:
    """Return a name that nobody can guess: 26 letters and digits, 128 random bits."""
    return base64.b32encode(secrets.token_bytes(16)).decode("ascii").rstrip("=").lower()
