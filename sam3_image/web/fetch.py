"""URLs that a request names → bytes, without becoming a way into the network behind this server.

A request may name an address that only this server can reach (a cloud's metadata service, a
database, the router). So a name is resolved here, every address it resolves to must be allowed,
and the connection goes to the address that was checked, not to the name: a name server that
answers differently the second time gains nothing. Redirects are followed by the same rules.

httpcore, the transport of httpx, is used directly: it is the layer that lets a program make the
connection itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import anyio.to_thread
import httpcore

from sam3_image.errors import ImageError, shown
from sam3_image.settings import OFF, PRIVATE

MAX_BYTES = 64_000_000
MAX_SECONDS = 20.0  # from the moment of asking, waiting for others included
MAX_REDIRECTS = 4
AT_ONCE = 8  # fetches, and as many webhooks
PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)

# IANA's special-purpose ranges that Python 3.11 takes for global ones.
SPECIAL = tuple(ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24"))
# Of IPv6 only these are unicast addresses of the internet, less what leads to IPv4 addresses
# inside them (Teredo, 6to4) and ranges for protocols and documentation.
GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
SPECIAL_IPV6 = tuple(
    ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

KEPT = "!$&'()*+,;=:@/%~"  # characters of a path that are not percent-encoded (again)

Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float | None], Awaitable[httpcore.AsyncNetworkStream]]


class FetchError(ImageError):
    """A URL of the request is not allowed, or what it leads to cannot be had."""


def resolve(host: str, port: int) -> list[str]:
    """Every address that `host` has, IPv4 and IPv6; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def connect(address: str, port: int, seconds: float | None) -> httpcore.AsyncNetworkStream:
    """A connection to an address (never a name)."""
    return await httpcore.AnyIOBackend().connect_tcp(address, port, seconds)


