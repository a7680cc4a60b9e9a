"""The page's own files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).resolve().parents[1] / "static"
# The files of a new version must not mix with the old ones in a browser's cache; asking whether
# they changed costs a request each to this machine.
NO_CACHE = {"Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


class StaticPage(StaticFiles):
    """The files below /static, checked for changes at each use."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        """The file, with `NO_CACHE`."""
        response: Response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers.update(NO_CACHE)
        return response


@router.get("/")
async def index() -> FileResponse:
    """The page."""
    return FileResponse(STATIC / "index.html", headers=NO_CACHE)
