"""One row per image: the Parquet schema and the functions that make rows.

Coordinates are pixels of the upright image, origin at the top left, x to the right. The schema is
documented in `docs/batch.md`; `VERSION` changes with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sam3_image.batch.reader import Item

VERSION = "1.1"
# Key of the file metadata that holds the settings of the run and the checkpoint's digest.
METADATA_KEY = b"sam3_image"
OK, ERROR = "ok", "error"
Row = dict[str, Any]

INSTANCE = {
    "prompt": pa.string(),
    "score": pa.float32(),
    "presence": pa.float32(),
    "box": pa.list_(pa.float32()),
    "area": pa.int64(),
    "rle": pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()}),
}
# What segmentation adds to an image's address.
RESULT = (
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("instances", pa.list_(pa.struct(INSTANCE)), nullable=False),
    pa.field("seconds", pa.float32()),
)
SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("prompts", pa.list_(pa.string())),
        *RESULT,
    ]
)


def ok_result(document: dict[str, Any], seconds: float) -> Row:
    """Return the `RESULT` columns of a segmented image.

    document: its annotations in the format "rle". seconds: spent on it, reading included.
    """
    instances = [
        {name: item["concept" if name == "prompt" else name] for name in INSTANCE}
        for item in document["instances"]
    ]
    return {**document["image"], "status": OK, "instances": instances, "seconds": seconds}


def error_result(error: object, seconds: float, size: tuple[int, int] | None = None) -> Row:
    """Return the `RESULT` columns of an image that failed; `size` is (height, width) if known."""
    height, width = size or (None, None)
    what = {"status": ERROR, "error": " ".join(str(error).split()), "instances": []}
    return {"width": width, "height": height, **what, "seconds": seconds}


def row_of(item: Item, result: Row) -> Row:
    """Return the whole row of an image."""
    return {"uri": item.uri, "id": item.id, "prompts": item.prompts, **result}


def table(rows: Sequence[Row], metadata: dict[str, Any]) -> pa.Table:
    """Return rows as a table of `SCHEMA` that carries the run's metadata."""
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return pa.Table.from_pylist(list(rows), schema=schema)


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """Return the run's metadata of a table or file, empty if it has none of ours."""
    try:
        found = json.loads((schema.metadata or {})[METADATA_KEY])
    except (KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
