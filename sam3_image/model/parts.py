"""The loaded parts of a checkpoint, of which each task takes what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.encoder import Encoder
from sam3_image.model.texts import Texts


@dataclass(frozen=True)
class Parts:
    """detector: a `Sam3Model`. tracker: a `Sam3TrackerModel`, or None in a checkpoint without."""

    detector: Any
    tracker: Any
    encoder: Encoder
    texts: Texts
    placement: Placement
    reference: Compatibility
