"""How every route of a client takes its request: within limits, and no longer than it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect

from sam3_image.web.json_text import parse_json
from sam3_image.web.problems import STATUSES
from sam3_image.web.state import server_state

# A body that never ends must not hold its place.
BODY_SECONDS = 120
SKIPPED = "X-SAM3-Skipped-Labels"  # JSON: labels of a project that the model cannot read
MAX_PARTS = 32  # of a form

R = TypeVar("R")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Body(BaseModel):
    """What a client sends. Fields that are not declared are ignored, as their own servers do."""

    model_config = ConfigDict(extra="ignore")


class StrictBody(BaseModel):
    """The same for clients whose own servers refuse fields that they do not know."""

    model_config = ConfigDict(extra="forbid")


class _JsonRequest(Request):
    """A request whose JSON is read strictly, whatever its Content-Type says."""

    async def json(self) -> Any:
        """The value of the body; raises InputError."""
        if not hasattr(self, "_json"):
            self._json = parse_json("The body", await self.body())
        return self._json


class BoundedRoute(APIRoute):
    """A route that works only for clients that are admitted and stay.

    A POST takes a place and reads its body within `BODY_SECONDS` before FastAPI sees it. The work
    is canceled when the client goes away.

    statuses: HTTP status of each kind of error.
    """

    statuses: ClassVar[Mapping[type[Exception], int]] = STATUSES

    def get_route_handler(self) -> Handler:
        """FastAPI's handler inside the limits."""
        answer = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            if self.methods is None or "POST" not in self.methods:
                return await answer(request)
            with server_state(request).admission.place():
                whole = await self._read(request)
                return await until_gone(whole, answer(whole))

        return bounded

    async def _read(self, request: Request) -> Request:
        """The request with its body in memory; raises InputError and HTTPException (408)."""
        declared = None if self.body_field is None else self.body_field.field_info
        content_type = request.headers.get("content-type", "")
        as_form = isinstance(declared, params.Form) or (
            declared is None and content_type.startswith("multipart/form-data")
        )
        if declared is not None and not as_form:  # FastAPI reads JSON of this type alone
            others = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
            headers = [*others, (b"content-type", b"application/json")]
            request = _JsonRequest({**request.scope, "headers": headers}, request.receive)
        async with _arriving():
            if as_form:
                await request.form(max_files=MAX_PARTS, max_fields=MAX_PARTS)
            else:
                await request.body()
        if isinstance(request, _JsonRequest):
            await request.json()
        return request


def client_router(name: str, route_class: type[BoundedRoute] = BoundedRoute) -> APIRouter:
    """A router for the routes of one client, under its name in SAM3_WEB_ROUTES."""
    return APIRouter(tags=[name], route_class=route_class)


def skipped(response: Response, labels: Sequence[str], kept: Sequence[str]) -> None:
    """Name those of the labels that were not kept in a header: the bodies have no place for it."""
    left_out = [label for label in labels if label not in kept]
    if left_out:
        response.headers[SKIPPED] = json.dumps(left_out)


async def until_gone(request: Request, work: Awaitable[R]) -> R:
    """The result of `work`, which is canceled when the client goes away (ClientDisconnect)."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        left.cancel()


@contextlib.asynccontextmanager
async def _arriving() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            yield
    except TimeoutError:
        raise HTTPException(
            408, f"The body did not arrive within {BODY_SECONDS} s: send it again."
        ) from None


async def _left(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
