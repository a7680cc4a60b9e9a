"""Instances → pictures: overlay, silhouette and cut-out.

All pictures are drawn while the masks pass by one at a time, best score first, so that each mask
is computed once for everything that needs it and never more than one has to exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_image.masks import Detections, Mask
from sam3_image.output.colors import Color, color_of
from sam3_image.output.labels import Outlines, draw_labels, outlines

Pixels = NDArray[np.uint8]

# Pixels that are blended in one go: small enough that the temporaries stay in the CPU's cache.
TINT_PIXELS = 1 << 17


@dataclass(frozen=True)
class Style:
    """How an overlay looks.

    color: a name of `colors.CHOICES`; "distinct" gives each instance its own.
    opacity: 0 leaves the picture as it is, 1 paints the pure colour.
    labels: outline, box, concept and score of each instance on top.
    """

    color: str = "green"
    opacity: float = 0.5
    labels: bool = False


class Canvas:
    """A picture in the making; `add` every mask, best first, then take the results.

    Where masks overlap, the first one added (the better score) lies on top, and a pixel is
    tinted once however many masks it is in.
    """

    def __init__(self, pixels: Pixels, style: Style | None = None) -> None:
        """pixels: (H, W, 3) uint8 RGB, left untouched. style: None when no overlay is wanted."""
        self._pixels = pixels
        self._style = style
        self._painted = pixels.copy() if style else None
        self._covered = np.zeros(pixels.shape[:2], dtype=bool)
        self._outlines: list[Outlines] = []

    def add(self, mask: Mask) -> None:
        """Draw the next instance; `mask.size` is that of the picture."""
        covered = self._covered[mask.window]
        if self._style and self._painted is not None:
            color = color_of(self._style.color, len(self._outlines))
            _tint(self._painted[mask.window], mask.inside, covered, color, self._style.opacity)
            self._outlines.append(outlines(mask) if self._style.labels else ())
        covered |= mask.inside

    def overlay(self, instances: Detections) -> Pixels:
        """(H, W, 3) uint8 RGB. Takes `instances` for its labels; to be called once, at the end."""
        if self._style is None or self._painted is None:
            raise ValueError("this canvas was made without a style, so it has no overlay")
        if self._style.labels:
            colors = [color_of(self._style.color, i) for i in range(len(instances))]
            draw_labels(self._painted, instances, self._outlines, colors)
        return self._painted

    def silhouette(self) -> Pixels:
        """(H, W) uint8: 255 where any instance is, 0 elsewhere."""
        return self._covered.view(np.uint8) * np.uint8(255)

    def cutout(self) -> Pixels:
        """(H, W, 4) uint8 RGBA: the input's pixels with alpha 255 where any instance is.

        Elsewhere all four channels are 0, so that what was cut away is gone and not just hidden.
        """
        picture = cv2.cvtColor(self._pixels, cv2.COLOR_RGB2RGBA)
        packed = picture.view(np.uint32)[..., 0]
        np.multiply(packed, self._covered, out=packed)
        return cast(Pixels, picture)

    def cutout_on_white(self) -> Pixels:
        """(H, W, 3) uint8 RGB: the input's pixels where any instance is, white elsewhere."""
        picture = np.full_like(self._pixels, 255)
        cv2.copyTo(self._pixels, self._covered.view(np.uint8), picture)
        return picture


def _tint(
    region: Pixels,
    inside: NDArray[np.bool_],
    covered: NDArray[np.bool_],
    color: Color,
    opacity: float,
) -> None:
    """Blend `color` into `region` (h, w, 3) where `inside` and not yet `covered` (h, w)."""
    if not inside.size:
        return
    table = _tints(color, opacity)
    step = min(inside.shape[0], max(1, TINT_PIXELS // inside.shape[1]))
    blend = np.empty((step, *region.shape[1:]), dtype=np.uint8)
    for start in range(0, inside.shape[0], step):
        block = region[start : start + step]
        rows = len(block)
        cv2.LUT(block, table, blend[:rows])
        fresh = np.greater(inside[start : start + step], covered[start : start + step])
        cv2.copyTo(blend[:rows], fresh.view(np.uint8), block)


def _tints(color: Color, opacity: float) -> Pixels:
    """A lookup table, (1, 256, 3) uint8: the tinted value for each value of each channel.

    The fraction of value · (1 - opacity) + color · opacity is cut off, as in the drop-in's
    predecessor; 0 gives the value back and 1 the color, exactly.
    """
    values = np.arange(256)[:, None] * (1 - opacity) + np.array(color) * opacity
    return values.astype(np.uint8)[None]
