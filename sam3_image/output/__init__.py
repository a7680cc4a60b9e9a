"""Detections and a picture → one file: masks, overlay, cut-out, annotations."""

from sam3_image.output.export import annotate, draw, write
from sam3_image.output.options import Output
from sam3_image.output.png import available_cores

__all__ = ["Output", "annotate", "available_cores", "draw", "write"]
