"""A cache with a byte budget: what was used longest ago goes first."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from cachetools import LRUCache

Tensors = tuple[torch.Tensor, ...]


class TensorCache:
    """Tensors by key; together never more than `budget` bytes.

    A value larger than the whole budget is made and returned, but not kept.
    """

    def __init__(self, budget: int) -> None:
        self._entries: LRUCache[Hashable, Tensors] = LRUCache(budget, getsizeof=_bytes)

    @property
    def budget(self) -> int:
        """Bytes that all tensors together may take."""
        return int(self._entries.maxsize)

    @property
    def used(self) -> int:
        """Bytes that they take now."""
        return int(self._entries.currsize)

    def get(self, key: Hashable) -> Tensors | None:
        """Return the tensors under `key`, which are then the most recently used, or None."""
        return self._entries.get(key)

    def get_or_make(self, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """Return the tensors under `key`, made and kept if they are not there."""
        found = self.get(key)
        if found is None:
            found = make()
            if _bytes(found) <= self.budget:
                self._entries[key] = found
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors)
