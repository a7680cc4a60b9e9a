"""Which image formats are read, told apart by their content and never by their name.

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
from PIL.IcoImagePlugin import IcoImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif.as_plugin import HeifImageFile

from sam3_image.decode.tiff_directory import Directory
from sam3_image.errors import ImageError, shown

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC, ICO and binary PPM"


@dataclass(frozen=True)
class Format:
    """One accepted format.

    name: for messages and logs.
    open: reads the header only and returns Pillow's image, not decoded yet (an icon's is decoded).
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
ICO = Format("ICO", IcoImageFile, 16)
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
    (b"\x00\x00\x01\x00", ICO),
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
    (b"II\xbc\x01", "JPEG XR"),
    (b"P1", "plain-text PBM"),
    (b"P2", "plain-text PGM"),
    (b"P3", "plain-text PPM"),
    (b"P7", "PAM"),
    (b"PF", "a color PFM"),
    (b"icns", "an Apple icon (ICNS)"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x01\x00\x00\x00", "EMF"),
    (b"\x89HDF", "HDF5"),
    (b"CDF\x01", "netCDF"),
    (b"CDF\x02", "netCDF"),
    (b"GRIB", "GRIB"),
    (b"BUFR", "BUFR"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"v/1\x01", "OpenEXR"),
    (b"SDPX", "DPX"),
    (b"XPDS", "DPX"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"\x01\xda", "SGI"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"/* XPM */", "XPM"),
    (b"#define ", "XBM"),
    (b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (b"\xb1\x68\xde\x3a", "DCX"),
    (b"BPG\xfb", "BPG"),
    (b"AT&TFORM", "DjVu"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"\x00\x00\x01\xb3", "an MPEG video"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"{", "text (JSON?)"),
    (b"data:", "a data URL as text, not the bytes it encodes"),
)

# The raw formats of cameras that have a beginning of their own; DNG, NEF, ARW and CR2 are TIFFs.
_CAMERA_RAW: tuple[tuple[bytes, str], ...] = (
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"IIU\x00", "RW2"),
    (b"IIRO", "ORF"),
    (b"IIRS", "ORF"),
    (b"MMOR", "ORF"),
    (b"FOVb", "X3F"),
    (b"\x00MRM", "MRW"),
    (b"II\x1a\x00\x00\x00HEAPCCDR", "CRW"),
)

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1"}
_AVIF_BRANDS = {b"avif", b"avis"}

_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_IMAGES, _DNG_VERSION = 254, 262, 271, 330, 50706
_SENSOR, _LINEAR_RAW = 32803, 34892  # photometric interpretations
# Whether there is a color map, and the type: each uncompressed and run-length encoded.
_TGA_KINDS = {(b"\x01", b"\x01"), (b"\x01", b"\x09"), (b"\x00", b"\x02"), (b"\x00", b"\x0a")}
_TGA_KINDS |= {(b"\x00", b"\x03"), (b"\x00", b"\x0b")}


def identify(data: bytes) -> Format:
    """Return the format of a file's content.

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
    for magic, name in _CAMERA_RAW:
        if data.startswith(magic):
            raise _camera_raw(name)
    for magic, name in _REFUSED:
        if data.startswith(magic):
            raise _refused(name)
    if (structure := _by_structure(data)) is not None:
        raise _refused(structure)
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
    """Tell AVIF and HEIC by the brands of an ISO media file; refuse videos and the rest."""
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    if brands & _HEIC_BRANDS:
        return HEIC
    if data[8:12] == b"crx ":
        raise _camera_raw("CR3")
    if data[8:12] == b"jxl ":
        raise _refused("JPEG XL")
    raise _refused("a video (MP4 or QuickTime)")


def refuse_camera_raw(directory: Directory) -> None:
    """Raise ImageError for a TIFF that is a camera's raw file.

    Its first image is a thumbnail of a few pixels in some of them, and sensor values in others.
    """
    tags = directory.fields
    make = directory.content(_MAKE, 20).upper()
    if _DNG_VERSION in tags:
        raise _camera_raw("DNG")
    if directory.data[8:10] == b"CR":
        raise _camera_raw("CR2")
    thumbnail = directory.number(_SUBFILE_TYPE, 0) & 1
    if directory.number(_PHOTOMETRIC, 0) in (_SENSOR, _LINEAR_RAW) or (
        _SUB_IMAGES in tags and (thumbnail or _MAKE in tags)
    ):
        known = {b"NIKON": "NEF", b"SONY": "ARW", b"OLYMPUS": "ORF", b"PENTAX": "PEF"}
        raise _camera_raw(next((name for start, name in known.items() if start in make), ""))


def _by_structure(data: bytes) -> str | None:
    """Name formats that have no magic number of their own; None for all others."""
    if data[4:6] in (b"\x11\xaf", b"\x12\xaf"):
        return "an FLI or FLC animation"
    if data[:1] == b"\x0a" and data[1:2] <= b"\x05" and data[2:3] == b"\x01":
        return "PCX"
    if data[:4] == b"\x00\x00\x02\x00" and data[4:6] != b"\x00\x00":
        return "a Windows cursor (CUR)"
    if data[:4] == b"RIFF" and data[8:12] in (b"AVI ", b"WAVE"):
        return "an AVI video" if data[8:12] == b"AVI " else "a WAVE sound"
    # TGA: a footer in newer files; else a color map or none, a known type, no origin, a depth.
    if data[-18:-2] == b"TRUEVISION-XFILE":
        return "TGA"
    palette, kind, depth = data[1:2], data[2:3], data[16:17]
    if (
        (palette, kind) in _TGA_KINDS
        and depth in (b"\x08", b"\x0f", b"\x10", b"\x18", b"\x20")
        and b"\x00\x00" not in (data[12:14], data[14:16])
    ):
        return "TGA"
    return None


def _refused(name: str) -> ImageError:
    return ImageError(
        f"The file is {name}, which is not accepted; accepted are {ACCEPTED}: convert it first."
    )


def _camera_raw(name: str) -> ImageError:
    kind = f" ({name})" if name else ""
    return ImageError(
        f"The file is a camera's raw file{kind}, which is not accepted: develop it to JPEG or "
        "TIFF first, or send the JPEG preview that it holds."
    )
