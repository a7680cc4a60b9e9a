"""Which image formats are read, told apart by their first bytes and never by their name.

Each accepted format is opened by its own Pillow class. `Image.open` would try plugin after plugin,
keep its limits and plugins in module globals, and hide what was wrong with the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif.as_plugin import HeifImageFile

from sam3_image.errors import ImageError, shown

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC and binary PPM"


@dataclass(frozen=True)
class Format:
    """One accepted format.

    name: for messages and logs.
    open: reads the header only and returns Pillow's picture, not decoded yet.
    cost: bytes of memory per pixel at the peak of decoding, our own result included; measured.
    """

    name: str
    open: Callable[[BinaryIO], ImageFile]
    cost: int


JPEG = Format("JPEG", JpegImageFile, 12)
PNG = Format("PNG", PngImageFile, 8)
GIF = Format("GIF", GifImageFile, 8)
BMP = Format("BMP", BmpImageFile, 8)
PPM = Format("PPM", PpmImageFile, 8)
TIFF = Format("TIFF", TiffImageFile, 12)
WEBP = Format("WebP", WebPImageFile, 18)
AVIF = Format("AVIF", AvifImageFile, 16)
HEIC = Format("HEIC", HeifImageFile, 16)

_ACCEPTED: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),
    (b"MM\x00+", TIFF),
    (b"P4", PPM),
    (b"P5", PPM),
    (b"P6", PPM),
    (b"Pf", PPM),
)

# Refused by name: formats that start other programs or hold code, whose decoders are slow or have
# a history of trouble, and whatever people send by mistake.
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "PostScript or EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"P1", "plain-text PBM"),
    (b"P2", "plain-text PGM"),
    (b"P3", "plain-text PPM"),
    (b"P7", "PAM"),
    (b"PF", "a colour PFM"),
    (b"\x00\x00\x01\x00", "a Windows icon (ICO)"),
    (b"\x00\x00\x02\x00", "a Windows cursor (CUR)"),
    (b"icns", "an Apple icon (ICNS)"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x01\x00\x00\x00", "EMF"),
    (b"\x89HDF", "HDF5"),
    (b"GRIB", "GRIB"),
    (b"BUFR", "BUFR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"v/1\x01", "OpenEXR"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"\x00\x00\x01\xb3", "an MPEG video"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"{", "text (JSON?)"),
    (b"data:", "a data URL as text, not the bytes it encodes"),
)

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1"}
_AVIF_BRANDS = {b"avif", b"avis"}


def identify(data: bytes) -> Format:
    """Return the format of a file's content, from its first bytes.

    Raises ImageError that names the format when it is a known one that is not accepted.
    """
    if not data:
        raise ImageError(
            f"The image is empty (0 bytes); accepted are {ACCEPTED}: send one of these."
        )
    for magic, accepted in _ACCEPTED:
        if data.startswith(magic):
            return accepted
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    for magic, name in _REFUSED:
        if data.startswith(magic):
            raise _refused(name)
    if data[128:132] == b"DICM":
        raise _refused("DICOM")
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")):
        raise _refused("SVG or other XML")
    if start.startswith((b"<!doctype", b"<html", b"<head")):
        raise _refused("an HTML page (did the address need a login?)")
    raise ImageError(
        f"Not a supported image: it starts with {shown(data[:4])}; accepted are {ACCEPTED}: "
        "send one of these."
    )


def _iso_media(data: bytes) -> Format:
    """AVIF or HEIC by the brands of an ISO media file; videos and the rest are refused."""
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    if brands & _HEIC_BRANDS:
        return HEIC
    if data[8:12] in (b"crx ", b"jxl "):
        raise _refused("a camera's raw file" if data[8:12] == b"crx " else "JPEG XL")
    raise _refused("a video (MP4 or QuickTime)")


def _refused(name: str) -> ImageError:
    return ImageError(
        f"The file is {name}, which is not accepted; accepted are {ACCEPTED}: convert it first."
    )
