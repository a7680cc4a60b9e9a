"""Several looks at one image: tiles, a closer look at each instance, exemplars from elsewhere.

They ask the model often and merge its answers; they do not change it.
"""

from sam3_image.crops.everything import everything_in_tiles
from sam3_image.crops.find import find_in_crops
from sam3_image.crops.options import CropOptions
from sam3_image.crops.reference import Exemplar
from sam3_image.crops.refine import refine
from sam3_image.crops.runner import CropModel, CropRunner
from sam3_image.crops.windows import count

__all__ = [
    "CropModel",
    "CropOptions",
    "CropRunner",
    "Exemplar",
    "count",
    "everything_in_tiles",
    "find_in_crops",
    "refine",
]
