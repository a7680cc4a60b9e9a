"""The images that a Python program passes to `find` and `pick` → what the decoder takes."""

from __future__ import annotations

import http.client
import os
import re
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode.limits import Limits
from sam3_image.decode.locks import lock_of
from sam3_image.decode.pixels import upright_rgb
from sam3_image.decode.value_range import AUTO
from sam3_image.errors import ImageError, InputError, shown

FETCH_SECONDS = 60.0  # for a whole download
SILENT_SECONDS = 20.0  # for a server that sends nothing
PIECE = 1 << 20  # bytes read at a time

KINDS = (
    "a path, an http(s) address, bytes, a file object, a Pillow image, a NumPy array or a torch "
    "tensor"
)
ARRAY_SHAPES = "(height, width), (height, width, 3) or (height, width, 4)"
TENSOR_SHAPES = "(3, height, width) or (height, width, 3)"


def read_input(
    image: Any, limits: Limits, name: str = "image", value_range: str = AUTO
) -> Path | bytes | Pillow.Image | NDArray[Any]:
    """Return an image in one of the forms that can be decoded.

    image: a path, an http(s) address, the bytes of an image file, a binary file object (read from
        its start where it can seek), a Pillow image, a NumPy array of uint8 (H, W), (H, W, 3) RGB
        or (H, W, 4) RGBA, or a torch tensor of uint8 (3, H, W) or (H, W, 3).
        With a range of values a NumPy array may also be uint16 or float.
    name: what messages call it.
    value_range: the input of `predict()`; "auto" is a range for uint16, but none for float.

    Other arrays and tensors come back as a copy, (H, W, 3) uint8 RGB and C-contiguous, transparency
    on white: later changes to the caller's array do not matter.
    Raises ImageError for what cannot be read or has another dtype or shape, and InputError for any
    other object.
    """
    scheme = re.match(r"([a-z][a-z0-9+.-]+)://", image, re.I) if isinstance(image, str) else None
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise ImageError(
            f"The image at {shown(image, 200)} is not read: of addresses only http:// and https:// "
            "are; give the path of a file, or its bytes."
        )
    if scheme:
        return _fetch(image, limits)
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Pillow.Image):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint16 or (image.dtype.kind == "f" and value_range != AUTO):
            return image.copy()  # `from_array` gives its values their range
        return _rgb(image, limits, name)
    torch = sys.modules.get("torch")  # without it there is no tensor either
    if torch is not None and isinstance(image, torch.Tensor):
        return _rgb(_from_tensor(image, torch, name), limits, name)
    if hasattr(image, "read"):
        return _read(image, limits, name)
    raise InputError(f"{name} is {shown(image)}; give {KINDS}.")


def _read(file: Any, limits: Limits, name: str) -> bytes:
    """Return the content of a file object, which other threads may be given as well."""
    data = bytearray()
    try:
        with lock_of(file):
            if hasattr(file, "seekable") and file.seekable():
                file.seek(0)
            while len(data) <= limits.bytes and (piece := file.read(PIECE)):
                data += piece
    except TypeError:
        raise ImageError(
            f"{name} is a file object that gives text; open it in binary mode: open(path, 'rb')."
        ) from None
    except Exception as error:  # whatever the caller's object raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{name} is a file object that cannot be read ({reason[:80]}): open it again."
        ) from None
    return bytes(data)


def _fetch(address: str, limits: Limits) -> bytes:
    """Return the content at an address that the program itself named, redirects followed."""
    named = shown(re.sub(r"//[^/?#]*@", "//…@", address), 200)  # without a password
    deadline = time.monotonic() + FETCH_SECONDS
    data = bytearray()
    try:
        request = urllib.request.Request(_encoded(address), headers={"User-Agent": "sam3-image"})
        with urllib.request.urlopen(request, timeout=SILENT_SECONDS) as answer:
            while len(data) <= limits.bytes and (piece := answer.read1(PIECE)):
                data += piece
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it took more than {FETCH_SECONDS:g} s")
            if len(data) <= limits.bytes and answer.length:  # left of its Content-Length
                raise ConnectionError("the connection ended early")
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        reason = str(cause) or type(error).__name__
        raise ImageError(
            f"The image at {named} cannot be fetched ({' '.join(reason.split())[:80]}): check the "
            "address."
        ) from None
    return bytes(data)


