"""Untrusted bytes → upright RGB pixels: formats, limits, orientation, color.

Reads no request and knows no model. Nothing but errors of `sam3_image.errors` leaves it.
"""

from sam3_image.decode.image import Image, decode, open_image, require_download
from sam3_image.decode.limits import Limits, available_memory

__all__ = ["Image", "Limits", "available_memory", "decode", "open_image", "require_download"]
