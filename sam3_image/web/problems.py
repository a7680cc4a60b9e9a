"""Errors as HTTP answers: one JSON body that every client can show, and a status for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sam3_image.errors import ImageError, InputError, MemoryLimitError, UserError, shown
from sam3_image.web.store import BusyError, GoneError

# Of every answer. The page is HTML, CSS and modules from /static, and images of its own making.
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

CLOSED = 499  # the client is gone and reads no answer
UNEXPECTED = "The server failed on this request; its log says why. The next request can still work."


class NotReadyError(UserError):
    """The model cannot answer yet, or not any more."""


class ConflictError(UserError):
    """What is asked for does not exist yet: the job that makes it has not finished."""


# The most specific class of an error counts. A route class may have a table of its own.
STATUSES: dict[type[Exception], int] = {
    GoneError: 404,
    ConflictError: 409,
    BusyError: 429,
    ImageError: 400,
    InputError: 422,
    MemoryLimitError: 503,
    NotReadyError: 503,
}


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON, its sentence under every name that one of the clients looks for."""
    body = {
        "message": message,
        "detail": message,
        "title": HTTPStatus(status).phrase,
        "status": str(status),
    }
    return JSONResponse(body, status, headers)


def refusal(error: ValidationError | RequestValidationError) -> str:
    """One line about the first thing in a body that does not fit its model."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    if isinstance(error, RequestValidationError):  # FastAPI puts "body" or "path" first
        parts = parts[1:]
    name = ".".join(parts) or "The body"
    if first["type"] == "missing":
        return f"{name} is missing; give it."
    if first["type"] in ("too_long", "too_short"):
        bound = first["ctx"].get("max_length", first["ctx"].get("min_length"))
        word = "most" if first["type"] == "too_long" else "least"
        count = first["ctx"]["actual_length"]
        return f"{name} has {count} entries; at {word} {bound} are accepted."
    if first["type"] == "extra_forbidden":
        return f"{name} is not a field here; leave it out, or check its spelling."
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name} is {shown(first['input'])}: {reason[0].lower()}{reason[1:]}."


def add_handlers(app: FastAPI) -> None:
    """Have `app` answer every error with a `problem`."""
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unexpected)


def _status(request: Request, error: type[Exception]) -> int:
    statuses = getattr(request.scope.get("route"), "statuses", STATUSES)
    return next((statuses[kind] for kind in error.__mro__ if kind in statuses), 500)


async def _user_error(request: Request, error: Exception) -> Response:
    return problem(_status(request, type(error)), str(error))


async def _misfit(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(_status(request, InputError), refusal(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message: Any = error.detail
    if message == HTTPStatus(error.status_code).phrase:  # Starlette's own, which says too little
        message = f"{request.method} {request.url.path}: {message}. The page itself is at /."
    return problem(error.status_code, message, error.headers)


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLOSED)


async def _unexpected(_: Request, __: Exception) -> Response:
    # Answered outside the guard, which adds the headers to all other answers.
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED, HEADERS)
