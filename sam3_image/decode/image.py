"""Untrusted file → RGB pixels, upright, within limits; or one line that says why not.

Order matters: what is it (a regular file), how long, which format, how large, can memory hold it;
only then are pixels decoded. Nothing but `UserError` leaves this module.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.Image import DecompressionBombError

from sam3_image.decode.decode_limits import MeteredFile, check_jpeg, check_picture, check_tiff
from sam3_image.decode.formats import JPEG, TIFF, Format, identify
from sam3_image.decode.limits import Limits, check_memory
from sam3_image.decode.locks import lock_of
from sam3_image.decode.pixels import ORIENTATION, TURNS, exif_orientation, upright_rgb
from sam3_image.errors import ImageError, MemoryLimitError, UserError, shown

Claim = Callable[[int, int], int | None]


@dataclass(frozen=True)
class Image:
    """An image as a person sees it.

    pixels: (H, W, 3) uint8 RGB in sRGB, C-contiguous; EXIF orientation applied, alpha on white.
    format: name of the file's format, for logs.
    model_inputs: by their side, what a model was shown of it: an image that is kept (a server's,
        for the next click) is scaled down once. `pixels` must not change.
    """

    pixels: NDArray[np.uint8]
    format: str
    model_inputs: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def open_image(path: Path, limits: Limits, claim: Claim = check_memory) -> Image:
    """Read one image file; of several frames or pages, the first.

    claim: asked before any pixel is decoded whether there are so many bytes of memory for so many
        pixels; returns None if so, else how many bytes there are.

    Raises ImageError for a file that is none of ours, damaged, or over a limit, and
    MemoryLimitError when this machine has not the memory to decode it.
    """
    return decode(_read(path, limits), limits, claim)


def decode(data: bytes, limits: Limits, claim: Claim = check_memory) -> Image:
    """Return the same from a file's content."""
    limits.check_bytes(len(data))
    form = identify(data)
    try:
        if form is JPEG:
            check_jpeg(data)
        elif form is TIFF:
            check_tiff(data)
        with _no_warnings(), form.open(MeteredFile(data)) as picture:
            width, height = picture.size
            limits.check_size((height, width))
            check_picture(picture, form.name, len(data), limits.pixels)
            needed = height * width * form.cost
            if (available := claim(needed, height * width)) is not None:
                raise _too_little_memory(form, needed, available)
            picture.load()
            limits.check_size(picture.size[::-1])  # a decoder may find another size than the header
            return Image(upright_rgb(picture, _orientation(picture)), form.name)
    except UserError:
        raise
    except MemoryError:
        raise _too_little_memory(form, len(data), None) from None
    except Exception as error:
        raise _damaged(form, error) from None


def open_any(
    source: Path | bytes | NDArray[np.uint8] | Pillow.Image,
    limits: Limits,
    claim: Claim = check_memory,
) -> Image:
    """Decode whatever an image is given as: see `open_image`, `decode`, `from_array` and
    `from_pillow`.
    """
    if isinstance(source, Path):
        return open_image(source, limits, claim)
    if isinstance(source, bytes):
        return decode(source, limits, claim)
    if isinstance(source, np.ndarray):
        return from_array(source, limits)
    return from_pillow(source, limits)


def from_pillow(picture: Pillow.Image, limits: Limits) -> Image:
    """Return a Pillow image as a person sees it: EXIF orientation applied, alpha on white.

    The orientation is what `PIL.ImageOps.exif_transpose` would apply. Several threads may be given
    the same image, also one that Pillow has not loaded yet.
    Raises ImageError over a limit, or for an image that cannot be loaded.
    """
    limits.check_size((picture.height, picture.width))
    try:
        with lock_of(picture):  # Pillow's own loading is not made for several threads
            picture.load()  # first: some formats have their EXIF after the pixels
            pixels = upright_rgb(picture, _pillow_orientation(picture))
            return Image(pixels, picture.format or "image")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises anything, AssertionError included
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"The Pillow image cannot be loaded ({reason[:80]}): open it again."
        ) from None


def from_array(pixels: NDArray[np.uint8], limits: Limits) -> Image:
    """Return an image of the pixels (H, W, 3) uint8 RGB, which are not copied if contiguous.

    Raises ImageError for another shape or dtype, or over a limit.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            f"The image is an array of {pixels.dtype} {pixels.shape}; give uint8 RGB of shape "
            "(height, width, 3)."
        )
    limits.check_size((pixels.shape[0], pixels.shape[1]))
    return Image(np.ascontiguousarray(pixels), "array")


def require_download(value: object, name: str = "image") -> Path:
    """Return the file behind an image input over HTTP, only if Cog itself downloaded it.

    Cog turns URLs and data URLs into files of its own and hands them over as a `Path`; any other
    string it passes on unchanged, as a `str`, and that could name any file of this machine.
    Nothing is opened here. Raises ImageError, the same whether the file exists or not.
    """
    if isinstance(value, Path):
        try:
            info = os.lstat(value)
        except (OSError, ValueError):
            info = None
        if (
            info is not None
            and stat.S_ISREG(info.st_mode)
            and info.st_uid == os.geteuid()
            and value.parent == Path(tempfile.gettempdir())
        ):
            return value
    raise ImageError(
        f"{name} must be an http(s) or data URL, got {shown(value)}: send the image itself "
        "(data:image/…;base64,…) or its address (https://…)."
    )


def _read(path: Path, limits: Limits) -> bytes:
    """Return the content of a regular file; devices, pipes and folders are refused unopened."""
    name = shown(str(path), 200)
    try:
        # Opening a device or a pipe can block or do something, so look first, and look again at
        # what was opened. O_NONBLOCK: a pipe that was put in its place must not hang us.
        _check_regular(os.stat(path), name)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            info = os.fstat(handle)
            _check_regular(info, name)
            limits.check_bytes(info.st_size)
            data = file.read(info.st_size)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(
            f"The image {name} cannot be read ({reason}): check that it is there and readable."
        ) from None
    if not data:
        raise ImageError(f"The image file {name} is empty (0 bytes): send it again.")
    return data


def _check_regular(info: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(info.st_mode):
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a device, pipe or socket"
        raise ImageError(f"The image {name} is {kind}; only regular files are read: name one.")


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep Pillow's warnings off the user's screen: what matters becomes an error of ours.

    Only filters for Pillow's modules are added, so that even two threads that restore them in the
    wrong order could lose nobody else's warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
        yield


def _orientation(picture: Pillow.Image) -> int:
    """EXIF orientation that is still to be applied: Pillow turns TIFF and HEIC itself."""
    exif = picture.info.get("exif")
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def _pillow_orientation(picture: Pillow.Image) -> int:
    """Orientation of a loaded image of the caller, who may have changed it with `getexif()`."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
        return int(value) if value in TURNS else 1
    except Exception:  # damaged EXIF: read what can be read
        return _orientation(picture)


def _too_little_memory(form: Format, needed: int, available: int | None) -> MemoryLimitError:
    have = "" if available is None else f", {available // 1_000_000:,} MB are free"
    return MemoryLimitError(
        f"Decoding the {form.name} needs about {needed // 1_000_000:,} MB of memory{have}: send a "
        "smaller image, or try again when the machine is less busy."
    )


def _damaged(form: Format, error: Exception) -> ImageError:
    if isinstance(error, DecompressionBombError):
        return ImageError(
            f"The {form.name} announces far more pixels than it shows: save it again, or send PNG."
        )
    cause = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    cause = cause or type(error).__name__
    return ImageError(
        f"The {form.name} is cut off or damaged ({cause[:80]}): send the whole file, or save it "
        "again."
    )
