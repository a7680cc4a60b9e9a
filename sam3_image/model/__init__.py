"""All that knows transformers: weights → device, encoder, finder, picker, segmenter, caches.

The exports are imported when they are first used: transformers takes seconds, in which the weights
are read already, and prompts can be checked without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam3_image.model.compatibility import DEFAULT_COMPATIBILITY, Compatibility
    from sam3_image.model.device import Placement, missing_gpu
    from sam3_image.model.encoder import Features, ModelInput
    from sam3_image.model.finder import Finder
    from sam3_image.model.geometry import Box, Point, fit_boxes, read_boxes
    from sam3_image.model.load import load_segmenter
    from sam3_image.model.prompts import (
        EVERYTHING_THRESHOLD,
        MAX_PROMPTS,
        VISUAL,
        Everything,
        Find,
        MaskPrompt,
        Pick,
        Prompts,
        Target,
        Task,
    )
    from sam3_image.model.segmenter import CacheBudget, Segmenter, merged
    from sam3_image.model.weights.checkpoint import Checkpoint
    from sam3_image.model.weights.convert import convert
    from sam3_image.model.weights.download import download, store
    from sam3_image.model.weights.loading import WeightsLoader, weight_files
    from sam3_image.model.weights.source import WeightsSource, locate

_MODULES = {
    "CacheBudget": "segmenter",
    "Box": "geometry",
    "Checkpoint": "weights.checkpoint",
    "DEFAULT_COMPATIBILITY": "compatibility",
    "EVERYTHING_THRESHOLD": "prompts",
    "Everything": "prompts",
    "Features": "encoder",
    "Find": "prompts",
    "Finder": "finder",
    "MAX_PROMPTS": "prompts",
    "MaskPrompt": "prompts",
    "Pick": "prompts",
    "Placement": "device",
    "Point": "geometry",
    "Prompts": "prompts",
    "WeightsLoader": "weights.loading",
    "Compatibility": "compatibility",
    "Segmenter": "segmenter",
    "WeightsSource": "weights.source",
    "ModelInput": "encoder",
    "Target": "prompts",
    "Task": "prompts",
    "VISUAL": "prompts",
    "convert": "weights.convert",
    "download": "weights.download",
    "fit_boxes": "geometry",
    "load_segmenter": "load",
    "locate": "weights.source",
    "merged": "segmenter",
    "missing_gpu": "device",
    "read_boxes": "geometry",
    "store": "weights.download",
    "weight_files": "weights.loading",
}

__all__ = [
    "DEFAULT_COMPATIBILITY",
    "EVERYTHING_THRESHOLD",
    "MAX_PROMPTS",
    "VISUAL",
    "Box",
    "CacheBudget",
    "Checkpoint",
    "Compatibility",
    "Everything",
    "Features",
    "Find",
    "Finder",
    "MaskPrompt",
    "ModelInput",
    "Pick",
    "Placement",
    "Point",
    "Prompts",
    "Segmenter",
    "Target",
    "Task",
    "WeightsLoader",
    "WeightsSource",
    "convert",
    "download",
    "fit_boxes",
    "load_segmenter",
    "locate",
    "merged",
    "missing_gpu",
    "read_boxes",
    "store",
    "weight_files",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
