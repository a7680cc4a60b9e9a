"""One route of another system's client, declared: path, what it takes, what it answers.

A handler is a translation: the client's body → inputs as `predict()` names them → `Request` →
`Instances` → the client's answer. What all of them share is here: reading and checking the body,
the token wherever a client puts it, errors in a form that every client shows, and the end of the
work when the client goes away. The same declarations make /openapi.json.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sam3_image.errors import ImageError, InputError, UserError, shown
from sam3_image.web.answers import CLOSED, problem, status_of
from sam3_image.web.context import Context, Group
from sam3_image.web.guard import bearer, is_token
from sam3_image.web.shelf import Gone

NO_TOKEN = (
    "This server asks for a token (SAM3_TOKEN where it runs): give it to the client as its API "
    "key, or send it as 'Authorization: Bearer …'."
)
# A body that never ends must not hold its place.
BODY_SECONDS = 120


class Body(BaseModel):
    """What a client sends. Fields that are not declared are ignored, as their own servers do."""

    model_config = ConfigDict(extra="ignore")


class StrictBody(BaseModel):
    """The same for clients whose own servers refuse fields that they do not know."""

    model_config = ConfigDict(extra="forbid")


B = TypeVar("B")


@dataclass(frozen=True)
class Call(Generic[B]):
    """One request: its checked body, and what the routes work with."""

    http: Request
    context: Context
    body: B
    form: FormData = field(default_factory=FormData)

    def path(self, name: str) -> str:
        """Return a part of the path, declared as `{name}`."""
        return str(self.http.path_params[name])

    def url(self, path: str) -> str:
        """Return an address on this server, as this client reaches it."""
        return str(self.http.base_url).rstrip("/") + path


Handler = Callable[[Call[Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Endpoint:
    """One route.

    handle: answers a `Call` with a Response, a pydantic model, or JSON values. Its docstring is
        the route's description.
    body: the model that the JSON must fit; with `form` the fields of a multipart form; None where
        nothing is sent.
    answer: the model of the answer, for the documentation.
    refused: HTTP status for a body that does not fit.
    """

    method: str
    path: str
    handle: Handler
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    form: bool = False
    status: int = 200
    refused: int = 422

    def route(self, context: Context) -> Route:
        """Return the route that Starlette serves."""

        async def answer(http: Request) -> Response:
            try:
                with context.gate.place() if self.body else contextlib.nullcontext():
                    return await self._answer(http, context)
            except UserError as error:
                return problem(_status(error, self.refused), str(error))
            except ClientDisconnect:
                return Response(status_code=CLOSED)

        return Route(self.path, answer, methods=[self.method])

    async def _answer(self, http: Request, context: Context) -> Response:
        token = context.settings.token
        allowed = token is None or any(is_token(given, token) for given in _given_tokens(http))
        if not allowed and not (self.body and "api_key" in self.body.model_fields):
            return _unauthorized()
        form, values = await self._read(http)
        try:
            if not allowed and not _has_token(values, token):
                return _unauthorized()
            body = self.body.model_validate(values) if self.body else None
            call = Call(http, context, body, form)
            return _response(await until_gone(http, self.handle(call)), self.status)
        except ValidationError as error:
            return problem(self.refused, refusal(error))
        finally:
            await form.close()

    async def _read(self, http: Request) -> tuple[FormData, Any]:
        """Return the form and the values of the body, which is then read to its end."""
        async with arriving():
            if self.form:
                form = await http.form()
                return form, dict(form)
            return FormData(), await _json(http) if self.body else None


def group(name: str, *endpoints: Endpoint) -> Group:
    """Return the group of these routes. They check the token themselves, wherever the
    client puts it.
    """
    open_paths = tuple(endpoint.path.partition("{")[0] for endpoint in endpoints)
    return Group(
        name,
        lambda context: [endpoint.route(context) for endpoint in endpoints],
        open_paths,
        endpoints,
    )


@contextlib.asynccontextmanager
async def arriving() -> AsyncIterator[None]:
    """Bound the time in which a body is read; raises HTTPException (408) when it is over."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            yield
    except TimeoutError:
        raise HTTPException(
            408, f"The body did not arrive within {BODY_SECONDS} s: send it again."
        ) from None


async def until_gone(http: Request, work: Awaitable[Any]) -> Any:
    """Return result of `work`, which is canceled when the client goes away (ClientDisconnect)."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(http))
    try:
        await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        left.cancel()


def refusal(error: ValidationError) -> str:
    """One line about the first thing in a body that does not fit."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    if first["type"] == "missing":
        return f"{name} is missing; give it."
    if first["type"] in ("too_long", "too_short"):
        bound = first["ctx"].get("max_length", first["ctx"].get("min_length"))
        word = "most" if first["type"] == "too_long" else "least"
        return (
            f"{name} has {first['ctx']['actual_length']} entries; at {word} {bound} are accepted."
        )
    if first["type"] == "extra_forbidden":
        return f"{name} is not a field here; leave it out, or check its spelling."
    reason = first["msg"].removeprefix("Value error, ")
    where = (
        f"{name} is {shown(first['input'])}: " if name else f"The body is {shown(first['input'])}: "
    )
    return f"{where}{reason[0].lower()}{reason[1:]}."


async def _left(http: Request) -> None:
    while not await http.is_disconnected():
        await asyncio.sleep(0.2)


async def _json(http: Request) -> Any:
    content = await http.body()
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # bad UTF-8 is one, thousands of brackets the other
        raise InputError(
            f"The body is {shown(content.decode('utf-8', 'replace'))}, which is not JSON; send "
            "JSON with Content-Type: application/json."
        ) from None


def _given_tokens(http: Request) -> list[str]:
    """Every place where one of the clients puts its API key, but the body."""
    given = [bearer(http.headers), http.headers.get("token", "")]
    given.append(http.query_params.get("api_key", ""))
    scheme, _, credentials = http.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            given.append(base64.b64decode(credentials).decode().partition(":")[2])
    return given


def _has_token(values: Any, token: str | None) -> bool:
    given = values.get("api_key") if isinstance(values, dict) else None
    return token is not None and isinstance(given, str) and is_token(given, token)


def _unauthorized() -> Response:
    return problem(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})


def _status(error: UserError, refused: int) -> int:
    if isinstance(error, Gone):
        return 404
    if isinstance(error, ImageError):
        return 400
    if isinstance(error, InputError):
        return refused
    return status_of(error)


def _response(answer: Any, status: int) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, BaseModel):
        return Response(
            answer.model_dump_json(exclude_unset=True), status, media_type="application/json"
        )
    return JSONResponse(answer, status)
