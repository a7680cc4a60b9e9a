"""What every route group is given, and how it declares itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute

from sam3_image.web.pictures import Pictures
from sam3_image.web.segmentation import Segmentation
from sam3_image.web.settings import WebSettings


@dataclass(frozen=True)
class Context:
    """What the routes work with.

    segmentation: the way to the model, with `await`. pictures: those sent before, by content.
    """

    settings: WebSettings
    segmentation: Segmentation
    pictures: Pictures


@dataclass(frozen=True)
class Group:
    """Routes that are switched on and off together (SAM3_WEB_ROUTES).

    routes: makes them. open_paths: what the server's token check leaves to them: a path, or
        everything below one that ends in "/".
    """

    name: str
    routes: Callable[[Context], Sequence[BaseRoute]]
    open_paths: tuple[str, ...] = ()
