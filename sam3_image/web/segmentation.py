"""The way from a coroutine to the model: everything that takes time runs in a worker thread."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread

from sam3_image.decode import Image
from sam3_image.web.pictures import Picture, Pictures

THREADS = 4


class Segmentation:
    """`serving.Service` for coroutines; errors are those of the service."""

    def __init__(self, service: Any, pictures: Pictures) -> None:
        self._service = service
        self._pictures = pictures
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def open(self, data: bytes) -> Picture:
        """Decode a picture file and remember it; one that is known is not decoded again."""
        picture_id = await self._run(Pictures.id_of, data)
        known = self._pictures.known(picture_id)
        if known is not None:
            return known
        picture = Picture(picture_id, await self._run(self._service.open, data))
        self._pictures.keep(picture)
        return picture

    async def segment(self, image: Image, request: Any) -> Any:
        """Return the instances (`serving.Instances`) that a `request.Request` asks for in a
        picture.
        """
        return await self._run(self._service.segment, image, request)

    async def _run(self, call: Any, *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self._limiter)
