"""An instance found in one part of an image: where it is, and whether the part holds all of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sam3_image.crops.runner import Question
from sam3_image.crops.windows import Box, Window
from sam3_image.masks import Detections, LowResMasks, Mask, PackedMask, PackedMasks

# IoU of the model's box with the box around the mask below which an answer contradicts itself.
# Where objects are far too small, masks are smeared over several of them while boxes are not.
CONSISTENT = 0.5
# Share of a mask of the whole image that must lie in its box: else it is smeared over the image,
# and the piece of it in the box is an object only if it fits the box so well.
MOSTLY = 0.8
EXACT = 0.9
# The model's box says which object a mask is of: among equal objects masks spill over to others,
# and a few pixels there, at a border of the tile, would make a whole object look cut off. What lies
# outside the box is dropped, with this part of the box's longer side as leeway for its error.
SLACK = 0.125


@dataclass(frozen=True)
class CropDetection:
    """An instance found in one window of an image.

    box: of the model, around: tightly around the mask; both xyxy in pixels of the image.
    area: pixels of the mask.
    depth: how far it reaches into the window from the border that cuts it, in pixels, the least
        over several such borders; infinity where none cuts it: the window holds all of it. Borders
        of the image cut nothing.
    consistent: whether the model's box and the mask agree.
    """

    prompt: int
    concept: str
    score: float
    presence: float
    box: Box
    around: Box
    area: int
    depth: float
    consistent: bool
    packed: PackedMask

    @property
    def whole(self) -> bool:
        """Whether no border within the image cuts it."""
        return math.isinf(self.depth)

    @property
    def extent(self) -> float:
        """The longer side of the box around the mask, in pixels."""
        return longer(self.around)


def crop_detections(
    question: Question, found: Detections, size: tuple[int, int]
) -> Iterator[CropDetection]:
    """Yield the instances found in a window of an image of `size` (height, width).

    Those in the strip are left out. Masks are cut to their boxes, with some leeway.
    """
    for index, mask in enumerate(found.masks()):
        inside = _right_of(mask, question.strip)
        seen = inside.area
        if not seen or 2 * seen < mask.area:
            continue
        own: Box = tuple(map(float, found.boxes[index]))  # type: ignore[assignment]
        inside = _right_of(_near(mask, own), question.strip)
        area = inside.area
        if not area:
            continue
        window = question.window
        x, y = window.x0 - question.strip, window.y0
        moved = Mask(inside.inside, inside.y + y, inside.x + x, size)
        box = own[0] + x, own[1] + y, own[2] + x, own[3] + y
        around: Box = tuple(map(float, moved.box))  # type: ignore[assignment]
        smeared = window == Window.whole(size) and area < MOSTLY * seen
        yield CropDetection(
            prompt=question.prompts[int(found.prompts[index])],
            concept=found.concepts[index],
            score=float(found.scores[index]),
            presence=float(found.presence[index]),
            box=box,
            around=around,
            area=area,
            depth=_depth(around, window, size, _cell(found, mask.size)),
            consistent=box_iou(box, around) >= (EXACT if smeared else CONSISTENT),
            packed=PackedMask.of(moved),
        )


def detections(instances: Sequence[CropDetection], size: tuple[int, int]) -> Detections:
    """Put instances of an image of `size` (height, width) together, best score first."""
    return Detections(
        size=size,
        source=PackedMasks(tuple(one.packed for one in instances)),
        boxes=np.array([one.box for one in instances], dtype=np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in instances], dtype=np.float32),
        presence=np.array([one.presence for one in instances], dtype=np.float32),
        concepts=tuple(one.concept for one in instances),
        candidates=np.zeros(len(instances), dtype=np.int64),
        prompts=np.array([one.prompt for one in instances], dtype=np.int64),
    ).sorted()


def shared(one: CropDetection, other: CropDetection) -> int:
    """Count the pixels that are in both masks."""
    x0, y0, x1, y1 = intersection(one.around, other.around)
    if x1 <= x0 or y1 <= y0:  # most pairs: nothing to unpack
        return 0
    return one.packed.mask().shared(other.packed.mask())


def intersection(one: Box, other: Box) -> Box:
    """The box that two boxes share; its corners change places if there is none."""
    return (
        max(one[0], other[0]),
        max(one[1], other[1]),
        min(one[2], other[2]),
        min(one[3], other[3]),
    )


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box around all boxes."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def box_iou(one: Box, other: Box) -> float:
    """The intersection over union of two boxes."""
    common = _area(intersection(one, other))
    union = _area(one) + _area(other) - common
    return common / union if union > 0 else 0.0


def longer(box: Box) -> float:
    """The longer side of a box."""
    return max(box[2] - box[0], box[3] - box[1])


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _right_of(mask: Mask, column: int) -> Mask:
    """Cut off what lies left of a column."""
    cut = max(0, column - mask.x)
    return Mask(mask.inside[:, cut:], mask.y, mask.x + cut, mask.size) if cut else mask


def _near(mask: Mask, box: Box) -> Mask:
    """Cut a mask to a box widened by `SLACK`; to the box itself where the mask is everything.

    Such a mask, as of a mask_threshold of 0, says nothing of where the object ends.
    """
    everything = mask.area == mask.size[0] * mask.size[1]
    slack = 0 if everything else SLACK * longer(box)
    left = max(0, math.floor(box[0] - slack) - mask.x)
    top = max(0, math.floor(box[1] - slack) - mask.y)
    right = max(0, math.ceil(box[2] + slack) - mask.x)
    bottom = max(0, math.ceil(box[3] + slack) - mask.y)
    return Mask(mask.inside[top:bottom, left:right], mask.y + top, mask.x + left, mask.size)


def _cell(found: Detections, size: tuple[int, int]) -> float:
    """The side of a map's cell in pixels: masks are no finer than that."""
    if not isinstance(found.source, LowResMasks):
        return 1.0
    cells = found.source.values.shape[1:]
    return max(pixels / count for pixels, count in zip(size, cells, strict=True))


def _depth(around: Box, window: Window, size: tuple[int, int], margin: float) -> float:
    x0, y0, x1, y1 = around
    borders = (
        (window.x0 > 0 and x0 - window.x0 <= margin, x1 - window.x0),
        (window.y0 > 0 and y0 - window.y0 <= margin, y1 - window.y0),
        (window.x1 < size[1] and window.x1 - x1 <= margin, window.x1 - x0),
        (window.y1 < size[0] and window.y1 - y1 <= margin, window.y1 - y0),
    )
    return min((depth for cut, depth in borders if cut), default=math.inf)
