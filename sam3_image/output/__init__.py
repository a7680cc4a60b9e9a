"""Detections and a picture → one file: masks, overlay, cut-out, annotations."""

from sam3_image.output.colors import PALETTE
from sam3_image.output.export import annotate, draw, unwritable, write
from sam3_image.output.options import Output
from sam3_image.output.pictures import preview
from sam3_image.output.png import available_cores, encode_mask

__all__ = [
    "PALETTE",
    "Output",
    "annotate",
    "available_cores",
    "draw",
    "encode_mask",
    "preview",
    "unwritable",
    "write",
]
