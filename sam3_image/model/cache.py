"""A cache with a byte budget: what was used longest ago goes first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import attrgetter

import torch
from cachetools import LRUCache

Tensors = tuple[torch.Tensor, ...]


class TensorCache:
    """Tensors by key; together never more than `budget` bytes.

    A value larger than the whole budget is made and returned, but not kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: LRUCache[Hashable, Tensors] = LRUCache(budget, getsizeof=_bytes)

    @property
    def used(self) -> int:
        """Bytes that all tensors take now."""
        return int(self._entries.currsize)

    def get(self, key: Hashable) -> Tensors | None:
        """The tensors under `key`, which are then the most recently used, or None."""
        return self._entries.get(key)

    def get_or_make(self, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """The tensors under `key`, made and kept if they are not there."""
        return self.get(key) or self.keep(key, make())

    def keep(self, key: Hashable, made: Tensors) -> Tensors:
        """Keep tensors under `key` if they fit; returns them."""
        if _bytes(made) <= self.budget:
            self._entries[key] = made
        return made

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


def _bytes(tensors: Tensors) -> int:
    return sum(map(attrgetter("nbytes"), tensors))
