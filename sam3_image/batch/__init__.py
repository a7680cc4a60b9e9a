"""Bulk segmentation: every image of a source gets one row of Parquet, whatever happens.

`sources` lists the images, `schedule` cuts them into shards, `pool` and `ray_pool` hold the workers
(`worker`) that segment them, and `results` keeps their parts in a folder or bucket, the only thing
that a later run relies on. `command` is `sam3-image batch`; `Segment` is for people's own Ray Data
pipelines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam3_image.batch.engine import Segment

__all__ = ["Segment"]


def __getattr__(name: str) -> Any:
    """Import pyarrow and the model only when they are used."""
    if name != "Segment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sam3_image.batch.engine import Segment

    return Segment
