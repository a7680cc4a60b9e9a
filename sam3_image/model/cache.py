"""A cache with a byte budget: what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch

Tensors = tuple[torch.Tensor, ...]


@dataclass
class TensorCache:
    """Tensors by key; together never more than `budget` bytes.

    A value larger than the whole budget is made and returned, but not kept.
    """

    budget: int
    used: int = 0
    _entries: OrderedDict[Hashable, Tensors] = field(default_factory=OrderedDict)

    def get(self, key: Hashable) -> Tensors | None:
        """The tensors under `key`, which are then the most recently used, or None."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def get_or_make(self, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """The tensors under `key`, made and kept if they are not there."""
        found = self.get(key)
        if found is None:
            found = make()
            self._keep(key, found)
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.used = 0

    def _keep(self, key: Hashable, tensors: Tensors) -> None:
        size = _bytes(tensors)
        if size > self.budget:
            return
        while self.used + size > self.budget:
            _, oldest = self._entries.popitem(last=False)
            self.used -= _bytes(oldest)
        self._entries[key] = tensors
        self.used += size


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors)
