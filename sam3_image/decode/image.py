"""Untrusted file → RGB pixels, upright, within limits; or one line that says why not.

Order matters: what is it (a regular file), how long, which format, how large, can memory hold it;
only then are pixels decoded. Nothing but `UserError` leaves this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.ImageFile import ImageFile
from pillow_heif.as_plugin import HeifImageFile

from sam3_image.decode import jpeg, png, tiff
from sam3_image.decode.decode_limits import (
    MeteredFile,
    check_bmp,
    check_effort,
    check_jpeg,
    check_tiles,
)
from sam3_image.decode.formats import (
    AVIF,
    BMP,
    GIF,
    ICO,
    JPEG,
    PNG,
    TIFF,
    WEBP,
    Format,
    identify,
    refuse_camera_raw,
)
from sam3_image.decode.georeference import GeoReference
from sam3_image.decode.ico import largest_icon
from sam3_image.decode.limits import Limits, check_memory
from sam3_image.decode.locks import lock_of
from sam3_image.decode.pixels import (
    ORIENTATION,
    TURNS,
    array_to_rgb,
    exif_orientation,
    upright_rgb,
    upright_samples,
)
from sam3_image.decode.refusals import explain
from sam3_image.decode.tiff_directory import Directory, check_tiff
from sam3_image.decode.value_range import AUTO, parse_value_range
from sam3_image.errors import ImageError, MemoryLimitError, UserError, shown

Claim = Callable[[int, int], int | None]

_FRAMES = "Frames: several; the first is shown"

RGB_BYTES = 3  # of one pixel of the result
# Bytes for what is converted at a time on the way to RGB, and for the statistics.
CONVERT_BYTES = 32_000_000


@dataclass(frozen=True)
class Image:
    """An image as a person sees it.

    pixels: (H, W, 3) uint8 RGB in sRGB, C-contiguous; EXIF orientation applied, alpha on white.
    format: name of the file's format, for logs.
    model_inputs: by their side, what a model was shown of it: an image that is kept (a server's,
        for the next click) is scaled down once. `pixels` must not change.
    notes: lines for the log: which of several pages and bands is shown, which values are black
        and white.
    geo: where on the earth it lies, for a TIFF that says so.
    """

    pixels: NDArray[np.uint8]
    format: str
    model_inputs: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    geo: GeoReference | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def open_image(
    path: Path, limits: Limits, claim: Claim = check_memory, value_range: str = AUTO
) -> Image:
    """Read one image file: of several pages or frames the first, of several images the largest.

    claim: asked before any pixel is decoded whether there are so many bytes of memory for so many
        pixels; returns None if so, else how many bytes there are.
    value_range: how more than 8 bits become 8: "auto", "type" or "LOW,HIGH".

    Raises ImageError for a file that is none of ours, damaged, or over a limit, MemoryLimitError
    when this machine has not the memory to decode it, and InputError for another value_range.
    """
    return decode(_read(path, limits), limits, claim, value_range)


def decode(
    data: bytes, limits: Limits, claim: Claim = check_memory, value_range: str = AUTO
) -> Image:
    """Return the same as `open_image` from a file's content."""
    parse_value_range(value_range)
    limits.check_bytes(len(data))
    form = identify(data)
    decoder = _Decoder(form, limits, claim, value_range)
    try:
        with _no_warnings():
            return decoder.read(data)
    except UserError:
        raise
    except MemoryError:
        raise _too_little_memory(form, len(data), None) from None
    except Exception as error:
        raise explain(form.name, error) from None


def open_any(
    source: Path | bytes | NDArray[Any] | Pillow.Image,
    limits: Limits,
    claim: Claim = check_memory,
    value_range: str = AUTO,
) -> Image:
    """Decode whatever an image is given as: see `open_image`, `decode`, `from_array` and
    `from_pillow`.
    """
    if isinstance(source, Path):
        return open_image(source, limits, claim, value_range)
    if isinstance(source, bytes):
        return decode(source, limits, claim, value_range)
    if isinstance(source, np.ndarray):
        return from_array(source, limits, value_range)
    return from_pillow(source, limits, value_range)


