"""One row per image: the Parquet schema, and the rows in it.

Coordinates are pixels of the upright image, origin top left, x to the right. The schema is
documented in `docs/batch.md`; `VERSION` changes with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

VERSION = "1.0"
# Key of the file's metadata that holds the settings of the run and the checkpoint's digest.
METADATA_KEY = b"sam3_image"

OK, ERROR = "ok", "error"

RLE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
INSTANCE = pa.struct(
    [
        ("prompt", pa.string()),
        ("score", pa.float32()),
        ("box", pa.list_(pa.float32())),
        ("area", pa.int64()),
        ("rle", RLE),
    ]
)
# What a run adds to an image's address.
RESULT = (
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("instances", pa.list_(INSTANCE), nullable=False),
    pa.field("seconds", pa.float32()),
)
SCHEMA = pa.schema([pa.field("uri", pa.string(), nullable=False), *RESULT])

Row = dict[str, Any]


def ok_row(uri: str, document: dict[str, Any], seconds: float) -> Row:
    """Return the row of a segmented image.

    document: its annotations in the format "rle". seconds: spent on it, reading included.
    """
    instances = [
        {
            "prompt": item["concept"],
            "score": item["score"],
            "box": item["box"],
            "area": item["area"],
            "rle": item["rle"],
        }
        for item in document["instances"]
    ]
    size = document["image"]
    return _row(uri, (size["height"], size["width"]), OK, None, instances, seconds)


def error_row(uri: str, error: object, seconds: float, size: tuple[int, int] | None = None) -> Row:
    """Return row of an image that cannot be segmented; `size` is (height, width) where known."""
    return _row(uri, size, ERROR, " ".join(str(error).split()), [], seconds)


def table(rows: Sequence[Row], metadata: dict[str, Any]) -> pa.Table:
    """Rows as a table of `SCHEMA`, with the run's metadata on it."""
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return pa.Table.from_pylist(list(rows), schema=schema)


def metadata_of(schema: pa.Schema) -> dict[str, Any] | None:
    """Return the run's metadata on a table or file, None where there is none of ours."""
    try:
        found = json.loads((schema.metadata or {})[METADATA_KEY])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _row(
    uri: str,
    size: tuple[int, int] | None,
    status: str,
    error: str | None,
    instances: list[Row],
    seconds: float,
) -> Row:
    height, width = size or (None, None)
    return {
        "uri": uri,
        "width": width,
        "height": height,
        "status": status,
        "error": error,
        "instances": instances,
        "seconds": seconds,
    }
