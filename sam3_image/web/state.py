"""What the routes work with: one `ServerState` for each application, given to each route."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from sam3_image.decode import Image
from sam3_image.settings import WebSettings
from sam3_image.web.fetch import Fetcher
from sam3_image.web.jobs import Jobs
from sam3_image.web.ops import Measures
from sam3_image.web.problems import NotReadyError
from sam3_image.web.segmentation import AsyncSegmentation
from sam3_image.web.store import Admission, BoundedStore

if TYPE_CHECKING:  # torch takes seconds
    from sam3_image.serving import Service

# Seconds after which a stopping server no longer waits for requests and jobs that still run.
GRACE_SECONDS = 10.0
IMAGE_SECONDS = 86_400.0  # an image is decoded again after a day


class ServerState:
    """What the routes share.

    images: decoded images by the digest of their file. fetcher: for URLs that a request names.
    admission: limits the requests that are answered at one time. jobs: work that a client asks
    about later. measures: what /metrics shows.
    """

    def __init__(self, settings: WebSettings) -> None:
        """Without a model; see `serve`."""
        self.settings = settings
        self.images: BoundedStore[Image] = BoundedStore(
            "image", settings.max_pictures, settings.max_picture_bytes, IMAGE_SECONDS
        )
        self.fetcher = Fetcher(settings.fetch_urls, settings.label_studio_url)
        self.admission = Admission(settings.max_waiting)
        self.jobs = Jobs(max_unfinished=settings.max_waiting)
        self.measures = Measures()
        self.stops_at = math.inf  # monotonic seconds at which the grace of a stopping server ends
        self.service: Service | None = None
        self._segmentation: AsyncSegmentation | None = None
        self._stores: dict[str, BoundedStore[Any]] = {}

    def serve(self, service: Service) -> None:
        """Answer with this model from now on."""
        self._segmentation = AsyncSegmentation(service, self.images, self.measures)
        self.measures.watch(service)
        self.service = service

    async def finish(self) -> None:
        """Let the jobs end before the server stops, for as long as its grace lasts."""
        left = max(0.0, self.stops_at - time.monotonic())
        await self.jobs.finish(min(left, GRACE_SECONDS))

    @property
    def ready(self) -> bool:
        """Whether the model answers; False while it is loaded and after the device was lost."""
        return self.service is not None and self.service.healthy()

    @property
    def segmentation(self) -> AsyncSegmentation:
        """The way to the model; raises NotReadyError while it is loaded."""
        if self._segmentation is None:
            raise NotReadyError("The model is still being loaded: try again in a moment.")
        return self._segmentation

    def store(self, name: str) -> BoundedStore[Any]:
        """The store of this name, made when it is first asked for.

        Each client has its own, so that none gives out what another one was sent.
        """
        return self._stores.setdefault(name, BoundedStore(name))


def server_state(request: Request) -> ServerState:
    """The state of the application that answers `request`."""
    state: ServerState = request.app.state.server
    return state


Server = Annotated[ServerState, Depends(server_state)]


def address(request: Request, path: str) -> str:
    """The address of `path` on this server, as this client reaches it."""
    base = server_state(request).settings.public_url or str(request.base_url)
    return base.rstrip("/") + path
