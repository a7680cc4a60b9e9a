"""Image → features: the vision backbone, run once per image, whatever is asked of it.

Both tasks read the same backbone output through necks of their own. The backbone is transformers'
own module but for its rotary attention, which also lets the resolution change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3Model

from sam3_image.model.architecture import Architecture
from sam3_image.model.cache import TensorCache, Tensors
from sam3_image.model.device import Placement
from sam3_image.model.transfer import digest, normalise, resize
from sam3_image.model.transformers_adapter import first_levels, install_rotary

# Patches that go through the backbone together. A CPU is as fast with one image as with many,
# so there the bound only keeps memory low: four for the demo checkpoint, one at full size.
CPU_BATCH_TOKENS = 4 * 24**2
GPU_BATCH_TOKENS = 8 * 72**2
# Bytes that may be kept with the features of one part: more than all its levels take.
OWN_STORE = 1 << 30


@dataclass(frozen=True)
class ModelInput:
    """An image as the encoder reads it: made on the host, no device involved.

    key: identifies content and resolution, for caches.
    size: (height, width) of the image in pixels.
    pixels: (1, 3, side, side) uint8 on the host.
    """

    key: str
    size: tuple[int, int]
    pixels: torch.Tensor


@dataclass(frozen=True)
class Features:
    """The backbone's output for one image at one resolution.

    key: identifies image and resolution, for caches.
    size: (height, width) of the image in pixels.
    hidden: (1, channels, h, w) on the device, in the model's dtype; (h, w) is the patch grid.
    cached: whether the encoder pass was saved.
    store: keeps what is computed from them: the encoder's cache, or one that goes with them.
    """

    key: str
    size: tuple[int, int]
    hidden: torch.Tensor
    cached: bool
    store: TensorCache


class Encoder:
    """Runs the backbone of a detector and keeps features within a byte budget."""

    def __init__(
        self,
        detector: Sam3Model,
        architecture: Architecture,
        placement: Placement,
        cache: TensorCache,
    ) -> None:
        """Take over the backbone of `detector`, whose attention is replaced in place."""
        self._backbone = detector.vision_encoder.backbone
        self._placement = placement
        self._cache = cache
        self._full_side = architecture.side
        # Windows of a resolution that is not a multiple would be padded with empty tokens, which
        # SAM 3 never saw.
        self._step = architecture.patch * architecture.window
        self._patch = architecture.patch
        install_rotary(self._backbone)

    def side(self, percent: int) -> int:
        """Side of the square encoder input in pixels for `input_size_percent`.

        The next multiple of window × patch (336 for SAM 3) that is at least that part of the full
        resolution; 100 is exactly the full resolution.
        """
        if percent == 100:
            return self._full_side
        return min(
            math.ceil(self._full_side * percent / 100 / self._step) * self._step, self._full_side
        )

    def prepare(self, pixels: NDArray[np.uint8], side: int) -> ModelInput:
        """The host's part of `encode`; may run on any thread while the device computes.

        pixels: (H, W, 3) uint8 RGB. side: as `side()` gives it.
        """
        square = resize(pixels, side)
        # The encoder sees nothing but these pixels, so equal ones have equal features.
        return ModelInput(f"{digest(square)}-{side}", (pixels.shape[0], pixels.shape[1]), square)

    @torch.inference_mode()
    def encode(self, image: ModelInput) -> Features:
        """Features of an image, from the cache where the same content was encoded before."""
        known = self._cache.get(image.key)
        made = known or self._cache.keep(image.key, (self._run(image.pixels),))
        return Features(image.key, image.size, made[0], known is not None, self._cache)

    @torch.inference_mode()
    def encode_all(self, crops: Sequence[ModelInput]) -> list[Features]:
        """Features of crops of one side, at most `batch()` of them, in one pass of the backbone.

        They are looked at once, so they stay out of the cache, where they would push out images
        that somebody asks about again.
        """
        hidden = self._run(torch.cat([crop.pixels for crop in crops]))
        return [
            Features(crop.key, crop.size, own[None], False, TensorCache(OWN_STORE))
            for crop, own in zip(crops, hidden, strict=True)
        ]

    def batch(self, side: int) -> int:
        """How many crops of that side `encode_all` takes at most."""
        on_cpu = self._placement.device.type == "cpu"
        tokens = CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS
        return max(1, tokens // (side // self._patch) ** 2)

    def levels(self, features: Features, name: str, neck: Any) -> tuple[torch.Tensor, ...]:
        """The first three feature levels of a neck, (1, C, s·h, s·w) for s = 4, 2, 1; cached.

        name: of the neck, for the cache. neck: a `Sam3VisionNeck`.
        """
        return self.kept(features, name, partial(first_levels, neck, features.hidden))

    def kept(self, features: Features, name: Hashable, make: Callable[[], Tensors]) -> Any:
        """What `make` computes from those features, cached with them under `name`."""
        return features.store.get_or_make((name, features.key), make)

    def _run(self, inputs: torch.Tensor) -> torch.Tensor:
        device = self._placement.device
        values = normalise(inputs, device)
        hidden = self._backbone(values.to(self._placement.dtype)).last_hidden_state
        grid = inputs.shape[-1] // self._patch
        if device.type == "cuda":
            # Work on a GPU is queued; without this its time would show up in the next stage.
            torch.cuda.synchronize(device)
        return hidden.view(len(inputs), grid, grid, -1).permute(0, 3, 1, 2)
