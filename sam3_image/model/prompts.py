"""What the model can be asked, in pixels of one image.

Two tasks that are often mixed up have two types. `Find` is promptable concept segmentation (PCS):
every instance of a text and/or of exemplar boxes. `Pick` is promptable visual segmentation (PVS):
the one object under points and/or a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sam3_image.errors import shown
from sam3_image.model.geometry import Box, Point

VISUAL = "visual"  # the word that SAM 3 was trained to read beside exemplars without text


@dataclass(frozen=True)
class Find:
    """All instances of each concept with a score above `threshold`.

    concepts: one text each; "visual" where only exemplars say what to find.
    boxes: exemplars that narrow every concept, xyxy in pixels of the upright image; may be empty.
    labels: one per box, 1 for "find more like this", 0 for "exclude what looks like this".
    """

    concepts: tuple[str, ...]
    threshold: float
    boxes: tuple[Box, ...] = ()
    labels: tuple[int, ...] = ()
    name: ClassVar[str] = "find"

    def __str__(self) -> str:
        """One line for the log."""
        texts = ", ".join(shown(text) for text in self.concepts)
        positive, negative = sum(self.labels), self.labels.count(0)
        exemplars = f" with {positive} positive and {negative} negative exemplars"
        return f"find {texts}{exemplars if self.labels else ''}, threshold {self.threshold}"


@dataclass(frozen=True)
class Target:
    """One object to pick: points on and off it, a box around it, or both.

    points: (x, y) in pixels of the upright image; labels: 1 on the object, 0 off it.
    """

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None


@dataclass(frozen=True)
class Pick:
    """One mask per target, or its three candidates where `multimask`."""

    targets: tuple[Target, ...]
    multimask: bool
    name: ClassVar[str] = "pick"

    def __str__(self) -> str:
        """One line for the log."""
        points, boxed = len(self.targets[0].points), self.targets[0].box is not None
        if not points:
            return f"pick the objects in {len(self.targets)} boxes"
        return f"pick the object under {points} points{' in a box' if boxed else ''}"
