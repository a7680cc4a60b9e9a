"""The page's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from sam3_image.web.context import Context, Group

STATIC = Path(__file__).parent / "static"
# The files of a new version must not mix with the old ones in a browser's cache; asking whether
# they changed costs a request each to this machine.
NO_CACHE = {"Cache-Control": "no-cache"}


class _Files(StaticFiles):
    def file_response(self, *arguments: object, **options: object) -> Response:
        response: Response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers.update(NO_CACHE)
        return response


async def _index(_: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers=NO_CACHE)


def _routes(_: Context) -> Sequence[BaseRoute]:
    return [Route("/", _index), Mount("/static", _Files(directory=STATIC))]


GROUP = Group("page", _routes, open_paths=("/", "/static/"))
