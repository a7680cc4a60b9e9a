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
    from sam3_image.shipped import EXAMPLE, __version__

__all__ = [
    "EXAMPLE",
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
    "__version__",
    "load",
]

_HOMES = {
    "EXAMPLE": "shipped",
    "Instance": "instances",
    "Instances": "instances",
    "Mask": "masks",
    "Sam": "sam",
    "__version__": "shipped",
    "load": "sam",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    except ModuleNotFoundError as error:
        from sam3_image.shipped import missing_module

        advice = missing_module(error.name)
        if advice is None:
            raise
        raise ModuleNotFoundError(advice, name=error.name) from None


def __dir__() -> list[str]:
    return sorted(__all__)
