"""Locks for objects of the caller that several threads may hand over at once."""

from __future__ import annotations

import threading

# A fixed number, because neither Pillow images nor file objects can hold a lock of ours. Two
# objects that share one by chance wait for each other, and nothing else happens.
_LOCKS = tuple(threading.Lock() for _ in range(64))


def lock_of(thing: object) -> threading.Lock:
    """Return the lock of an object: the same one in every thread while the object lives."""
    return _LOCKS[(id(thing) >> 4) % len(_LOCKS)]
