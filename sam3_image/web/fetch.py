"""URLs that a request names → bytes, without becoming a way into the network behind this server.

A request may name an address that only this server can reach (a cloud's metadata service, a
database, the router). So a name is resolved here, every address it resolves to must be allowed,
and the connection goes to the address that was checked, not to the name: a name server that
answers differently the second time gains nothing. Redirects are followed by the same rules.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import SplitResult, urljoin, urlsplit

from sam3_image.errors import ImageError, shown
from sam3_image.settings import OFF, PRIVATE

MAX_BYTES = 64_000_000
MAX_SECONDS = 20.0
MAX_REDIRECTS = 4
AT_ONCE = 8  # threads that wait for other servers; they use no CPU
CHUNK = 1 << 16
PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)

# Ranges that count as global to `ipaddress` but lead to IPv4 addresses inside them.
TRANSLATED = tuple(ipaddress.ip_network(text) for text in ("64:ff9b::/96", "2002::/16"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


class FetchError(ImageError):
    """A URL of the request is not allowed, or what it leads to cannot be had."""


def resolve(host: str, port: int) -> list[str]:
    """Every address that `host` has, IPv4 and IPv6; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """Return a connection to an address (never a name); raises OSError."""
    return socket.create_connection((address, port), timeout=seconds)


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
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
    )

    async def get(self, url: str, authorization: str | None = None) -> bytes:
        """Return the content at `url`; raises FetchError.

        authorization: a header for the server of that URL, not for one that it redirects to.
        """
        return await self._on_thread(partial(self._follow, url, authorization))

    async def post(self, url: str, body: bytes, authorization: str | None = None) -> bytes:
        """Return the answer to JSON sent to `url`, by the same rules, but without redirects."""
        return await self._on_thread(partial(self._send, url, body, authorization))

    def check(self, url: str) -> None:
        """Raise FetchError for a URL that is not fetched whatever it resolves to."""
        parts = split(url)
        if self.policy == OFF and not self._is_trusted(parts):
            raise FetchError(
                f"{shown(url)} is a URL, and this server fetches none (SAM3_FETCH_URLS=off); send "
                "the image itself, or have the server started with SAM3_FETCH_URLS=public."
            )

    async def _on_thread(self, call: Callable[[], bytes]) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    def _is_trusted(self, parts: SplitResult) -> bool:
        return self.trusted is not None and _origin(parts) == _origin(split(self.trusted))

    def _follow(self, url: str, authorization: str | None) -> bytes:
        deadline = time.monotonic() + self.max_seconds
        first = _origin(split(url))
        for _ in range(MAX_REDIRECTS + 1):
            secret = authorization if _origin(split(url)) == first else None
            status, location, content = self._once(url, None, secret, deadline)
            if status not in REDIRECTS or not location:
                return _successful(url, status, content)
            url = urljoin(url, location)
        raise FetchError(
            f"{shown(url)} redirects more than {MAX_REDIRECTS} times; give its target."
        )

    def _send(self, url: str, body: bytes, authorization: str | None) -> bytes:
        status, _, content = self._once(
            url, body, authorization, time.monotonic() + self.max_seconds
        )
        return _successful(url, status, content)

    def _once(
        self, url: str, body: bytes | None, authorization: str | None, deadline: float
    ) -> tuple[int, str | None, bytes]:
        """(status, Location, content) of one GET, or of a POST where there is a body."""
        self.check(url)
        parts = split(url)
        headers = {"User-Agent": "sam3-image", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if authorization:
            headers["Authorization"] = authorization
        try:
            with self._connection(parts, deadline) as connection:
                method = "GET" if body is None else "POST"
                connection.request(method, _target(parts), body=body, headers=headers)
                answer = connection.getresponse()
                content = self._read(answer, url)
                if time.monotonic() < deadline:
                    return answer.status, answer.headers["Location"], content
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() < deadline:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise FetchError(f"{shown(url)} cannot be fetched ({reason[:80]}).") from None
        raise FetchError(
            f"{shown(url)} took more than {self.max_seconds:g} s; send the image itself."
        )

    @contextmanager
    def _connection(
        self, parts: SplitResult, deadline: float
    ) -> Iterator[http.client.HTTPConnection]:
        host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
        address = self._allowed_address(parts, host, port)
        link = self.connect(address, port, max(0.1, deadline - time.monotonic()))
        if parts.scheme == "https":
            link = ssl.create_default_context().wrap_socket(
                link, server_hostname=host, do_handshake_on_connect=False
            )
        # A server that sends a byte now and then never runs into a socket's own timeout, so the
        # whole exchange ends at the deadline by shutting the socket down.
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _end, (link,))
        timer.daemon = True
        timer.start()
        connection = http.client.HTTPConnection(host, port)
        try:
            if isinstance(link, ssl.SSLSocket):
                link.do_handshake()
            connection.sock = link
            yield connection
        finally:
            timer.cancel()
            connection.close()
            link.close()

    def _allowed_address(self, parts: SplitResult, host: str, port: int) -> str:
        addresses = self.resolve(host, port)
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

    def _read(self, answer: http.client.HTTPResponse, url: str) -> bytes:
        content = bytearray()
        while piece := answer.read1(CHUNK):
            content += piece
            if len(content) > self.max_bytes:
                raise FetchError(
                    f"{shown(url)} holds more than {self.max_bytes:,} bytes; send a smaller image."
                )
        if answer.length:  # what is still to come of a Content-Length
            raise OSError("the connection ended early")
        return bytes(content)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet.

    False for private, loopback, link-local, reserved and multicast addresses, and for IPv6
    addresses that stand for an IPv4 address which is one of these.
    """
    parsed: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif any(parsed in network for network in TRANSLATED):
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def split(url: str) -> SplitResult:
    """Return the parts of an http(s) URL with a host; raises FetchError for any other text."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character <= " " or character == "\x7f" for character in url):
        raise FetchError(f"image must be an http(s) or data URL, got {shown(url)}.")
    if parts.username is not None or parts.password is not None:
        raise FetchError("a URL with a user name or a password in it is not fetched.")
    return parts


def _successful(url: str, status: int, content: bytes) -> bytes:
    if not 200 <= status < 300:
        raise FetchError(f"{shown(url)} answered {status}; check the address.")
    return content


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname}:{parts.port or PORTS[parts.scheme]}"


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _end(link: socket.socket) -> None:
    with suppress(OSError):  # it ended by itself just now
        socket.socket.shutdown(link, socket.SHUT_RDWR)
