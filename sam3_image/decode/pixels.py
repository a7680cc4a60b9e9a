"""A decoded picture of any mode → upright RGB, as a viewer on a white page shows it.

Everything is done block by block straight into the result, so that colour, transparency, bit depth
and orientation cost no full-size copy: only the decoder's picture and the result ever exist whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

# Pixels that pass through the conversions at a time (4 MB as Pillow keeps them).
CONVERT_PIXELS = 1 << 20

ORIENTATION = 0x0112  # the EXIF tag

# EXIF types of whole numbers → their bytes: SHORT, LONG, SSHORT, SLONG, IFD.
WHOLE_NUMBERS = {3: 2, 4: 4, 8: 2, 9: 4, 13: 4}

# EXIF orientation → how Pillow turns the stored picture upright.
TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}

# Where the white of a 16-bit image lies.
WHITE_16 = 65535


def upright_rgb(picture: Pillow.Image, orientation: int) -> NDArray[np.uint8]:
    """Return the pixels of a decoded picture as they are seen.

    picture: decoded, any mode of Pillow's; its `info` may hold transparency and an ICC profile.
    orientation: EXIF, 1–8; anything else counts as 1.
    Returns (H, W, 3) uint8 RGB, C-contiguous: alpha on white, ICC profile → sRGB, upright.
    """
    width, height = picture.size
    sideways = orientation in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if sideways else (height, width, 3), dtype=np.uint8)
    turn = TURNS.get(orientation)
    convert = _converter(picture)
    for top, block in _blocks(picture):
        # The block's place in the result: rows from the top or the bottom, or columns.
        bottom = top + block.height
        low, high = (
            (height - bottom, height - top) if orientation in (3, 4, 6, 7) else (top, bottom)
        )
        rgb = convert(block)
        if turn is not None:
            rgb = rgb.transpose(turn)
        if sideways:
            upright[:, low:high] = np.asarray(rgb)
        else:
            upright[low:high] = np.asarray(rgb)
    return upright


def exif_orientation(exif: bytes) -> int:
    """Orientation in a block of EXIF, 1–8; 1 where there is none or it is junk.

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


def _blocks(picture: Pillow.Image) -> Iterator[tuple[int, Pillow.Image]]:
    """full-width blocks of the picture, with the row at which each starts."""
    width, height = picture.size
    rows = max(1, CONVERT_PIXELS // width)
    if rows >= height:
        yield 0, picture
        return
    for top in range(0, height, rows):
        yield top, picture.crop((0, top, width, min(height, top + rows)))


def _converter(picture: Pillow.Image) -> Callable[[Pillow.Image], Pillow.Image]:
    """Return what turns a block of this picture into RGB on white."""
    transform = _to_srgb(picture)
    if picture.mode.startswith(("I", "F")):
        darkest, lightest = _range(picture)
        level = partial(_eight_bit, darkest=darkest, lightest=lightest)
        return lambda block: _colored(level(block), transform)
    if picture.has_transparency_data:
        return lambda block: _on_white(block, transform)
    return lambda block: _colored(block, transform)


def _colored(block: Pillow.Image, transform: ImageCms.ImageCmsTransform | None) -> Pillow.Image:
    """RGB of an opaque block."""
    if transform is None:
        return block if block.mode == "RGB" else block.convert("RGB")
    return transform.apply(block.convert(transform.input_mode))


def _on_white(block: Pillow.Image, transform: ImageCms.ImageCmsTransform | None) -> Pillow.Image:
    """RGB of a block with an alpha channel, transparent colours or premultiplied alpha."""
    straight = block.convert("LA") if block.mode == "La" else block
    rgba = straight.convert("RGBA")
    page = Pillow.new("RGB", block.size, "white")
    page.paste(_colored(rgba, transform), mask=rgba.getchannel("A"))
    return page


def _eight_bit(block: Pillow.Image, darkest: float, lightest: float) -> Pillow.Image:
    """8-bit gray of a block of 16-bit, 32-bit or float values; NaN is black."""
    # NaN goes before the conversion, which NumPy warns of where it signals.
    values = np.nan_to_num(np.asarray(block), nan=darkest).astype(np.float64)
    span = (lightest - darkest) or 1.0
    scaled = np.clip((values - darkest) / span, 0, 1)
    gray = np.rint(scaled * 255).astype(np.uint8)
    alpha = block.info.get("transparency")
    if isinstance(alpha, int):  # one gray value of a 16-bit PNG is transparent: the page shows
        gray[values == alpha] = 255
    return Pillow.fromarray(gray)


def _range(picture: Pillow.Image) -> tuple[float, float]:
    """Return the values that become black and white.

    0 and 65535 for whole numbers that keep within 16 bits, 0 and 1 for floats that keep within
    that; all others have no white of their own and are stretched from smallest to largest.
    """
    usual = 1.0 if picture.mode == "F" else float(WHITE_16)
    if picture.mode.startswith("I;16"):
        return 0.0, usual
    smallest, largest = np.inf, -np.inf
    for _, block in _blocks(picture):
        values = np.asarray(block)
        values = values[np.isfinite(values)]
        if values.size:
            smallest = min(smallest, float(values.min()))
            largest = max(largest, float(values.max()))
    if smallest >= 0 and largest <= usual:
        return 0.0, usual
    return smallest, largest


def _to_srgb(picture: Pillow.Image) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of the picture's ICC profile, or None where sRGB is right already.

    A profile that cannot be read or is for another kind of image is ignored, as viewers do.
    """
    if picture.mode == "LAB":  # its colours mean the same without a profile
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space]
        if mode != _color_mode(picture.mode):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if _changes_nothing(transform) else transform
    except Exception:  # whatever a damaged profile raises: a viewer ignores it, and so do we
        return None


def _color_mode(mode: str) -> str:
    """Return the mode in which a picture of `mode` meets its profile."""
    if mode == "CMYK":
        return "CMYK"
    return "L" if mode.startswith(("1", "L", "La", "I", "F")) else "RGB"


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it moves no colour of a coarse grid by more than 1/255.

    Most files carry some sRGB profile, under many names. Comparing colours recognises them all,
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
