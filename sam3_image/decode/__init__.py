"""Untrusted bytes → upright RGB pixels: formats, limits, bit depth, orientation, color.

Knows neither requests nor models. Only errors of `sam3_image.errors` are raised.
"""

from sam3_image.decode.georeference import GeoReference
from sam3_image.decode.image import (
    Image,
    decode,
    from_array,
    from_pillow,
    open_any,
    open_image,
    require_download,
)
from sam3_image.decode.libtiff import silence_libtiff
from sam3_image.decode.limits import Limits, available_memory
from sam3_image.decode.pixels import array_to_rgb
from sam3_image.decode.python_input import read_input
from sam3_image.decode.value_range import DecodeOptions

__all__ = [
    "DecodeOptions",
    "GeoReference",
    "Image",
    "Limits",
    "array_to_rgb",
    "available_memory",
    "decode",
    "from_array",
    "from_pillow",
    "open_any",
    "open_image",
    "read_input",
    "require_download",
    "silence_libtiff",
]
