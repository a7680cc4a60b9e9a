"""What every route group is given, and how it declares itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from sam3_image.settings import WebSettings
from sam3_image.web.fetch import Fetcher
from sam3_image.web.jobs import Jobs
from sam3_image.web.pictures import Pictures
from sam3_image.web.segmentation import Segmentation
from sam3_image.web.shelf import MAX_FILES, File, Gate, Shelf

if TYPE_CHECKING:
    from sam3_image.web.endpoint import Endpoint

MAX_NAMES = 1024


@dataclass(frozen=True)
class Context:
    """What the routes work with.

    segmentation: the way to the model, with `await`. pictures: those sent before, by content.
    fetcher: for URLs that a request names. gate: bounds the requests of clients at one time.
    jobs: work that a client asks about later. files: what clients uploaded, by id.
    names: ids of pictures by the names that clients gave them.
    """

    settings: WebSettings
    segmentation: Segmentation
    pictures: Pictures
    fetcher: Fetcher
    gate: Gate
    jobs: Jobs
    files: Shelf[File] = field(default_factory=lambda: Shelf("file", MAX_FILES))
    names: Shelf[str] = field(default_factory=lambda: Shelf("image_id", MAX_NAMES))


@dataclass(frozen=True)
class Group:
    """Routes that are switched on and off together (SAM3_WEB_ROUTES).

    routes: makes them. open_paths: what the server's token check leaves to them: a path, or
        everything below one that ends in "/".
    endpoints: of those routes, what /openapi.json describes.
    """

    name: str
    routes: Callable[[Context], Sequence[BaseRoute]]
    open_paths: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