def from_pillow(picture: Pillow.Image, limits: Limits, value_range: str = AUTO) -> Image:
    """A Pillow image as a person sees it: EXIF orientation applied, alpha on white.

    The orientation is what `PIL.ImageOps.exif_transpose` would apply. Several threads may be given
    the same image, also one that Pillow has not loaded yet.
    Raises ImageError over a limit, or for an image that cannot be loaded, and InputError for a
    value_range that is not accepted.
    """
    limits.check_size((picture.height, picture.width))
    try:
        with lock_of(picture):  # Pillow's own loading is not made for several threads
            picture.load()  # first: some formats have their EXIF after the pixels
            pixels, notes = upright_rgb(picture, _pillow_orientation(picture), value_range)
            return Image(pixels, picture.format or "image", notes=tuple(notes))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises anything, AssertionError included
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"The Pillow image cannot be loaded ({reason[:80]}): open it again."
        ) from None


def from_array(array: NDArray[Any], limits: Limits, value_range: str = AUTO) -> Image:
    """Return an image of an array; see `array_to_rgb` for what is accepted.

    Raises ImageError for another shape or dtype, for floats without a range, or over a limit.
    """
    if array.ndim >= 2:
        limits.check_size((array.shape[0], array.shape[1]))
    if array.dtype == np.uint8 and array.shape[2:] == (3,) and value_range == AUTO:
        return Image(np.ascontiguousarray(array), "array")
    pixels, notes = array_to_rgb(array, value_range)
    return Image(pixels, "array", notes=tuple(notes))


