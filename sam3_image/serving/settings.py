"""What the environment decides about a process, read once when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sam3_image.decode import Limits, whole_number
from sam3_image.model import DEFAULT_REFERENCE, Placement, Reference, Source

MAX_TILES = 400  # so that one request does not occupy the model for minutes


@dataclass(frozen=True)
class Settings:
    """Where the weights come from, where the model runs, how large an image may be, and whose
    SAM 3 it answers as.

    kept_features: bytes on the device for features of images that may be asked for again.
    max_tiles: how many tiles one request may ask for.
    """

    source: Source
    placement: Placement
    limits: Limits
    reference: Reference = DEFAULT_REFERENCE
    kept_features: int = 512 << 20  # four to eight pictures at full size
    max_tiles: int = MAX_TILES

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read SAM3_WEIGHTS, _DEVICE, _DTYPE, _REFERENCE and the limits; raises UserError."""
        return cls(
            source=Source.from_environment(environment),
            placement=Placement.from_environment(environment),
            limits=Limits.from_environment(environment),
            reference=Reference.from_environment(environment),
            max_tiles=whole_number(environment, "SAM3_MAX_TILES", MAX_TILES),
        )
