"""The application: guard, token, route groups, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from sam3_image.settings import WebSettings
from sam3_image.web import groups
from sam3_image.web.answers import HANDLERS
from sam3_image.web.context import Context
from sam3_image.web.fetch import Fetcher
from sam3_image.web.guard import Guard, RequireToken
from sam3_image.web.jobs import Jobs
from sam3_image.web.pictures import Pictures
from sam3_image.web.segmentation import Segmentation
from sam3_image.web.shelf import Gate

if TYPE_CHECKING:
    from sam3_image.serving import Service


def create_app(service: Service, settings: WebSettings) -> Starlette:
    """Return the web server's application around a loaded `serving.Service`.

    Raises UserError where the settings name a group of routes that does not exist.
    """
    pictures = Pictures(settings.max_pictures, settings.max_picture_bytes)
    fetcher = Fetcher(settings.fetch_urls, settings.label_studio_url)
    context = Context(
        settings=settings,
        segmentation=Segmentation(service, pictures),
        pictures=pictures,
        fetcher=fetcher,
        gate=Gate(settings.max_waiting),
        jobs=Jobs(max_unfinished=settings.max_waiting),
    )
    chosen = groups.chosen(settings.groups)
    open_paths = tuple(path for group in chosen for path in group.open_paths)
    return Starlette(
        routes=[route for group in chosen for route in group.routes(context)],
        middleware=[
            Middleware(Guard, settings),
            Middleware(RequireToken, settings.token, open_paths),
        ],
        exception_handlers=HANDLERS,
    )
