"""What the environment decides about a process: the one place that reads SAM3_… variables.

Only texts and numbers are read here. What they mean is decided by the package that uses them:
`Limits.of`, `Placement.of`, `WeightsSource.of` and `Compatibility.of` take these settings.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sam3_image.errors import UserError, shown

# Default limits. 120 megapixels take in every phone's and camera's single shots but the 200
# megapixel modes; such an image costs about 1 GB while it is decoded.
MAX_PIXELS = 120_000_000
MAX_SIDE = 32_767  # pixels; OpenCV's drawing stops being exact beyond a signed 16-bit coordinate
MAX_BYTES = 256 * 1024 * 1024
MAX_TILES = 400  # so that one request does not occupy the model for minutes
MAX_POINTS = 65_536  # for the same reason: 64 grids of 32×32
KEPT_FEATURES = 512 << 20  # bytes: four to eight images at full size

# No variable raises a limit beyond this: sizes then still fit everyone's signed 32-bit integers.
CEILING = 1_000_000_000

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
# Of one request. A file of 48 MB still fits when a client sends it as base64 in JSON.
MAX_UPLOAD_BYTES = 64 * 1024 * 1024
MAX_WAITING = 64  # each may hold an upload, so this bounds memory, too
# Decoded images that stay known by their content: 512 MB are fourteen of 12 megapixels.
MAX_PICTURES = 64
MAX_PICTURE_BYTES = 512 * 1024 * 1024
BYTES_CEILING = 1_000_000_000_000

# How the log is printed: lines for people, or one JSON object a line.
TEXT, JSON = "text", "json"
LOG_FORMATS = (TEXT, JSON)

# Which addresses the web server fetches: none, public ones, or also those of its own network.
OFF, PUBLIC, PRIVATE = "off", "public", "private"
POLICIES = (OFF, PUBLIC, PRIVATE)
POLICY_NAMES = {"0": OFF, "1": PUBLIC, **{policy: policy for policy in POLICIES}}


@dataclass(frozen=True)
class Settings:
    """Where the weights come from, where the model runs, and how large an image may be.

    weights: SAM3_WEIGHTS, a folder or a repository; empty for the default.
    device, dtype: SAM3_DEVICE and SAM3_DTYPE; empty for the default.
    compatibility: SAM3_REFERENCE, whose SAM 3 to answer as; empty for the default.
    token: HF_TOKEN, to fetch gated weights with.
    max_pixels, max_side, max_bytes: what an image file may measure at most.
    max_tiles, max_points: how many tiles, and points of `task=everything`, one request may ask for.
    kept_features: bytes on the device for features of images that may be asked about again.
    log_format: SAM3_LOG_FORMAT, one of `LOG_FORMATS`.
    """

    weights: str = ""
    device: str = ""
    dtype: str = ""
    compatibility: str = ""
    token: str = field(default="", repr=False)
    max_pixels: int = MAX_PIXELS
    max_side: int = MAX_SIDE
    max_bytes: int = MAX_BYTES
    max_tiles: int = MAX_TILES
    max_points: int = MAX_POINTS
    kept_features: int = KEPT_FEATURES
    log_format: str = TEXT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the variables; raises UserError for a value that is not accepted."""
        text, number = _texts(environment), _numbers(environment, CEILING)
        return cls(
            weights=text("SAM3_WEIGHTS"),
            device=text("SAM3_DEVICE"),
            dtype=text("SAM3_DTYPE"),
            compatibility=text("SAM3_REFERENCE"),
            token=text("HF_TOKEN"),
            max_pixels=number("SAM3_MAX_PIXELS", MAX_PIXELS),
            max_side=number("SAM3_MAX_SIDE", MAX_SIDE),
            max_bytes=number("SAM3_MAX_BYTES", MAX_BYTES),
            max_tiles=number("SAM3_MAX_TILES", MAX_TILES),
            max_points=number("SAM3_MAX_POINTS", MAX_POINTS),
            log_format=_log_format(text("SAM3_LOG_FORMAT")),
        )


