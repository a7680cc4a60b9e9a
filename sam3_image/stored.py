"""Linear layers that compute in float32 from weights that stay in 16 bits.

On a CPU the model runs in float32, but its file holds bfloat16. Expanded at the start, 850 M
weights would take twice the memory, and touching that much fresh memory takes longer than all
imports. Here each layer's weights are expanded when it runs, into memory that all layers share: the
numbers are the same, and at full size it is under one percent of the time.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.nn import functional as F


class StoredLinear(nn.Linear):
    """A linear layer whose `weight` is in another dtype than what it computes in."""

    def __init__(self, layer: nn.Linear, room: torch.Tensor) -> None:
        """Take over the weights of `layer`. room: (n,) in the dtype to compute in, n ≥ its size.

        The room is written at every call, so its layers run in one thread at a time.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self._room = room[: layer.weight.numel()].view(layer.weight.shape)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out), as `nn.Linear` with its weights expanded."""
        return F.linear(input, self._room.copy_(self.weight), self.bias)


def compute_in(model: nn.Module, names: Collection[str], dtype: torch.dtype) -> None:
    """Let the linear layers of those names compute in `dtype`, whatever their weights are in."""
    layers = [model.get_submodule(name) for name in names]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    room = torch.empty(max((layer.weight.numel() for layer in linear), default=0), dtype=dtype)
    for name, layer in zip(names, linear, strict=True):
        model.set_submodule(name, StoredLinear(layer, room))
