"""Several looks at one picture: tiles, a closer look at each instance, exemplars from elsewhere.

They ask the model often and merge its answers; they do not change it.
"""

from sam3_image.crops.looks import Eye
from sam3_image.crops.options import Looks
from sam3_image.crops.parts import find_in_parts
from sam3_image.crops.reference import Exemplar
from sam3_image.crops.second_look import refine
from sam3_image.crops.windows import count

__all__ = ["Exemplar", "Eye", "Looks", "count", "find_in_parts", "refine"]
