"""The model of a worker, and SAM 3 as a step of somebody's own Ray Data pipeline.

Of `sam3_image.serving` the batch package imports only what is imported here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from sam3_image.batch import options, schema
from sam3_image.batch.reader import ImageReader, Item
from sam3_image.batch.storage import canonical
from sam3_image.decode import Image, Limits
from sam3_image.errors import InputError, UserError, shown
from sam3_image.instances import Instances
from sam3_image.report import quiet
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings

# For the features of one image at full size: its prompts share them, and no image comes twice.
KEPT_FEATURES = 160 << 20


class BatchModel:
    """What segments in a worker. Safe from several threads."""

    def __init__(
        self, inputs: Mapping[str, Any], environment: Mapping[str, str], threads: int = 0
    ) -> None:
        """Load the weights and decode the reference image, if any; raises UserError.

        inputs: of the request. environment: the SAM3_… variables. threads: of torch, 0 for its own
        choice.
        """
        if threads:
            import cv2
            import torch

            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        settings = replace(Settings.from_environment(environment), kept_features=KEPT_FEATURES)
        self.limits = Limits.of(settings)
        self._service = Service(settings, say=quiet)
        self._inputs = dict(inputs)
        self._request = lru_cache(256)(self._checked)
        if self._inputs.get("reference_image") is not None:
            self._inputs["reference_image"] = self.decode(self._inputs["reference_image"]).pixels
            self._request.cache_clear()
        self._request(None)

    def decode(self, data: bytes | Path) -> Image:
        """Return the upright pixels of an image; raises UserError."""
        return self._service.open(data, self._request(None).decoding.value_range)

    def segment(self, image: Image, prompts: tuple[str, ...] | None = None) -> Instances:
        """Return what the request, or its own prompts, find in an image; raises UserError."""
        return self._service.segment(image, self._request(prompts))

    def healthy(self) -> bool:
        """Whether the device still computes."""
        return self._service.computes()

    def _checked(self, prompts: tuple[str, ...] | None) -> Request:
        own = {"prompt": None, "prompts": list(prompts)} if prompts else {}
        request = Request.from_inputs(**{**self._inputs, **own})
        self._service.check_texts(request)
        return request


class Segment:
    """Adds what is found in each image to a batch of rows: for `Dataset.map_batches`.

        dataset.map_batches(
            Segment,
            fn_constructor_kwargs={"prompts": ["red circle"], "weights": "/shared/weights"},
            batch_format="pyarrow", batch_size=16, num_gpus=1, compute=ActorPoolStrategy(size=4),
        )

    The columns added are those of `sam3-image batch`: width, height, status, error, instances and
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
        begun, size = time.perf_counter(), None
        try:
            if value is None:
                raise InputError(f"the column {self._column} is empty here: give an image.")
            if isinstance(value, bytes):
                image = self._model.decode(value)
            else:
                image = self._model.decode(self._reader.read(Item(canonical(value))))
            size = image.size
            found = self._model.segment(image).annotations("rle")
        except UserError as error:
            return schema.error_result(error, time.perf_counter() - begun, size)
        return schema.ok_result(found, time.perf_counter() - begun)
