"""uvicorn, with a bound on connections and on the time in which a request's head must arrive.

uvicorn itself waits for ever for the first byte of a request, so that idle connections would use up
the process's open files.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time

import uvicorn
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from sam3_image.web.guard import FORWARDED_HOST
from sam3_image.web.state import GRACE_SECONDS, ServerState

HEAD_SECONDS = 15.0
MAX_CONNECTIONS = 512
# Open files that the process needs for other things, and for connections that were accepted in one
# go before any of them could be closed.
OWN_FILES = 192


def max_connections() -> int:
    """How many connections are held at one time: as many as the limit of open files allows."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, min(MAX_CONNECTIONS, files - OWN_FILES))


class BoundedProtocol(H11Protocol):
    """Closes a connection that sends no request in time, and the oldest idle one when full."""

    _waits_since: float | None = None
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, at the cost of the one that has waited longest for a request."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > max_connections():
            idle = [
                other
                for other in self.connections
                if isinstance(other, BoundedProtocol) and other._waits_since is not None
            ]
            oldest = min(idle, key=lambda other: other._waits_since or 0.0)
            oldest._stop_waiting()  # it stays in `connections` until it is lost
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time begins anew only with a new request."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._waits_since is None:
            self._wait()

    def _wait(self) -> None:
        self._waits_since = time.monotonic()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        self._waits_since = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if self._waits_since is not None and not self.transport.is_closing():
            self.transport.close()


class GracefulServer(uvicorn.Server):
    """Requests and jobs share one time of grace: `state.stops_at` is set when it begins."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and let what runs go on until then."""
        self._state.stops_at = time.monotonic() + GRACE_SECONDS
        await super().shutdown(sockets)


class BehindProxy(ProxyHeadersMiddleware):
    """uvicorn's proxy headers from trusted addresses, and X-Forwarded-Host with them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Answer one request as the proxy's client asked it."""
        client = scope.get("client")
        if scope["type"] == "http" and client and client[0] in self.trusted_hosts:
            host = Headers(scope=scope).get("x-forwarded-host", "").partition(",")[0].strip()
            if host:
                scope[FORWARDED_HOST] = host
        await super().__call__(scope, receive, send)  # type: ignore[arg-type]


def behind_proxy(app: ASGIApp, trusted: list[str] | str) -> BehindProxy:
    """`app` for requests that come through a proxy at one of the addresses `trusted`."""
    return BehindProxy(app, trusted)  # type: ignore[arg-type]