def _encoded(address: str) -> str:
    """The address without spaces and letters outside ASCII: IDNA in the host, % in the rest."""
    parts = urlsplit(address.strip())
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (quote(text, safe="!$&'()*+,;=:@/%~?[]") for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))


def _from_tensor(tensor: Any, torch: Any, name: str) -> NDArray[Any]:
    """Return a tensor's values as an array, (H, W, 3) where it is uint8 of a shape accepted."""
    found = f"{name} is a tensor of {str(tensor.dtype).removeprefix('torch.')} "
    found += str(tuple(tensor.shape))
    try:
        values = tensor.detach().cpu()
        if values.dtype != torch.uint8:
            values = values.to(torch.float64).numpy()
            line = _conversion(values, tensor.dtype == torch.uint16, ".to(torch.uint8)")
            raise ImageError(f"{found}; give uint8 of shape {TENSOR_SHAPES}: {line}")
        pixels: NDArray[Any] = values.numpy()
    except (RuntimeError, TypeError):  # no values, or none that NumPy can hold
        raise ImageError(f"{found}; give a dense tensor of uint8, {TENSOR_SHAPES}.") from None
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        return pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    advice = ""
    if pixels.ndim == 4:
        advice = "; for a batch give a list: list(image)"
    elif pixels.ndim == 3 and pixels.shape[0] == 1:
        advice = "; for gray give image.expand(3, -1, -1)"
    raise ImageError(f"{found}; give RGB of shape {TENSOR_SHAPES}{advice}.")


def _rgb(pixels: NDArray[Any], limits: Limits, name: str) -> NDArray[np.uint8]:
    """Return a copy of an array as (H, W, 3) uint8 RGB; raises ImageError."""
    found = f"{name} is an array of {pixels.dtype} {pixels.shape}"
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "biuf":
            raise ImageError(f"{found}; give uint8 of shape {ARRAY_SHAPES}.")
        line = _conversion(pixels.astype(np.float64), pixels.dtype == np.uint16, '.astype("uint8")')
        ranged = ""
        if pixels.dtype.kind == "f":
            ranged = "value_range 'type' for values from 0 to 1 or 'LOW,HIGH', or "
        raise ImageError(f"{found}; give {ranged}uint8 of shape {ARRAY_SHAPES}: {line}")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        advice = ""
        if pixels.ndim == 4:
            advice = "; for a batch give a list: list(image)"
        elif pixels.ndim == 3 and pixels.shape[0] == 3:
            advice = "; here: image.transpose(1, 2, 0)"
        elif pixels.ndim == 3 and pixels.shape[2] == 1:
            advice = "; here: image[..., 0]"
        raise ImageError(f"{found}; give gray, RGB or RGBA of shape {ARRAY_SHAPES}{advice}.")
    limits.check_size((pixels.shape[0], pixels.shape[1]))
    if pixels.ndim == 2:
        return np.stack([pixels] * 3, axis=-1)
    if pixels.shape[2] == 4:
        return upright_rgb(Pillow.fromarray(np.ascontiguousarray(pixels)), 1)[0]
    return np.array(pixels, order="C", subok=False)


def _conversion(values: NDArray[np.float64], is_16_bit: bool, cast: str) -> str:
    """Return the line of Python that makes uint8 of an image, for NumPy and torch alike.

    values: those of the image. is_16_bit: they are uint16. cast: the call that makes them uint8.
    """
    if not np.isfinite(values).all():
        return "it holds values that are not finite; replace them first."
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low >= 0 and high <= 1:
        scaled = "image * 255.0"
    elif low >= 0 and high <= 255:
        scaled = "image / 1.0"
    elif is_16_bit:
        scaled = "image / 257.0"
    else:
        scaled = f"(image - {low!r}) / {max(high - low, 1.0)!r} * 255.0"
    return f"image = ({scaled}).round().clip(0, 255){cast}"
