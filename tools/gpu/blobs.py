"""Masks of objects where random weights give noise, for times of what comes after the model.

Noise crosses the threshold in every cell of a map, which makes a mask thirty times as expensive as
one of an object. The model computes all it would, and what it gives takes the same way; only the
values of its maps are others. `tools/gpu/blobs.py:Predictor` is Cog's predictor with them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

from benchmarks import pictures
from predict import Predictor as Real
from sam3_image.model import finder, picker, transformers_adapter

VARIABLE = "SAM3_BENCH_BLOBS"  # how many objects the predictor's images have


@contextlib.contextmanager
def instead_of_noise(count: int) -> Iterator[None]:
    """In the block, maps show blobs as large as `count` objects of one image are."""
    blobs = torch.from_numpy(pictures.mask_logits(count))
    run_heads = transformers_adapter.run_heads
    decode_masks = transformers_adapter.decode_masks

    def maps(shape: Any, like: torch.Tensor) -> torch.Tensor:
        """(…, 288, 288) logits on the device, which the instances take in turn."""
        nonlocal blobs
        blobs = blobs.to(like)
        number = shape.numel() // (shape[-1] * shape[-2])
        chosen = torch.arange(number, device=like.device) % count
        return blobs[chosen].view(*shape[:-2], *blobs.shape[-2:])

    def heads(*values: Any) -> Any:
        output = run_heads(*values)
        output.pred_masks = maps(output.pred_masks.shape, output.pred_masks)
        return output

    def decode(*values: Any) -> Any:
        logits, *rest = decode_masks(*values)
        return (maps(logits.shape, logits), *rest)

    with (
        mock.patch.object(finder, "run_heads", heads),
        mock.patch.object(picker, "decode_masks", decode),
    ):
        yield


class Predictor(Real):
    """As `predict.py`, but for the masks."""

    def setup(self) -> None:
        """Load the weights; the blobs stay for the life of the process."""
        super().setup()
        self._blobs = instead_of_noise(int(os.environ[VARIABLE]))
        self._blobs.__enter__()
