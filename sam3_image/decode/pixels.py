"""Decoded images of any mode → upright RGB, as a viewer on a white page shows them.

Everything is done block by block straight into the result, so that color, transparency, bit depth
and orientation cost no full-size copy: only the decoder's image and the result ever exist whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from sam3_image.decode.value_range import AUTO, TYPE, Samples, choose_levels, parse_value_range
from sam3_image.errors import ImageError

# Pixels that pass through the conversions at a time (4 MB as Pillow keeps them).
CONVERT_PIXELS = 1 << 20
# Of samples of more than 8 bits, each of which is a float of 8 bytes on the way.
SAMPLE_PIXELS = 1 << 18

ORIENTATION = 0x0112  # the EXIF tag

# EXIF types of whole numbers → their bytes: SHORT, LONG, SSHORT, SLONG, IFD.
WHOLE_NUMBERS = {3: 2, 4: 4, 8: 2, 9: 4, 13: 4}

# EXIF orientation → how Pillow turns the stored image upright.
TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}

# The first row of a part of an image, and the part: Pillow's, or (h, w, 3) uint8 that is upright.
Block = tuple[int, Pillow.Image | NDArray[np.uint8]]


def upright_rgb(
    image: Pillow.Image, orientation: int, value_range: str = AUTO
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the pixels of a decoded Pillow image as they are seen, and lines for the log.

    image: decoded, any mode; its `info` may hold transparency and an ICC profile.
    orientation: EXIF, 1–8; anything else counts as 1.
    value_range: see `choose_levels`; for modes of more than 8 bits.
    Returns (H, W, 3) uint8 RGB, C-contiguous: alpha on white, ICC profile → sRGB, upright.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return upright_samples(_samples(image), orientation, profile, value_range)
    transform = _to_srgb(image.mode, profile)
    show = _on_white if image.has_transparency_data else _colored
    blocks = ((top, show(block, transform)) for top, block in _blocks(image))
    return _assembled(blocks, (image.height, image.width), orientation), _unused(value_range)


def upright_samples(
    samples: Samples, orientation: int, profile: object, value_range: str
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the same of samples of any type; profile: bytes of an ICC profile, or None."""
    levels = choose_levels(samples, value_range)
    transform = _to_srgb("L" if samples.values.shape[2] == 1 else "RGB", profile)
    height, width = samples.size

    def blocks() -> Iterator[Block]:
        for top, bottom in _row_blocks(height, width, SAMPLE_PIXELS):
            part = samples.part(slice(top, bottom))
            bands, opacity = levels.apply(part), part.opacity()
            if opacity is None and transform is None and orientation not in TURNS:
                yield top, np.broadcast_to(bands, (*bands.shape[:2], 3))
            elif opacity is None:
                shown = np.squeeze(bands, axis=2) if bands.shape[2] == 1 else bands
                yield top, _colored(Pillow.fromarray(shown), transform)
            else:
                with_alpha = np.concatenate([bands, opacity[..., None]], axis=2)
                yield top, _on_white(Pillow.fromarray(with_alpha), transform)

    eight = samples.values.dtype == np.uint8
    notes = _unused(value_range) if eight else [levels.note(samples)]
    return _assembled(blocks(), (height, width), orientation), notes


def array_to_rgb(
    array: NDArray[Any], value_range: str = AUTO
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return an array as RGB pixels (H, W, 3) uint8, and lines for the log.

    array: (H, W), or (H, W, C) with C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; uint8,
        uint16 or float. Alpha is put on white. uint8 RGB that is contiguous is not copied.
    value_range: which values become black and white: "auto", "type" or "LOW,HIGH". Floats have no
        range of their own and need one: "type" is 0 to 1. uint8 never changes.
    Raises ImageError for another shape or dtype, or for floats with "auto".
    """
    values = array[..., None] if array.ndim == 2 else array
    if values.ndim != 3 or not 1 <= values.shape[2] <= 4:
        raise ImageError(
            f"The image is an array of {array.dtype} {array.shape}; give one of shape (height, "
            "width), or (height, width, channels) with 1 to 4 channels."
        )
    if values.dtype.kind != "f" and values.dtype.str[1:] not in ("u1", "u2"):
        raise ImageError(
            f"The image is an array of {array.dtype} {array.shape}; give uint8, uint16 or float."
        )
    if values.dtype.kind == "f" and parse_value_range(value_range) == AUTO:
        raise ImageError(
            f"The image is an array of {array.dtype}, whose black and white are not known; give "
            "value_range 'type' for values from 0 to 1, or 'LOW,HIGH'."
        )
    if values.dtype == np.uint8 and values.shape[2] == 3:
        return np.ascontiguousarray(values), _unused(value_range)
    colors = 3 if values.shape[2] >= 3 else 1
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    alpha = native[..., colors] if values.shape[2] > colors else None
    samples = Samples(native[..., :colors], 8 * values.dtype.itemsize, alpha)
    return upright_samples(samples, 1, None, value_range)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in a block of EXIF, 1–8; 1 where there is none or it is junk.

    Read by hand: Pillow would parse the whole block, which may be megabytes made to be slow. What
    it finds is what Pillow finds, whichever type of whole number the orientation is stored as.
    """
    tiff = exif.removeprefix(b"Exif\x00\x00")
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, length: int) -> int:
        return int.from_bytes(tiff[at : at + length], order)

    start = number(4, 4)
    for at in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        if number(at, 2) == ORIENTATION:
            length = WHOLE_NUMBERS.get(number(at + 2, 2), 0) if number(at + 4, 4) else 0
            # More than four bytes lie elsewhere. Of several values the first one counts.
            fits = length * number(at + 4, 4) <= 4
            value = number(at + 8 if fits else number(at + 8, 4), length)
            return value if 1 <= value <= 8 else 1
    return 1


