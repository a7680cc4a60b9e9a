"""A bucket of images: every image of a source gets one row of Parquet, whatever happens.

Listed once (`sources`), cut into shards (`schedule`), given to workers that hold the model
(`worker`, in processes of this machine or in actors of a Ray cluster), each of which publishes
whole parts into one folder (`folder`), the only thing a later run relies on. What is being worked
on is marked (`marks`), so that an image that kills its process is found. `command` is
`script/batch`; `Segment` is for people's own Ray Data pipelines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam3_image.batch.pipeline import Segment

__all__ = ["Segment"]


def __getattr__(name: str) -> Any:
    """Import pyarrow and the model only when they are used."""
    if name != "Segment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sam3_image.batch.pipeline import Segment

    return Segment
