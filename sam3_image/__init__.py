"""SAM 3 from Python: `sam = sam3_image.load(weights)`, then `sam.find` and `sam.pick`.

Nothing heavy is imported until it is used: torch and transformers when weights are loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam3_image.errors import (
        CheckpointError,
        DeviceError,
        ImageError,
        InputError,
        MemoryLimitError,
        OutputError,
        UserError,
    )
    from sam3_image.instances import Instance, Instances
    from sam3_image.masks import Mask
    from sam3_image.sam import Sam, load

__all__ = [
    "CheckpointError",
    "DeviceError",
    "ImageError",
    "InputError",
    "Instance",
    "Instances",
    "Mask",
    "MemoryLimitError",
    "OutputError",
    "Sam",
    "UserError",
    "load",
]

_HOMES = {
    "Instance": "instances",
    "Instances": "instances",
    "Mask": "masks",
    "Sam": "sam",
    "load": "sam",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