@dataclass(frozen=True)
class WebSettings:
    """How the web server is reached and what it takes.

    host, port: where it listens; port 0 lets the system choose.
    token: the bearer token that every route but the page's own files asks for, or None.
    public_url: the address under which a proxy serves this server, with its path prefix, or None.
    hosts: names, beside those of the loopback address, by which it may be addressed.
    fetch_urls: which URLs a request may name: one of `POLICIES`.
    label_studio_url, label_studio_token: where tasks of Label Studio have their files, and the
        access token of a user there; see docs/clients.md.
    max_upload_bytes: length of one request's body.
    max_waiting: requests of clients that are answered or wait at one time, and as many jobs.
    max_pictures, max_picture_bytes: how many decoded images are kept, and their bytes in all.
    groups: names of the route groups that are on; None for all.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str | None = field(default=None, repr=False)
    public_url: str | None = None
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
    def root_path(self) -> str:
        """The path prefix of `public_url`, without a slash at its end."""
        return urlsplit(self.public_url or "").path.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address it listens on."""
        return is_loopback(self.host)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], host: str = DEFAULT_HOST, port: int = DEFAULT_PORT
    ) -> WebSettings:
        """Read the variables below and the SAM3_WEB_… ones; raises UserError.

        SAM3_TOKEN: unset where no token is asked for.
        SAM3_PUBLIC_URL: an http(s) address, unset where no proxy stands before the server.
        SAM3_FETCH_URLS: off, public (the default where the server listens on the loopback address
            only) or private, which allows addresses of the server's own network too.
        SAM3_LABEL_STUDIO_URL, SAM3_LABEL_STUDIO_TOKEN: both unset where there is none.
        SAM3_WEB_HOSTS, SAM3_WEB_ROUTES: names, separated by commas.
        SAM3_WEB_MAX_UPLOAD, SAM3_WEB_MAX_WAITING, SAM3_WEB_MAX_PICTURES,
            SAM3_WEB_MAX_PICTURE_BYTES: whole numbers.
        """
        text, number = _texts(environment), _numbers(environment, BYTES_CEILING)
        return cls(
            host=host,
            port=port,
            token=text("SAM3_TOKEN") or None,
            public_url=_address("SAM3_PUBLIC_URL", text("SAM3_PUBLIC_URL")),
            hosts=_names(text("SAM3_WEB_HOSTS").lower()),
            fetch_urls=_policy(text("SAM3_FETCH_URLS"), PUBLIC if is_loopback(host) else OFF),
            label_studio_url=_address("SAM3_LABEL_STUDIO_URL", text("SAM3_LABEL_STUDIO_URL")),
            label_studio_token=text("SAM3_LABEL_STUDIO_TOKEN") or None,
            max_upload_bytes=number("SAM3_WEB_MAX_UPLOAD", MAX_UPLOAD_BYTES),
            max_waiting=number("SAM3_WEB_MAX_WAITING", MAX_WAITING),
            max_pictures=number("SAM3_WEB_MAX_PICTURES", MAX_PICTURES),
            max_picture_bytes=number("SAM3_WEB_MAX_PICTURE_BYTES", MAX_PICTURE_BYTES),
            groups=_names(text("SAM3_WEB_ROUTES")) or None,
        )


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without port) is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _texts(environment: Mapping[str, str]) -> Callable[[str], str]:
    """A reader of texts: set to nothing is the same as not set."""
    return lambda variable: environment.get(variable, "").strip()


def _numbers(environment: Mapping[str, str], ceiling: int) -> Callable[[str, int], int]:
    """A reader of whole numbers from 1 to `ceiling`, with a default; underscores are fine."""

    def read(variable: str, default: int) -> int:
        text = environment.get(variable, "").strip()
        if not text:
            return default
        try:
            number = int(text)
        except ValueError:
            number = 0
        if not 1 <= number <= ceiling:
            raise UserError(
                f"{variable} is {shown(text)}; it must be a whole number from 1 to {ceiling:,}: "
                "correct it or leave it unset."
            )
        return number

    return read


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _log_format(text: str) -> str:
    if text and text.lower() not in LOG_FORMATS:
        raise UserError(
            f"SAM3_LOG_FORMAT is {shown(text)}; set it to {' or '.join(LOG_FORMATS)}, or leave it "
            "unset."
        )
    return text.lower() or TEXT


def _policy(text: str, default: str) -> str:
    if text and text.lower() not in POLICY_NAMES:
        raise UserError(
            f"SAM3_FETCH_URLS is {shown(text)}; set it to {', '.join(POLICIES)}, or leave it unset."
        )
    return POLICY_NAMES.get(text.lower(), default)


def _address(variable: str, text: str) -> str | None:
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if text and not valid:
        raise UserError(
            f"{variable} is {shown(text)}; set it to an address such as http://127.0.0.1:8080, "
            "or leave it unset."
        )
    return text or None
