"""Colours of instances: the six named ones, and twenty that are easy to tell apart."""

from __future__ import annotations

from sam3_image.errors import InputError, shown

Color = tuple[int, int, int]  # RGB, 0–255

NAMED: dict[str, Color] = {
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}

DISTINCT = "distinct"
CHOICES = (*NAMED, DISTINCT)

PALETTE: tuple[Color, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)


def check(name: str) -> None:
    """Raises `InputError` unless `name` is one of `CHOICES`."""
    if name not in CHOICES:
        raise InputError(
            f"mask_color is {shown(name)}, which is not a colour of ours; choose one of "
            f"{', '.join(CHOICES)}"
        )


def color_of(name: str, index: int) -> Color:
    """The colour of instance `index` (0 is the best score) when `mask_color` is `name`."""
    return PALETTE[index % len(PALETTE)] if name == DISTINCT else NAMED[name]
