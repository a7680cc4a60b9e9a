"""The one way by which values leave the device: everything else computes where its inputs are."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray


def to_host(values: torch.Tensor) -> NDArray[Any]:
    """Copy a tensor to the host, waiting for the device; NumPy's dtype of the same name.

    Not bfloat16, which NumPy does not have: results are made float32 first.
    """
    return values.cpu().numpy()
