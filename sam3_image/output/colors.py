"""Colours of instances: the six named ones, and twenty that are easy to tell apart."""

from __future__ import annotations

Color = tuple[int, int, int]  # RGB, 0–255

NAMED_COLORS: dict[str, Color] = {
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}

DISTINCT = "distinct"
CHOICES = (*NAMED_COLORS, DISTINCT)

# Found by search: any two are at least 13 CIEDE2000 apart, and 10 as people with deuteranopia or
# protanopia see them (8 with tritanopia). The vivid ones come first, each far from those before.
# `tests/unit/test_colors.py` measures this. An instance after the twentieth begins again.
PALETTE: tuple[Color, ...] = (
    (96, 160, 255),
    (192, 160, 0),
    (160, 255, 160),
    (224, 32, 96),
    (32, 96, 255),
    (128, 128, 0),
    (255, 96, 192),
    (192, 255, 0),
    (96, 64, 0),
    (32, 64, 128),
    (160, 192, 128),
    (255, 160, 192),
    (0, 0, 255),
    (0, 128, 128),
    (160, 64, 64),
    (192, 192, 255),
    (96, 96, 160),
    (64, 160, 128),
    (128, 32, 64),
    (128, 255, 255),
)


def color_of(name: str, index: int) -> Color:
    """Return the colour of instance `index` (0 is the best score) when `mask_color` is `name`."""
    return PALETTE[index % len(PALETTE)] if name == DISTINCT else NAMED_COLORS[name]
