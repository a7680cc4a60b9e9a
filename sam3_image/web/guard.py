"""Who may ask, and how much: the checks in front of every route, as plain ASGI middleware.

A server on the loopback address is reached by every page that its user's browser opens. Such a
page may send requests across origins, or make its own name point at 127.0.0.1 (DNS rebinding), so
both the name asked for and the page that asks are checked, token or not.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam3_image.errors import shown
from sam3_image.settings import WebSettings, is_loopback
from sam3_image.web.answers import HEADERS, problem


class Guard:
    """Refuses foreign names (421), foreign pages (403), and bodies over the limit (413).

    Adds `HEADERS` to every answer that does not have them.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings

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

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal:
            await problem(*refusal)(scope, receive, send_with_headers)
            return
        await self._app(scope, self._limited(receive), send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, (
                f"This server is not called {shown(host)}: use the address that it printed, or "
                "set SAM3_WEB_HOSTS to the names it may be called by."
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, f"A page from {shown(origin)} may not use this server."
        # A link from elsewhere may open the page; anything else across sites is refused.
        opens_page = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not opens_page:
            return 403, f"A request from another site ({shown(site)}) may not use this server."
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._settings.max_upload_bytes:
            return 413, too_long(self._settings)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.lower().rpartition(":")[0] if _has_port(host) else host.lower()
        if is_loopback(name) or name in self._settings.hosts:
            return True
        if self._settings.is_local:
            return False
        # Behind an address there is no name that somebody else could point elsewhere.
        return name == self._settings.host.lower() or _is_address(name)

    def _limited(self, receive: Receive) -> Receive:
        """Return the same messages, until they hold more bytes than a request may."""
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
    """Refuses (401) what does not bring the bearer token, where one is set.

    open_paths: what is served without: a path, or everything below one that ends in "/".
    """

    def __init__(self, app: ASGIApp, token: str | None, open_paths: Sequence[str] = ()) -> None:
        self._app = app
        self._token = token
        self._open_paths = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if (
            self._token is None
            or scope["type"] != "http"
            or self._is_open(scope["path"])
            or is_token(bearer(Headers(scope=scope)), self._token)
        ):
            await self._app(scope, receive, send)
            return
        answer = problem(
            401,
            "This server asks for a token: send it as 'Authorization: Bearer …' (SAM3_TOKEN "
            "where the server runs); in the browser open the page's address with #token=… added.",
            {"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return any(
            path.startswith(known) if known.endswith("/") and known != "/" else path == known
            for known in self._open_paths
        )


def too_long(settings: WebSettings) -> str:
    """Return what whoever sends too much is told."""
    return (
        f"The upload is larger than the {settings.max_upload_bytes:,} bytes accepted in one "
        "request: send a smaller file (or raise SAM3_WEB_MAX_UPLOAD where the server runs)."
    )


def bearer(headers: Headers) -> str:
    """Return token in an Authorization header, whatever the scheme calls itself; "" without one."""
    return headers.get("authorization", "").partition(" ")[2].strip()


def is_token(given: str, token: str) -> bool:
    """Whether that is the token, in a time that does not say how much of it was right."""
    return hmac.compare_digest(given.encode(), token.encode())


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
