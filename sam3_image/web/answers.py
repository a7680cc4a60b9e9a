"""The one body of every error, and which HTTP status each of our errors gets."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sam3_image.errors import InputError, MemoryLimitError, UserError
from sam3_image.web.shelf import Busy

# Of every answer. The page is HTML, CSS and modules from /static, and pictures of its own making.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

CLOSED = 499  # nobody reads it: the client is gone
UNEXPECTED = "The server failed on this request; its log says why. The next request can still work."


class PictureGone(InputError):
    """A picture is asked for by an id that is no longer (or never was) known."""


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as JSON: the sentence for a person under every name that a client
    looks for it.
    """
    body = {
        "message": message,
        "detail": message,
        "title": HTTPStatus(status).phrase,
        "status": str(status),
    }
    return JSONResponse(body, status, headers)


def status_of(error: UserError) -> int:
    """Return the HTTP status for one of our errors."""
    if isinstance(error, PictureGone):
        return HTTPStatus.GONE
    if isinstance(error, Busy):
        return HTTPStatus.TOO_MANY_REQUESTS
    if isinstance(error, InputError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if isinstance(error, MemoryLimitError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


async def _user_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    return problem(status_of(error), str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if message == HTTPStatus(error.status_code).phrase:  # Starlette's own, which says too little
        message = f"{request.method} {request.url.path}: {message}. The page itself is at /."
    return problem(error.status_code, message, error.headers)


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLOSED)


async def _unexpected(_: Request, __: Exception) -> Response:
    # Answered outside the guard, which adds the headers to all other answers.
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED, HEADERS)


HANDLERS: dict[Any, Any] = {
    UserError: _user_error,
    HTTPException: _http_error,
    ClientDisconnect: _left,
    Exception: _unexpected,
}
