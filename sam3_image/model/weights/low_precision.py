"""Layers that compute in float32 from weights that stay in 16 bits.

On a CPU the model runs in float32, but its file holds bfloat16. Expanded at the start, 850 M
weights would take twice the memory, and touching that much fresh memory takes longer than all
imports. Here each linear layer's weights are expanded when it runs, into memory that all layers
share, and of the table of tokens only the rows that are looked up: the numbers are the same, and at
full size it is under one percent of the time.
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


class StoredEmbedding(nn.Embedding):
    """A table whose rows come out in another dtype than `weight` is in."""

    def __init__(self, table: nn.Embedding, dtype: torch.dtype) -> None:
        """Take over the rows of `table`."""
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.weight = table.weight
        self._dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…) int64 → (…, embedding_dim)."""
        return F.embedding(input, self.weight).to(self._dtype)


def can_stay(model: nn.Module, name: str) -> bool:
    """Whether the layer of that name can compute in another dtype than its weight is in.

    Of the tables that is only the one of tokens: others are read as a whole by their owners.
    """
    return type(model.get_submodule(name)) is nn.Linear or name.endswith("token_embedding")


def compute_in(model: nn.Module, names: Collection[str], dtype: torch.dtype) -> None:
    """Let the layers of those names compute in `dtype`, whatever their weights are in."""
    layers = {name: model.get_submodule(name) for name in names}
    linear = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    most = max((layer.weight.numel() for layer in linear.values()), default=0)
    room = torch.empty(most, dtype=dtype)
    for name, layer in layers.items():
        if isinstance(layer, nn.Embedding):
            model.set_submodule(name, StoredEmbedding(layer, dtype))
    for name, layer in linear.items():
        model.set_submodule(name, StoredLinear(layer, room))
