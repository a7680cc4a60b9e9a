"""Instances and their image → one file: masks, overlay, cut-out, label map, annotations."""

from sam3_image.output.colors import PALETTE
from sam3_image.output.files import RenderedFile, annotate, draw, render, save, unwritable
from sam3_image.output.formats import FORMATS, AnnotationFormat, ImageInfo
from sam3_image.output.images import preview
from sam3_image.output.label_map import label_map
from sam3_image.output.options import Output
from sam3_image.output.png import available_cores, encode_mask

__all__ = [
    "FORMATS",
    "PALETTE",
    "AnnotationFormat",
    "ImageInfo",
    "Output",
    "RenderedFile",
    "annotate",
    "available_cores",
    "draw",
    "encode_mask",
    "label_map",
    "preview",
    "render",
    "save",
    "unwritable",
]
