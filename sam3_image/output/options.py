"""What the caller wants back: the output inputs of `predict()`, checked together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sam3_image.errors import InputError, shown
from sam3_image.output import colors
from sam3_image.output.annotations import FORMATS, NONE

PICTURE_FORMATS = ("png", "jpg", "webp")

# What libjpeg, libwebp and the PNG format can hold, in pixels a side.
LARGEST_SIDE = {"png": (1 << 31) - 1, "jpg": 65_500, "webp": 16_383}


@dataclass(frozen=True)
class Output:
    """The output inputs of `predict()`, with their names and defaults; checked when made.

    return_zip: a ZIP of one mask PNG per instance; otherwise the one file that the rest asks for.
    save_overlay: put the overlay into the ZIP. Without a ZIP the overlay is the result anyway.
    mask_only: without a ZIP, white on black (always PNG) instead of the overlay.
    mask_opacity: of the overlay's tint, 0–1.
    mask_color: of the overlay's tint, one of `colors.CHOICES`.
    apply_mask: the objects cut out: beside the masks in a ZIP, instead of the overlay otherwise.
    output_format: of overlay and cut-out, one of `PICTURE_FORMATS`. Masks are always PNG.
    show_labels: outline, box, concept and score on the overlay.
    annotation_format: one of `annotations.FORMATS`; in a ZIP `annotations.json`, otherwise that
        JSON is the result.

    Raises `InputError` for a value out of range and for inputs that do not go together. Whatever
    the first six inputs accept together is accepted: they are those of the drop-in interface.
    """

    return_zip: bool = True
    save_overlay: bool = False
    mask_only: bool = False
    mask_opacity: float = 0.5
    mask_color: str = "green"
    apply_mask: bool = False
    output_format: str = "png"
    show_labels: bool = False
    annotation_format: str = NONE

    def __post_init__(self) -> None:
        """Holds every rule that does not depend on the image."""
        self._check_values()
        self._check_together()

    @property
    def wants_annotations(self) -> bool:
        """Whether a JSON is written."""
        return self.annotation_format != NONE

    @property
    def wants_overlay(self) -> bool:
        """Whether an overlay is written."""
        if self.return_zip:
            return self.save_overlay
        return not (self.mask_only or self.apply_mask or self.wants_annotations)

    @property
    def largest_side(self) -> int:
        """Pixels a side that `output_format` can hold."""
        return LARGEST_SIDE[self.output_format]

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises `InputError` if `output_format` cannot hold (height, width) pixels."""
        if (self.wants_overlay or self.apply_mask) and max(size) > self.largest_side:
            raise InputError(
                f"output_format={self.output_format!r} holds at most {self.largest_side} pixels a "
                f"side and the image has {size[1]}×{size[0]}; choose another output_format or a "
                f"smaller image"
            )

    def _check_values(self) -> None:
        colors.check(self.mask_color)
        if not (math.isfinite(self.mask_opacity) and 0 <= self.mask_opacity <= 1):
            raise InputError(
                f"mask_opacity is {shown(self.mask_opacity)}; choose a number from 0 (invisible) "
                f"to 1 (solid)"
            )
        _check_choice("output_format", self.output_format, PICTURE_FORMATS)
        _check_choice("annotation_format", self.annotation_format, FORMATS)

    def _check_together(self) -> None:
        if self.apply_mask and self.mask_only:
            raise InputError(
                "apply_mask=true asks for the objects in colour and mask_only=true for white on "
                "black; set one of them to false"
            )
        if self.show_labels and not self.wants_overlay:
            raise InputError(f"show_labels=true draws on the overlay, and {self._why_no_overlay()}")
        if self.output_format != "png" and not (self.wants_overlay or self.apply_mask):
            raise InputError(
                f"output_format={self.output_format!r} is for overlay and cut-out (masks are "
                f"always PNG), and {self._why_no_overlay()}"
            )
        if not self.return_zip:
            self._check_one_file()

    def _check_one_file(self) -> None:
        """Without a ZIP there is one result, so only one may be asked for."""
        wanted = self._instead_of_overlay()
        # save_overlay beside mask_only was always accepted by the drop-in interface.
        if self.save_overlay and (self.apply_mask or self.wants_annotations):
            wanted.insert(0, "save_overlay=true")
        if len(wanted) > 1:
            raise InputError(
                f"return_zip=false gives one file, but {' and '.join(wanted)} ask for "
                f"{len(wanted)}; set return_zip=true or keep one of them"
            )

    def _why_no_overlay(self) -> str:
        """The rest of a sentence about an input that needs an overlay."""
        if self.return_zip:
            return "none is asked for; set save_overlay=true or return_zip=false, or leave it out"
        return (
            f"with return_zip=false {' and '.join(self._instead_of_overlay())} takes its place; "
            f"leave that out, or set return_zip=true with save_overlay=true"
        )

    def _instead_of_overlay(self) -> list[str]:
        """The inputs given that are the result themselves when there is no ZIP."""
        given = {
            "mask_only=true": self.mask_only,
            "apply_mask=true": self.apply_mask,
            f"annotation_format={self.annotation_format!r}": self.wants_annotations,
        }
        return [name for name, is_given in given.items() if is_given]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {shown(value)}; choose one of {', '.join(choices)}")
