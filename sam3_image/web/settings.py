"""What the environment and the command line decide about the web server."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from sam3_image.errors import UserError, shown
from sam3_image.web.fetch import OFF, POLICIES, PUBLIC, FetchError, split

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
# Of one request. A file of 48 MB still fits when a client sends it as base64 in JSON.
MAX_UPLOAD_BYTES = 64 * 1024 * 1024
# Each may hold an upload, so this bounds memory, too.
MAX_WAITING = 64
# Decoded pictures that stay known by their content: 512 MB are fourteen of 12 megapixels.
MAX_PICTURES = 64
MAX_PICTURE_BYTES = 512 * 1024 * 1024

CEILING = 1_000_000_000_000
FETCH = {"0": OFF, "1": PUBLIC, **{policy: policy for policy in POLICIES}}


@dataclass(frozen=True)
class WebSettings:
    """How the web server is reached and what it takes.

    host, port: where it listens; port 0 lets the system choose.
    token: the bearer token that every route but the page's own files asks for, or None.
    hosts: names, beside those of the loopback address, by which it may be addressed.
    fetch_urls: which URLs a request may name: one of `fetch.POLICIES`.
    label_studio_url, label_studio_token: where tasks of Label Studio have their files, and the
        access token of a user there; see docs/clients.md.
    max_upload_bytes: length of one request's body.
    max_waiting: requests of clients that are answered or wait at one time, and as many jobs.
    max_pictures, max_picture_bytes: how many decoded pictures are kept, and their bytes in all.
    groups: names of the route groups that are on; None for all.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    fetch_urls: str = PUBLIC
    label_studio_url: str | None = None
    label_studio_token: str | None = field(default=None, repr=False)
    max_upload_bytes: int = MAX_UPLOAD_BYTES
    max_waiting: int = MAX_WAITING
    max_pictures: int = MAX_PICTURES
    max_picture_bytes: int = MAX_PICTURE_BYTES
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise UserError where the server would be open to everyone on the network."""
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port is {self.port}; it must be a number from 1 to 65535")
        if not self.is_local and not self.token:
            raise UserError(
                f"--host {self.host} can be reached by others, and no token was set: set "
                "SAM3_TOKEN to a long random text (openssl rand -hex 32), or leave --host out."
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address it listens on."""
        return is_loopback(self.host)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], host: str = DEFAULT_HOST, port: int = DEFAULT_PORT
    ) -> WebSettings:
        """Read SAM3_TOKEN, SAM3_FETCH_URLS and the SAM3_WEB_… variables; raises UserError.

        SAM3_FETCH_URLS: off, public (the default where the server listens on the loopback address
            only) or private, which allows addresses of the server's own network too.
        SAM3_LABEL_STUDIO_URL, SAM3_LABEL_STUDIO_TOKEN: both unset where there is none.
        SAM3_WEB_HOSTS, SAM3_WEB_ROUTES: names, separated by commas.
        SAM3_WEB_MAX_UPLOAD, SAM3_WEB_MAX_WAITING, SAM3_WEB_MAX_PICTURES,
            SAM3_WEB_MAX_PICTURE_BYTES: whole numbers.
        """
        groups = _names(environment, "SAM3_WEB_ROUTES")
        return cls(
            host=host,
            port=port,
            token=environment.get("SAM3_TOKEN", "").strip() or None,
            hosts=tuple(name.lower() for name in _names(environment, "SAM3_WEB_HOSTS")),
            fetch_urls=_policy(environment, PUBLIC if is_loopback(host) else OFF),
            label_studio_url=_address(environment, "SAM3_LABEL_STUDIO_URL"),
            label_studio_token=environment.get("SAM3_LABEL_STUDIO_TOKEN", "").strip() or None,
            max_upload_bytes=_number(environment, "SAM3_WEB_MAX_UPLOAD", MAX_UPLOAD_BYTES),
            max_waiting=_number(environment, "SAM3_WEB_MAX_WAITING", MAX_WAITING),
            max_pictures=_number(environment, "SAM3_WEB_MAX_PICTURES", MAX_PICTURES),
            max_picture_bytes=_number(environment, "SAM3_WEB_MAX_PICTURE_BYTES", MAX_PICTURE_BYTES),
            groups=groups or None,
        )


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without port) is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _names(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in environment.get(variable, "").split(",") if name.strip())


def _policy(environment: Mapping[str, str], default: str) -> str:
    text = environment.get("SAM3_FETCH_URLS", "").strip().lower()
    if text and text not in FETCH:
        raise UserError(
            f"SAM3_FETCH_URLS is {shown(text)}; set it to {', '.join(POLICIES)}, or leave it unset."
        )
    return FETCH.get(text, default)


def _address(environment: Mapping[str, str], variable: str) -> str | None:
    text = environment.get(variable, "").strip()
    if text:
        try:
            split(text)
        except FetchError:
            raise UserError(
                f"{variable} is {shown(text)}; set it to an address such as http://127.0.0.1:8080, "
                "or leave it unset."
            ) from None
    return text or None


def _number(environment: Mapping[str, str], variable: str, default: int) -> int:
    text = environment.get(variable, "").strip()
    if not text:
        return default
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= CEILING:
        raise UserError(
            f"{variable} is {shown(text)}; it must be a whole number from 1 to {CEILING:,}: "
            "correct it or leave it unset."
        )
    return number
