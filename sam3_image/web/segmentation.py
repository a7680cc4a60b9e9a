"""The way from a coroutine to the model: everything that takes time runs in another thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from sam3_image.decode import Image
from sam3_image.masks import Selection
from sam3_image.output import Output, preview, render
from sam3_image.request import Request
from sam3_image.web.labels import kept_instances
from sam3_image.web.pictures import Picture, Pictures

if TYPE_CHECKING:  # torch takes seconds, and whoever has a service has imported it
    from sam3_image.instances import Instances
    from sam3_image.serving import Service

THREADS = 4

R = TypeVar("R")
A = TypeVarTuple("A")


class Segmentation:
    """`serving.Service` for coroutines; errors are those of the service."""

    def __init__(self, service: Service, pictures: Pictures) -> None:
        self.source = service.source
        self._service = service
        self._pictures = pictures
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def open(self, data: bytes) -> Picture:
        """Decode a picture file and remember it; one that is known is not decoded again."""
        picture_id = await self.call(Pictures.id_of, data)
        known = self._pictures.known(picture_id)
        if known is not None:
            return known
        picture = Picture(picture_id, await self._service.submit_open(data))
        self._pictures.keep(picture)
        return picture

    async def segment(self, image: Image, request: Request) -> Instances:
        """Return the instances that a request asks for in a picture."""
        self._service.check(request)
        return await self._service.submit(image, request)

    async def segment_all(
        self,
        image: Image,
        questions: Sequence[tuple[Request, Sequence[int]]],
        selection: Selection,
    ) -> Instances:
        """Return the instances of several requests as one answer, with one selection.

        questions: each with the indices that its prompts get in the answer.
        """
        parts = [(await self.segment(image, request), places) for request, places in questions]
        return await self.call(parts[0][0].joined, parts, selection)

    async def file(self, image: Image, request: Request) -> tuple[str, bytes]:
        """Name and content of the file that `predict()` would give."""
        self._service.check(request)
        rendered = await self._service.submit_rendered(image, request)
        return rendered.name, rendered.data

    async def written(
        self, image: Image, records: Any, concepts: Any, output: Output
    ) -> tuple[str, bytes]:
        """Name and content of the file of instances that a client sends back.

        records, concepts: as `kept_instances` takes them; raises InputError.
        """
        output.check_size(image.size)
        kept = await self.call(kept_instances, image, records, concepts)
        rendered = await self.call(render, kept.image, kept.detections, output)
        return rendered.name, rendered.data

    async def preview(self, image: Image) -> bytes:
        """Return a JPEG of the picture, scaled down where it is large."""
        return await self.call(preview, image.pixels)

    async def call(self, function: Callable[[*A], R], *arguments: *A) -> R:
        """Run a function in a worker thread."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)
