"""The way from a coroutine to the model: everything that takes time runs in another thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from sam3_image.decode import Image
from sam3_image.errors import InputError, shown
from sam3_image.masks import Selection
from sam3_image.model import MAX_PROMPTS
from sam3_image.output import Output, RenderedFile, preview, render
from sam3_image.report import LOG, Report, quiet
from sam3_image.request import Request
from sam3_image.web.kept import kept_instances
from sam3_image.web.ops import Measures
from sam3_image.web.store import BoundedStore

if TYPE_CHECKING:  # torch takes seconds
    from sam3_image.instances import Instances
    from sam3_image.serving import Service

THREADS = 4

R = TypeVar("R")
A = TypeVarTuple("A")


@dataclass(frozen=True)
class KnownImage:
    """A decoded image and its id: the digest of its file, and of how it was decoded."""

    id: str
    image: Image


class AsyncSegmentation:
    """`serving.Service` for coroutines; errors are those of the service."""

    def __init__(self, service: Service, images: BoundedStore[Image], measures: Measures) -> None:
        """Around a loaded service; decoded images are kept in `images`."""
        self.source = service.source
        self._service = service
        self._images = images
        self._measures = measures
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def known_image(self, data: bytes, value_range: str = "auto") -> KnownImage:
        """Decode an image file, or find it decoded; raises ImageError.

        value_range: how more than 8 bits become 8, as the input of `predict()`.
        """
        digest = await self.call(image_id, data, value_range)
        image = self._images.find(digest)
        if image is None:
            image = await self._service.submit_open(data, value_range)
            self._images.put(digest, image, image.pixels.nbytes)
        return KnownImage(digest, image)

    def readable(self, labels: Sequence[str]) -> list[str]:
        """Those labels that the model can read; raises InputError where it can read none."""
        kept, refused = [], None
        for label in labels:
            try:
                self._service.check_texts(Request.from_inputs(prompts=[label]))
                kept.append(label)
            except InputError as error:
                refused = error
                LOG.info("label %s is skipped: %s", shown(label), error)
        if refused is not None and not kept:
            raise refused
        return kept

    async def find_labels(self, image: Image, labels: Sequence[str], **inputs: Any) -> Instances:
        """Every instance of any number of labels, in requests of as many as one takes.

        inputs: those of `predict()` for each request.
        """
        questions = []
        for first in range(0, len(labels), MAX_PROMPTS):
            chunk = list(labels[first : first + MAX_PROMPTS])
            request = Request.from_inputs(prompts=chunk, **inputs)
            questions.append((request, range(first, first + len(chunk))))
        return await self.segment_all(image, questions, Selection())

    async def segment(self, image: Image, request: Request) -> Instances:
        """The instances that `request` asks for in `image`."""
        self._service.check_texts(request)
        report = Report(quiet)
        found = await self._service.submit(image, request, report)
        self._measures.record(report.metrics)
        return found

    async def segment_all(
        self,
        image: Image,
        questions: Sequence[tuple[Request, Sequence[int]]],
        selection: Selection,
    ) -> Instances:
        """The instances of several requests as one answer, with one selection.

        questions: each with the indices that its prompts get in the answer.
        """
        parts = [(await self.segment(image, request), places) for request, places in questions]
        return await self.call(parts[0][0].joined, parts, selection)

    async def file(self, image: Image, request: Request) -> RenderedFile:
        """The file that `predict()` would give."""
        self._service.check_texts(request)
        report = Report(quiet)
        rendered = await self._service.submit_rendered(image, request, report)
        self._measures.record(report.metrics)
        return rendered

    async def written(
        self, image: Image, records: Any, concepts: Any, output: Output
    ) -> RenderedFile:
        """The file of instances that a client sends back.

        records, concepts: as `kept_instances` takes them; raises InputError.
        """
        output.check_size(image.size)
        kept = await self.call(kept_instances, image, records, concepts)
        return await self.call(render, kept.image, kept.detections, output)

    async def preview(self, image: Image) -> bytes:
        """A JPEG of the image, scaled down where it is large."""
        return await self.call(preview, image.pixels)

    async def call(self, function: Callable[[*A], R], *arguments: *A) -> R:
        """The result of a function that runs in a worker thread."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


def image_id(data: bytes, value_range: str = "auto") -> str:
    """The id of an image: the digest of its file and how it is read, 32 hexadecimal digits."""
    digest = hashlib.sha256(data)
    if value_range != "auto":
        digest.update(f"\0{value_range}".encode())
    return digest.hexdigest()[:32]
