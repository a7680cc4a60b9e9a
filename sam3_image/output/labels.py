"""Outlines, boxes, concepts and scores drawn on a picture.

Text is drawn with the fonts that OpenCV 5 carries inside it (Rubik, and WenQuanYi Micro Hei for
what Rubik lacks), so it looks the same on every machine. They cover Latin, Greek, Cyrillic,
Chinese, Japanese and Korean. OpenCV neither knows other scripts nor writes from right to left: a
concept that it cannot write is called by the number of its prompt, as in the annotations. (Pillow's
own font has 116 characters; Matplotlib's would be a large dependency for one file.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.masks import Detections, Mask
from sam3_image.output.colors import Color

Pixels = NDArray[np.uint8]
Outlines = tuple[NDArray[np.int32], ...]
Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, x1 and y1 exclusive

# Height of the text: this share of the picture's mean side, but never too small to be read.
FONT_SHARE = 1 / 48
SMALLEST_FONT = 12
FONT_WEIGHT = 500

# Longest concept on a label, in font heights; the rest of it is in the annotations.
LONGEST_LABEL = 20

# Labels never hide more of the picture than this share of it.
MOST_HIDDEN = 0.25

# Unicode's classes of characters that are written from right to left.
RIGHT_TO_LEFT = ("R", "AL", "AN")

# Above this luma (0–255) black text reads better than white.
BRIGHT = 130


def outlines(mask: Mask) -> Outlines:
    """Outlines of a mask and of its holes.

    Each (n, 1, 2) int32 x, y of pixels on the inner side of the edge, in the whole image.
    """
    if not mask.inside.size:
        return ()
    found, _ = cv2.findContours(
        mask.inside.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.x, mask.y)
    )
    return tuple(np.asarray(line, dtype=np.int32) for line in found)


def draw_labels(
    picture: Pixels,
    instances: Detections,
    lines: Sequence[Outlines],
    colors: Sequence[Color],
) -> None:
    """Draw every instance's outline and box, and its concept and score where there is room.

    picture: (H, W, 3) uint8 RGB, drawn on in place.
    lines, colors: `outlines` and colour of each instance.

    Labels never touch each other, nor hide more than MOST_HIDDEN of the picture: where there is
    no room for all, those with the better scores are drawn.
    """
    style = Lettering.for_size(instances.size)
    boxes = [_clipped(box, instances.size) for box in instances.boxes]
    for index in reversed(range(len(instances))):
        cv2.drawContours(picture, lines[index], -1, colors[index], style.stroke, cv2.LINE_AA)
        x0, y0, x1, y1 = boxes[index]
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colors[index], style.stroke)
    taken = np.empty((0, 4), dtype=np.int64)
    room = MOST_HIDDEN * instances.size[0] * instances.size[1]
    wanted = list(zip(instances.concepts, instances.prompts.tolist(), strict=True))
    names = {key: style.name(*key) for key in set(wanted)}
    for index, box in enumerate(boxes):
        if room < style.height:  # less than a label of one column
            break
        text = style.label(names[wanted[index]], float(instances.scores[index]))
        wide, high = style.extent(text)
        if wide * high > room:
            continue
        place = _free_place(box, (wide, high), instances.size, taken)
        if place is not None:
            room -= wide * high
            taken = np.vstack([taken, place])
            style.draw(picture, text, place, colors[index])


@dataclass(frozen=True)
class Lettering:
    """Sizes of text and lines on one picture, in pixels, and the drawing of a label.

    font: height of the text. stroke: thickness of lines. widest: room for a label, in x.
    """

    font: int
    stroke: int
    widest: int

    @classmethod
    def for_size(cls, size: tuple[int, int]) -> Lettering:
        """For a picture of (height, width) pixels."""
        area = size[0] * size[1]
        font = max(SMALLEST_FONT, round(area**0.5 * FONT_SHARE))
        style = cls(font, stroke=max(1, font // 12), widest=min(size[1], LONGEST_LABEL * font))
        # One label alone may not hide too much of a small picture: its name is shortened instead.
        return replace(style, widest=min(style.widest, int(MOST_HIDDEN * area) // style.height))

    @cached_property
    def face(self) -> cv2.FontFace:
        """The font; OpenCV looks into the other one for what it lacks."""
        return cv2.FontFace("sans")

    @property
    def margin(self) -> int:
        """Between the text and the edge of its label."""
        return max(2, self.font // 4)

    @property
    def height(self) -> int:
        """Height of a label in pixels."""
        return self.font + 2 * self.margin

    def name(self, concept: str, prompt: int) -> str:
        """The concept on one line, or the number of its prompt where the font cannot write it."""
        visible = "".join(c if c.isprintable() else " " for c in concept)
        words = unicodedata.normalize("NFC", " ".join(visible.split()))
        return words if self.can_write(words) else f"prompt {prompt}"

    def can_write(self, text: str) -> bool:
        """Whether every character has a letter here and goes from left to right."""
        missing = self._drawn("?")
        return all(
            unicodedata.bidirectional(c) not in RIGHT_TO_LEFT
            and not unicodedata.category(c).startswith("M")  # marks are not put on their letters
            and (c in "? " or self._drawn(c) != missing)
            for c in set(text)
        )

    def label(self, name: str, score: float) -> str:
        """Name and score, the name shortened until the label has room."""
        text = f"{name} {score:.2f}"
        while len(name) > 1 and self.extent(text)[0] > self.widest:
            name = name[: min(len(name) - 1, len(name) * 3 // 4)].rstrip()
            text = f"{name}… {score:.2f}"
        return text

    def extent(self, text: str) -> tuple[int, int]:
        """(width, height) of the label with this text."""
        # An empty picture keeps OpenCV from wrapping the line.
        _, _, width, _ = cv2.getTextSize(
            (0, 0), text, (0, 0), self.face, self.font, FONT_WEIGHT, cv2.PUT_TEXT_ALIGN_LEFT
        )
        return width + 2 * self.margin, self.height

    def draw(self, picture: Pixels, text: str, place: Rectangle, color: Color) -> None:
        """Draw the label on a plate of `color`, in black or white, whichever reads better."""
        x0, y0, x1, y1 = place
        picture[y0:y1, x0:x1] = color
        luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
        ink = (0, 0, 0) if luma > BRIGHT else (255, 255, 255)
        # The font's capitals are 0.7 of its height: this puts them in the middle of the plate.
        baseline = y0 + self.margin + round(self.font * 0.85)
        cv2.putText(
            picture, text, (x0 + self.margin, baseline), ink, self.face, self.font, FONT_WEIGHT
        )

    def _drawn(self, character: str) -> bytes:
        """How one character looks; OpenCV draws a "?" for those it lacks."""
        picture = np.zeros((32, 48), dtype=np.uint8)
        cv2.putText(picture, character, (8, 24), (255,), self.face, 20, FONT_WEIGHT)
        return picture.tobytes()


def _clipped(box: NDArray[np.float32], size: tuple[int, int]) -> Rectangle:
    """Clip a box (xyxy) to the pixels of the image; at least one pixel of it always remains."""
    height, width = size
    x0, y0, x1, y1 = np.rint(box).astype(np.int64).tolist()
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return x0, y0, min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)


def _free_place(
    box: Rectangle, extent: tuple[int, int], size: tuple[int, int], taken: NDArray[np.int64]
) -> Rectangle | None:
    """Where at the box a label fits into the image and covers none of `taken` (n, 4), if at all."""
    x0, y0, x1, y1 = box
    wide, high = extent
    height, width = size
    if wide > width or high > height:
        return None
    tops = (y0 - high, y0, y1, y1 - high, (y0 + y1 - high) // 2)  # above, inside, below, …
    lefts = (x0, x1 - wide, (x0 + x1 - wide) // 2)
    for left in lefts:
        for top in tops:
            x, y = min(max(left, 0), width - wide), min(max(top, 0), height - high)
            place = (x, y, x + wide, y + high)
            # ≤ and ≥, so that plates of one colour do not touch and stay apart to the eye.
            apart = (taken[:, :2] > place[2:]) | (taken[:, 2:] < place[:2])
            if apart.any(axis=1).all():
                return place
    return None
