"""SAM 3 as a step of somebody's own Ray Data pipeline."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from sam3_image.batch import options, schema
from sam3_image.batch.engine import BatchModel
from sam3_image.batch.reader import ImageReader, Item
from sam3_image.batch.storage import canonical
from sam3_image.errors import InputError, UserError, shown


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
        self._column = column
        self._model = BatchModel(inputs, environment)
        self._reader = ImageReader(self._model.limits)

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

    def _row(self, value: str | bytes | None) -> schema.Row:
        begun = time.perf_counter()
        size = None
        try:
            if value is None:
                raise InputError(f"the column {self._column} is empty here: give an image.")
            image = self._model.open(value if isinstance(value, bytes) else self._read(value))
            size = image.size
            found = self._model.segment(image).annotations("rle")
        except UserError as error:
            return schema.error_result(error, time.perf_counter() - begun, size)
        return schema.ok_result(found, time.perf_counter() - begun)

    def _read(self, uri: str) -> bytes | Path:
        return self._reader.read(Item(canonical(uri)))
