"""What a client sends for an image → the bytes of a file.

Clients send base64 text, `data:` URLs or addresses. Nothing else is ever opened: a text that is
none of these is refused, so no request can name a file of this machine, and no pickled array is
loaded.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote, unquote_to_bytes

from sam3_image.errors import ImageError, shown
from sam3_image.web.fetch import Fetcher

ALLOWED = "https://…, http://… and data:image/…;base64,…: send the image itself or its address."
URL_SAFE = str.maketrans("-_", "+/")


async def from_url(text: str, fetcher: Fetcher) -> bytes:
    """The bytes behind a `data:` or http(s) URL; raises ImageError or FetchError."""
    text = text.strip()
    if text[:5].lower() == "data:":
        return from_data_url(text)
    if text[:7].lower() == "http://" or text[:8].lower() == "https://":
        return await fetcher.fetch(text)
    raise ImageError(f"image is {shown(text)}, which is not a URL; accepted are {ALLOWED}")


def from_data_url(text: str) -> bytes:
    """The bytes in a `data:` URL, base64 or percent-encoded; raises ImageError."""
    head, comma, content = text.partition(",")
    if not comma:
        raise ImageError(
            f"image is {shown(text)}, a data URL without a comma; accepted are {ALLOWED}"
        )
    if any(part.strip() == "base64" for part in head.lower().split(";")[1:]):
        return from_base64(content)
    return unquote_to_bytes(content)


def from_base64(text: str) -> bytes:
    """The bytes in a base64 text; a `data:` URL is accepted too. Raises ImageError.

    Padding may be missing; line breaks, spaces, the URL-safe alphabet and percent signs are
    understood. A file name that a client mistook for a file arrives here as text, so the error
    quotes it.
    """
    if text.lstrip()[:5].lower() == "data:":
        return from_data_url(text.strip())
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = _lenient(text)
    if not content:
        raise ImageError(
            f"image is {shown(text)}, which is not base64; send the bytes of the image file in "
            "base64 (was the path of a file that does not exist given to the client?)."
        )
    return content


def _lenient(text: str) -> bytes:
    """The same for text that is not in the standard form; empty where it is no base64."""
    plain = "".join((unquote(text) if "%" in text else text).split())
    plain = plain.rstrip("=").translate(URL_SAFE)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def to_base64(content: bytes) -> str:
    """The bytes as base64 text."""
    return base64.b64encode(content).decode("ascii")


def data_url(content: bytes, media_type: str) -> str:
    """The bytes as a `data:` URL."""
    return f"data:{media_type};base64,{to_base64(content)}"
