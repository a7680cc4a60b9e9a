"""What is kept for clients between their requests, bounded in number, bytes and age."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import TTLCache

from sam3_image.errors import UserError, shown

MAX_FILES = 256
MAX_BYTES = 256_000_000
MAX_SECONDS = 3600.0

# The key by which a fleet sent a request to this replica; ids that are made meanwhile end in it, so
# that who asks for them later is sent here again. Empty where there is one server.
ROUTING_KEY: ContextVar[str] = ContextVar("routing_key", default="")

T = TypeVar("T")


class GoneError(UserError):
    """What a client asks for was never here, or is no longer kept."""


class BusyError(UserError):
    """More is waiting than is accepted."""


@dataclass(frozen=True)
class _Entry(Generic[T]):
    item: T
    size: int


class BoundedStore(Generic[T]):
    """Items by id; the least recently used ones are dropped when it is full.

    Used from the event loop only, so nothing takes a lock.
    """

    def __init__(
        self,
        name: str,
        max_count: int = MAX_FILES,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        dropped: Callable[[T], None] | None = None,
    ) -> None:
        """Start empty.

        name: what an item is called in messages. max_seconds: how long an item is kept.
        dropped: called with each item that had to make room or became too old.
        """
        self._name = name
        self._max_count, self._max_bytes, self._max_seconds = max_count, max_bytes, max_seconds
        self._dropped = dropped
        # An item larger than the store is kept alone: it was accepted, so it can be used once.
        self._entries: TTLCache[str, _Entry[T]] = TTLCache(
            max_bytes, max_seconds, clock, lambda entry: min(entry.size, max_bytes)
        )

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def bytes(self) -> int:
        """Bytes of all items."""
        return int(self._entries.currsize)

    def put(self, key: str, item: T, size: int = 0) -> None:
        """Keep `item` of `size` bytes under `key`, in place of what was there."""
        self._entries.pop(key, None)
        self._expire()
        room = self._max_bytes - min(size, self._max_bytes)
        while self._entries and (len(self._entries) >= self._max_count or self.bytes > room):
            _, entry = self._entries.popitem()
            self._tell(entry)
        self._entries[key] = _Entry(item, size)

    def find(self, key: str) -> T | None:
        """The item under `key`, or None."""
        self._expire()
        entry = self._entries.get(key)
        return None if entry is None else entry.item

    def get(self, key: object) -> T:
        """The item under `key`; raises GoneError."""
        item = self.find(key) if isinstance(key, str) else None
        if item is None:
            raise GoneError(
                f"No {self._name} {shown(key)} is kept here: it never was, or it is older than "
                f"{self._max_seconds:g} s, or newer ones took its place. Please send it again."
            )
        return item

    def remove(self, key: str) -> None:
        """Forget the item under `key`, if there is one."""
        self._entries.pop(key, None)

    def items(self) -> list[tuple[str, T]]:
        """All items with their keys, the one that was put last first."""
        self._expire()
        return [(key, entry.item) for key, entry in self._entries.items()][::-1]

    def values(self) -> list[T]:
        """All items, the one that was put last first."""
        return [item for _, item in self.items()]

    def _expire(self) -> None:
        for _, entry in self._entries.expire():
            self._tell(entry)

    def _tell(self, entry: _Entry[T]) -> None:
        if self._dropped is not None:
            self._dropped(entry.item)


class Admission:
    """Counts the requests that are being answered, and refuses those over the limit."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places inside the block; raises BusyError."""
        if self._taken >= self._places:
            raise BusyError(
                f"{self._taken} requests are waiting, which is the limit "
                "(SAM3_WEB_MAX_WAITING where the server runs): try again later."
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def new_id() -> str:
    """An id that nobody can guess: 26 letters and digits, 128 random bits, then `ROUTING_KEY`."""
    random = base64.b32encode(secrets.token_bytes(16)).decode("ascii").rstrip("=").lower()
    return random + ROUTING_KEY.get()
