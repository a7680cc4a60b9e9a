"""Who may ask, and how much: the checks in front of every route, as plain ASGI middleware.

A server on the loopback address is reached by every page that its user's browser opens. Such a
page may send requests across origins, or make its own name point at 127.0.0.1 (DNS rebinding), so
both the name asked for and the page that asks are checked, token or not.

The token is checked here and not in a FastAPI dependency because FastAPI reads a body before it
runs any dependency: nobody without a token may make this server hold an upload.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam3_image.errors import shown
from sam3_image.settings import WebSettings, is_loopback
from sam3_image.web.problems import HEADERS, problem

NO_TOKEN = (
    "This server asks for a token (SAM3_TOKEN where it runs): give it to the client as its API "
    "key, or send it as 'Authorization: Bearer …'; in the browser open the page's address with "
    "#token=… added."
)
MAX_LENGTH_DIGITS = 20
# Key of the scope: the host that a trusted proxy was asked for.
FORWARDED_HOST = "sam3.forwarded_host"
# Roboflow's SDK puts its key first in the JSON. Of a body without a key in front, no more is read.
KEYED_PATHS = "/sam3/"
KEY = re.compile(rb'"api_key"\s*:\s*("(?:[^"\\]|\\.)*")')
KEY_BYTES = 16_384
KEY_SECONDS = 10


class Guard:
    """Refuses foreign names (421), foreign pages (403), and bodies over the limit (413).

    Adds `HEADERS` to every answer that does not have them.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings
        public = urlsplit(settings.public_url or "")
        self._public_host, self._public_name = public.netloc or None, public.hostname

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await problem(*refusal)(scope, receive, send_with_headers)
            return
        prefix = scope.get("root_path", "")
        if not scope["path"].startswith(f"{prefix}/"):  # the proxy took it off, and ASGI wants it
            scope["path"] = prefix + scope["path"]
        if FORWARDED_HOST in scope:
            MutableHeaders(scope=scope)["host"] = scope[FORWARDED_HOST]
        await self._app(scope, self._limited(receive), send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        # Both: a page that made its own name point here can send a X-Forwarded-Host of its choice.
        hosts = [headers.get("host", ""), scope.get(FORWARDED_HOST) or headers.get("host", "")]
        for host in hosts:
            if not self._is_ours(host):
                return 421, (
                    f"This server is not called {shown(host)}: use the address that it printed, "
                    "or set SAM3_WEB_HOSTS to the names it may be called by."
                )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] not in (*hosts, self._public_host):
            return 403, f"A page from {shown(origin)} may not use this server."
        # A link from elsewhere may open the page; anything else across sites is refused.
        opens_page = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not opens_page:
            return 403, f"A request from another site ({shown(site)}) may not use this server."
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            too_many_digits = len(length) > MAX_LENGTH_DIGITS
            if too_many_digits or int(length) > self._settings.max_upload_bytes:
                return 413, too_long(self._settings)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.lower().rpartition(":")[0] if _has_port(host) else host.lower()
        if is_loopback(name) or name in (*self._settings.hosts, self._public_name):
            return True
        if self._settings.is_local:
            return False
        # Behind an address there is no name that somebody else could point elsewhere.
        return name == self._settings.host.lower() or _is_address(name)

    def _limited(self, receive: Receive) -> Receive:
        """The same messages, until they hold more bytes than a request may."""
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._settings.max_upload_bytes:
                raise HTTPException(413, too_long(self._settings))
            return message

        return limited


class RequireToken:
    """Refuses (401) requests that do not bring the token, where one is set.

    It is taken from every place where one of the clients puts its API key: the Authorization
    header under any scheme, as the password of Basic credentials, the Token header, the query,
    and the body of Roboflow's SDK.

    open_paths: what is served without: a path, or everything below one that ends in "/".
    """

    def __init__(self, app: ASGIApp, token: str | None, open_paths: Sequence[str] = ()) -> None:
        self._app = app
        self._token = token
        self._open_paths = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if (
            scope["type"] != "http"
            or self._token is None
            or self._is_open(_path(scope))
            or any(is_token(given, self._token) for given in _given_tokens(scope))
        ):
            await self._app(scope, receive, send)
        elif _path(scope).startswith(KEYED_PATHS):
            await self._ask_body(scope, receive, send, self._token)
        else:
            await _unauthorized(scope, receive, send)

    async def _ask_body(self, scope: Scope, receive: Receive, send: Send, token: str) -> None:
        """Look for the token at the beginning of a JSON body, and drop what comes without it.

        The body is read even so: a client that is cut off while it sends never sees the answer.
        """
        messages: list[Message] = []
        begin, allowed, more = b"", False, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEY_SECONDS):
                while more and not allowed:
                    message = await receive()
                    more = bool(message.get("more_body"))
                    if len(begin) < KEY_BYTES:
                        messages.append(message)
                        begin += message.get("body", b"")
                        allowed = any(is_token(given, token) for given in _keys(begin))
        if allowed:
            await self._app(scope, _replayed(messages, receive), send)
        else:
            await _unauthorized(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return any(
            path.startswith(known) if known.endswith("/") and known != "/" else path == known
            for known in self._open_paths
        )


def too_long(settings: WebSettings) -> str:
    """The message for an upload over the limit."""
    return (
        f"The upload is larger than the {settings.max_upload_bytes:,} bytes accepted in one "
        "request: send a smaller file (or raise SAM3_WEB_MAX_UPLOAD where the server runs)."
    )


def is_token(given: str, token: str) -> bool:
    """Whether that is the token, in a time that does not say how much of it was right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def _given_tokens(scope: Scope) -> Iterator[str]:
    headers = Headers(scope=scope)
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    yield credentials.strip()
    yield headers.get("token", "")
    yield from parse_qs(scope["query_string"].decode("latin-1")).get("api_key", ())
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            yield base64.b64decode(credentials).decode().partition(":")[2]


def _keys(begin: bytes) -> Iterator[str]:
    for found in KEY.finditer(begin):
        with contextlib.suppress(ValueError):
            yield str(json.loads(found[1]))


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """The messages that were read already, then those that are still to come."""

    async def replayed() -> Message:
        return messages.pop(0) if messages else await receive()

    return replayed


def _path(scope: Scope) -> str:
    """The path below the prefix under which a proxy serves this application."""
    prefix, path = scope.get("root_path", ""), str(scope["path"])
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


async def _unauthorized(scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})
    await answer(scope, receive, send)


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
