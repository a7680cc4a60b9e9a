"""The application: guard, token, the routes of the page and of the clients, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from sam3_image.errors import UserError, shown
from sam3_image.settings import WebSettings
from sam3_image.web import health
from sam3_image.web.clients import CLIENTS
from sam3_image.web.guard import Guard, RequireToken
from sam3_image.web.ops import Watch
from sam3_image.web.page import api, files
from sam3_image.web.problems import add_handlers
from sam3_image.web.state import ServerState

if TYPE_CHECKING:  # torch takes seconds
    from sam3_image.serving import Service

ROUTERS: dict[str, APIRouter] = {"page": files.router, "api": api.router, **CLIENTS}
OPEN_PATHS = ("/", "/static/", "/openapi.json", *health.PATHS)


def create_app(service: Service | None, settings: WebSettings) -> FastAPI:
    """The web server's application.

    service: a loaded model, or None: then `app.state.server.serve(service)` is called later, and
        until then /readyz and everything that needs the model answer 503.
    Raises UserError where the settings name routes that do not exist.
    """
    state = ServerState(settings)
    if service is not None:
        state.serve(service)
    app = FastAPI(
        title="sam3-image",
        version="1",
        description="SAM 3 behind the routes of other systems' clients; docs/clients.md says how "
        "to set each client up.",
        docs_url=None,  # its page loads scripts of other sites
        redoc_url=None,
        root_path=settings.root_path,
        middleware=[
            Middleware(Watch, state.measures),
            Middleware(Guard, settings),
            Middleware(RequireToken, settings.token, OPEN_PATHS),
        ],
        lifespan=_lifespan,
    )
    app.state.server = state
    add_handlers(app)
    for router in (health.router, *_chosen(settings.groups)):
        app.include_router(router)
    if settings.groups is None or "page" in settings.groups:
        app.mount("/static", files.StaticPage(directory=files.STATIC))
    return app


def _chosen(names: tuple[str, ...] | None) -> list[APIRouter]:
    """The routers of these names, all of them where None."""
    for name in names or ():
        if name not in ROUTERS:
            raise UserError(
                f"SAM3_WEB_ROUTES names {shown(name)}; the groups of routes are "
                f"{', '.join(ROUTERS)}: choose some of them, or leave it unset for all."
            )
    return [ROUTERS[name] for name in dict.fromkeys(ROUTERS if names is None else names)]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.server.finish()