@dataclass(frozen=True)
class Fetcher:
    """Fetches what requests name, and posts webhooks, within limits.

    policy: `OFF`, `PUBLIC` (only addresses of the public internet) or `PRIVATE` (any).
    trusted: the URL of a server that the operator of this one named; the policy does not apply
        to what has its scheme, host and port.
    max_bytes, max_seconds: of one fetch, redirects included.
    resolve, connect: replaced by tests, which have no public addresses.
    """

    policy: str = OFF
    trusted: str | None = None
    max_bytes: int = MAX_BYTES
    max_seconds: float = MAX_SECONDS
    resolve: Resolve = resolve
    connect: Connect = connect
    # Apart, so that webhooks that nobody answers do not keep images waiting.
    gets: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    posts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def fetch(self, url: str, authorization: str | None = None) -> bytes:
        """The content at `url`; raises FetchError.

        authorization: a header for the server of that URL, not for one that it redirects to.
        """
        return await self._in_time(url, self.gets, partial(self._follow, url, authorization))

    async def post(self, url: str, body: bytes, authorization: str | None = None) -> bytes:
        """The answer to JSON sent to `url`, by the same rules, but without redirects."""
        return await self._in_time(url, self.posts, partial(self._send, url, body, authorization))

    def check_url(self, url: str) -> None:
        """Raise FetchError for a URL that is not fetched whatever it resolves to."""
        parts = split(url)
        if self.policy == OFF and not self._is_trusted(parts):
            raise FetchError(
                f"{shown(url)} is a URL, and this server fetches none (SAM3_FETCH_URLS=off); send "
                "the image itself, or have the server started with SAM3_FETCH_URLS=public."
            )

    async def allowed_address(self, host: str, port: int, parts: SplitResult) -> str:
        """The address to connect to for a URL; raises FetchError and OSError."""
        addresses = await anyio.to_thread.run_sync(self.resolve, host, port, abandon_on_cancel=True)
        if self.policy != PRIVATE and not self._is_trusted(parts):
            for address in addresses:
                if not is_public(address):
                    raise FetchError(
                        f"{shown(parts.geturl())} leads to {address}, which is not an address of "
                        "the public internet; this server fetches no others "
                        "(SAM3_FETCH_URLS=private would allow it)."
                    )
        if not addresses:
            raise OSError("the name has no address")
        return addresses[0]

    async def _in_time(
        self, url: str, turns: asyncio.Semaphore, exchange: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        try:
            async with asyncio.timeout(self.max_seconds), turns:
                return await exchange()
        except TimeoutError:
            raise FetchError(
                f"{shown(url)} took more than {self.max_seconds:g} s; send the image itself."
            ) from None
        except (OSError, ValueError, *NETWORK_ERRORS) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FetchError(f"{shown(url)} cannot be fetched ({reason[:80]}).") from None

    async def _follow(self, url: str, authorization: str | None) -> bytes:
        first = _origin(split(url))
        for _ in range(MAX_REDIRECTS + 1):
            secret = authorization if _origin(split(url)) == first else None
            status, location, content = await self._once(url, None, secret)
            if status not in REDIRECTS or not location:
                return _successful(url, status, content)
            url = urljoin(url, location)
        raise FetchError(
            f"{shown(url)} redirects more than {MAX_REDIRECTS} times; give its target."
        )

    async def _send(self, url: str, body: bytes, authorization: str | None) -> bytes:
        status, _, content = await self._once(url, body, authorization)
        return _successful(url, status, content)

    async def _once(
        self, url: str, body: bytes | None, authorization: str | None
    ) -> tuple[int, str | None, bytes]:
        """(status, Location, content) of one GET, or of a POST where there is a body."""
        self.check_url(url)
        parts = split(url)
        headers = [("User-Agent", "sam3-image"), ("Accept-Encoding", "identity")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        if authorization:
            headers.append(("Authorization", authorization))
        target = httpcore.URL(
            scheme=parts.scheme,
            host=str(parts.hostname),
            port=parts.port,
            target=f"{parts.path or '/'}?{parts.query}".removesuffix("?"),
        )
        async with (
            httpcore.AsyncConnectionPool(
                ssl.create_default_context(), network_backend=_Checked(self, parts)
            ) as pool,
            pool.stream(
                "GET" if body is None else "POST", target, headers=headers, content=body
            ) as answer,
        ):
            content = await self._read(answer.aiter_stream(), url)
            received = {name.lower(): value for name, value in answer.headers}
            return answer.status, _text(received.get(b"location")), content

    async def _read(self, stream: Any, url: str) -> bytes:
        content = bytearray()
        async for piece in stream:
            content += piece
            if len(content) > self.max_bytes:
                raise FetchError(
                    f"{shown(url)} holds more than {self.max_bytes:,} bytes; send a smaller image."
                )
        return bytes(content)

    def _is_trusted(self, parts: SplitResult) -> bool:
        return self.trusted is not None and _origin(parts) == _origin(split(self.trusted))


NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to an address that was checked."""

    def __init__(self, fetcher: Fetcher, parts: SplitResult) -> None:
        self._fetcher = fetcher
        self._parts = parts

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._fetcher.allowed_address(host, port, self._parts)
        return await self._fetcher.connect(address, port, timeout)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet.

    False for private, loopback, link-local, reserved and multicast addresses, for ranges that IANA
    keeps for protocols or documentation, and for IPv6 addresses that stand for an IPv4 address
    which is one of these.
    """
    parsed: ipaddress.IPv4Address | ipaddress.IPv6Address
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, ipaddress.IPv6Address):
        return parsed in GLOBAL_IPV6 and not any(parsed in network for network in SPECIAL_IPV6)
    special = parsed.is_multicast or parsed.is_reserved
    return parsed.is_global and not special and not any(parsed in network for network in SPECIAL)


def split(url: str) -> SplitResult:
    """The parts of an http(s) URL with a host; raises FetchError for any other text.

    Spaces and letters outside ASCII, which browsers show unencoded, are encoded: the host by IDNA,
    the rest by percent signs.
    """
    try:
        parts = urlsplit(url.strip(" "))
        usable = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
        host = str(parts.hostname)
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        path = quote(parts.path, safe=KEPT)
        query = quote(parts.query, safe=KEPT + "?[]")
    except ValueError:
        usable = False
    if not usable or any(character < " " or character == "\x7f" for character in url):
        raise FetchError(f"image must be an http(s) or data URL, got {shown(url)}.")
    if parts.username is not None or parts.password is not None:
        raise FetchError("a URL with a user name or a password in it is not fetched.")
    if " " in host:
        raise FetchError(f"image must be an http(s) or data URL, got {shown(url)}.")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    return SplitResult(parts.scheme, host + port, path, query, "")


def _text(header: bytes | None) -> str | None:
    if header is None:
        return None
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _successful(url: str, status: int, content: bytes) -> bytes:
    if not 200 <= status < 300:
        raise FetchError(f"{shown(url)} answered {status}; check the address.")
    return content


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname}:{parts.port or PORTS[parts.scheme]}"