@dataclass
class _Decoder:
    """Decodes one file of a known format, perhaps in several tries.

    claimed: bytes of memory that were claimed for it already.
    """

    form: Format
    limits: Limits
    claim: Claim
    value_range: str
    claimed: int = 0

    def read(self, data: bytes) -> Image:
        """Return the image; raises UserError, or whatever a decoder raises for a damaged file."""
        if self.form is TIFF:
            return self._tiff(data)
        if self.form is PNG:
            return self._png(data)
        if self.form is JPEG:
            check_jpeg(data)
            return self._jpeg(data)
        if self.form is ICO:
            return self._ico(data)
        if self.form is BMP:
            check_bmp(data)
        return self._with_pillow(data)

    def _with_pillow(self, data: bytes, notes: tuple[str, ...] = ()) -> Image:
        with self.form.open(MeteredFile(data)) as opened:
            notes = (*notes, *_select_image(opened))
            width, height = opened.size
            self.limits.check_size((height, width))
            check_effort(opened, self.form.name, len(data), self.limits.pixels)
            self._claim(height * width * self.form.cost, height * width)
            opened.load()
            # A decoder may find another size than the header.
            self.limits.check_size(opened.size[::-1])
            pixels, more = upright_rgb(opened, _orientation(opened), self.value_range)
            if self.form in (GIF, PNG, WEBP, AVIF) and _has_frames(opened):
                notes = (*notes, _FRAMES)
        return Image(pixels, self.form.name, notes=(*notes, *more))

    def _jpeg(self, data: bytes) -> Image:
        """Decode a JPEG; one that lacks nothing but its end marker is whole."""
        try:
            return self._with_pillow(data)
        except OSError:
            if not jpeg.has_all_scans(data):
                raise
            seen = set()
            for end in jpeg.ENDS:
                image = self._with_pillow(data.rstrip(b"\xff") + end)
                seen.add(hashlib.sha256(image.pixels.data).digest())
                if len(seen) > 1:  # pixels that are not in the file
                    raise
            return image

    def _png(self, data: bytes) -> Image:
        try:
            return self._whole_png(data)
        except (UserError, MemoryError):
            raise
        except Exception:  # decoders raise anything for a damaged file; `decode` explains it
            if (mended := png.without_damage(data)) is None:
                raise
            return self._whole_png(mended)

    def _whole_png(self, data: bytes) -> Image:
        if (header := png.deep_header(data)) is None:
            return self._with_pillow(data)
        self.limits.check_size(header.size)
        height, width = header.size
        self._claim(header.memory + RGB_BYTES * height * width + CONVERT_BYTES, height * width)
        samples, info = png.read_samples(data, header)
        profile, exif = info.get("icc_profile"), info.get("exif")
        orientation = exif_orientation(exif) if isinstance(exif, bytes) else 1
        pixels, notes = upright_samples(samples, orientation, profile, self.value_range)
        if png.has_frames(data):
            notes = [_FRAMES, *notes]
        return Image(pixels, self.form.name, notes=tuple(notes))

    def _tiff(self, data: bytes) -> Image:
        directory = Directory.first(data)
        check_tiff(directory)
        refuse_camera_raw(directory)
        tiff.check_readable(directory)
        size = tiff.stored_size(directory)
        if (tile := tiff.tile_size(directory)) is not None:
            check_tiles(size, tile, self.limits.pixels)
        notes = ("Pages: several; the first is shown",) if directory.next else ()
        geo = GeoReference.from_tiff(directory)
        if not tiff.needs_own_reader(directory):
            tiff.check_header(directory)
            return replace(self._with_pillow(data, notes), geo=geo)
        self.limits.check_size(size)
        layout = tiff.read_layout(directory, data)
        height, width = layout.size
        self._claim(layout.memory + RGB_BYTES * height * width + CONVERT_BYTES, height * width)
        samples = tiff.read_samples(layout)
        pixels, more = upright_samples(samples, layout.orientation, layout.icc, self.value_range)
        return Image(pixels, self.form.name, notes=(*notes, *layout.notes(), *more), geo=geo)

    def _ico(self, data: bytes) -> Image:
        icon = largest_icon(data)
        notes = (f"Images: {icon.count}; the largest is shown",) if icon.count > 1 else ()
        if icon.size is None:
            inside = replace(self, form=PNG).read(icon.file)
            return replace(inside, format=self.form.name, notes=(*notes, *inside.notes))
        self.limits.check_size(icon.size)
        pixels = icon.size[0] * icon.size[1]
        self._claim(pixels * self.form.cost, pixels)  # for it is decoded when it is opened
        return self._with_pillow(icon.file, notes)

    def _claim(self, needed: int, pixels: int) -> None:
        """Claim memory once for all tries, of which only one holds its pixels at a time."""
        if needed <= self.claimed:
            return
        if self.claimed:  # what the request needs afterwards has been claimed
            needed, pixels = needed - self.claimed, 0
        if (available := self.claim(needed, pixels)) is not None:
            raise _too_little_memory(self.form, needed, available)
        self.claimed += needed


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
    """Keep Pillow's warnings off the user's screen; what matters is raised as an error.

    Only filters for Pillow's modules are added, so that even two threads that restore them in the
    wrong order could lose nobody else's warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
        yield


def _select_image(image: ImageFile) -> tuple[str, ...]:
    """Go to the largest of a HEIC's images, and return what the log should say of it."""
    images = image._heif_file if isinstance(image, HeifImageFile) else None
    if images is None or len(images) == 1:
        return ()
    sizes = [one.size[0] * one.size[1] for one in images]
    if sizes[image.tell()] < max(sizes):  # else the one that the file names as its main one
        image.seek(sizes.index(max(sizes)))
    return (f"Images: {len(sizes)}; the largest is shown",)


def _has_frames(image: ImageFile) -> bool:
    """Whether there is a second frame; asked last, for it may be damaged where the first is not."""
    with contextlib.suppress(Exception):
        return bool(image.is_animated)  # type: ignore[attr-defined]
    return False


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