def _unused(value_range: str) -> list[str]:
    """Say that a range that was asked for does not apply to 8 bits; check it anyway."""
    if parse_value_range(value_range) in (AUTO, TYPE):
        return []
    return ["value_range has no effect: the image has 8 bits per channel"]


def _assembled(
    blocks: Iterable[Block], size: tuple[int, int], orientation: int
) -> NDArray[np.uint8]:
    """Return RGB blocks of a stored image of `size` (height, width) as one upright array."""
    height, width = size
    sideways = orientation in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if sideways else (height, width, 3), dtype=np.uint8)
    turn = TURNS.get(orientation)
    for top, block in blocks:
        if isinstance(block, np.ndarray):
            upright[top : top + len(block)] = block
            continue
        # The block's place in the result: rows from the top or the bottom, or columns.
        bottom = top + block.height
        low, high = (
            (height - bottom, height - top) if orientation in (3, 4, 6, 7) else (top, bottom)
        )
        rgb = block if turn is None else block.transpose(turn)
        if sideways:
            upright[:, low:high] = np.asarray(rgb)
        else:
            upright[low:high] = np.asarray(rgb)
    return upright


def _row_blocks(height: int, width: int, pixels: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the row after the last of each block of so many pixels."""
    rows = max(1, pixels // width)
    for top in range(0, height, rows):
        yield top, min(height, top + rows)


def _blocks(image: Pillow.Image) -> Iterator[tuple[int, Pillow.Image]]:
    """Yield full-width blocks of the image, with the row at which each starts."""
    for top, bottom in _row_blocks(image.height, image.width, CONVERT_PIXELS):
        if bottom - top == image.height:
            yield 0, image
        else:
            yield top, image.crop((0, top, image.width, bottom))


def _samples(image: Pillow.Image) -> Samples:
    """Return the samples of a Pillow image of mode I, F or I;16 in any byte order."""
    stored = np.asarray(image)
    values = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    key = image.info.get("transparency")  # one gray value that is transparent
    alpha = values != key if isinstance(key, int) else None
    return Samples(values[..., None], 8 * values.dtype.itemsize, alpha)


def _colored(block: Pillow.Image, transform: ImageCms.ImageCmsTransform | None) -> Pillow.Image:
    """Return RGB of an opaque block."""
    if transform is None:
        return block if block.mode == "RGB" else block.convert("RGB")
    return transform.apply(block.convert(transform.input_mode))


def _on_white(block: Pillow.Image, transform: ImageCms.ImageCmsTransform | None) -> Pillow.Image:
    """Return RGB of a block with an alpha channel, transparent colors or premultiplied alpha."""
    straight = block.convert("LA") if block.mode == "La" else block
    rgba = straight.convert("RGBA")
    page = Pillow.new("RGB", block.size, "white")
    page.paste(_colored(rgba, transform), mask=rgba.getchannel("A"))
    return page


def _to_srgb(mode: str, profile: object) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of an ICC profile, or None where sRGB is right already.

    mode: of the Pillow image. profile: bytes, or anything else where there is none.
    A profile that cannot be read or is for another kind of image is ignored, as viewers do.
    """
    if mode == "LAB":  # its colors mean the same without a profile
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    if not isinstance(profile, bytes):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space]
        if space != _color_mode(mode):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
        return None if _changes_nothing(transform) else transform
    except Exception:  # whatever a damaged profile raises: a viewer ignores it, and so do we
        return None


def _color_mode(mode: str) -> str:
    """Return the mode in which an image of `mode` meets its profile."""
    if mode == "CMYK":
        return "CMYK"
    return "L" if mode.startswith(("1", "L")) else "RGB"


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it moves no color of a coarse grid by more than 1/255.

    Most files carry some sRGB profile, under many names. Comparing colors recognizes them all,
    and saves a pass over the image.
    """
    if transform.input_mode == "CMYK":
        return False
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    if transform.input_mode == "L":
        grid = Pillow.fromarray(steps[None])
    else:
        grid = Pillow.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1)[0])
    before = np.asarray(grid.convert("RGB")).astype(np.int16)
    return bool(np.abs(before - np.asarray(transform.apply(grid))).max() <= 1)
