"""SAM 3 as a step of somebody's own Ray Data pipeline."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from sam3_image.batch import options, schema
from sam3_image.batch.items import Item, Reader
from sam3_image.decode import Limits
from sam3_image.errors import InputError, UserError, shown
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings


class Segment:
    """Adds what is found in each image to a batch of rows: for `Dataset.map_batches`.

        dataset.map_batches(
            Segment,
            fn_constructor_kwargs={"prompts": ["red circle"], "weights": "/shared/weights"},
            batch_format="pyarrow", batch_size=16, num_gpus=1, compute=ActorPoolStrategy(size=4),
        )

    The columns added are those of `script/batch`: width, height, status, error, instances and
    seconds. An image that cannot be segmented is a row with its error.
    """

    def __init__(
        self,
        *,
        column: str = "uri",
        weights: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        **inputs: Any,
    ) -> None:
        """Load the model; raises UserError.

        column: holds paths or addresses (texts), or the images' files (bytes).
        weights, device, dtype: as SAM3_WEIGHTS, SAM3_DEVICE and SAM3_DTYPE, their defaults.
        inputs: of the request, such as prompts and threshold.
        """
        options.check(inputs)
        given = {"SAM3_WEIGHTS": weights, "SAM3_DEVICE": device, "SAM3_DTYPE": dtype}
        environment = {**os.environ, **{name: text for name, text in given.items() if text}}
        settings = Settings.from_environment(environment)
        self._column = column
        self._request = Request.from_inputs(**inputs)
        self._service = Service(settings, say=lambda _: None)
        self._service.check(self._request)
        self._reader = Reader(Limits.of(settings))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the table with the columns of the results; raises InputError for its column."""
        if self._column not in batch.column_names:
            raise InputError(
                f"the batch has no column {shown(self._column)}; it has "
                f"{', '.join(batch.column_names)}: name one with column=."
            )
        rows = [self._row(value) for value in batch.column(self._column).to_pylist()]
        results = pa.Table.from_pylist(rows, schema=pa.schema(schema.RESULT))
        for field, values in zip(results.schema, results.columns, strict=True):
            batch = batch.append_column(field, values)
        return batch

    def _row(self, value: Any) -> schema.Row:
        begun = time.perf_counter()
        size = None
        try:
            if value is None:
                raise InputError(f"the column {self._column} is empty here: give an image.")
            data: bytes | Path = value if isinstance(value, bytes) else self._read(value)
            image = self._service.open(data)
            size = image.size
            found = self._service.segment(image, self._request).annotations("rle")
        except UserError as error:
            row = schema.error_row("", error, time.perf_counter() - begun, size)
        else:
            row = schema.ok_row("", found, time.perf_counter() - begun)
        del row["uri"]
        return row

    def _read(self, uri: str) -> bytes | Path:
        return self._reader.read(Item(uri))
