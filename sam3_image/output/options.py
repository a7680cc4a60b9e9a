"""What the caller wants back: the output inputs of `predict()`, checked together."""

from __future__ import annotations

from pydantic import Field

from sam3_image.errors import InputError, Options, check_choice
from sam3_image.output import colors, label_map
from sam3_image.output.formats import CHOICES, NONE
from sam3_image.output.images import PICTURE_FORMATS


class Output(Options):
    """The output inputs of `predict()`, with their names and defaults; checked when made.

    return_zip: a ZIP of one mask PNG per instance; otherwise the one file that the rest asks for.
    save_overlay: put the overlay into the ZIP. Without a ZIP the overlay is the result anyway.
    mask_only: without a ZIP, white on black (always PNG) instead of the overlay; in a ZIP, the
        picture that `save_overlay` adds is white on black.
    apply_mask: the objects cut out: beside the masks in a ZIP, instead of the overlay otherwise.
    output_format: of overlay and cut-out. Masks are always PNG.
    label_map: in a ZIP `label_map.png` and `labels.json`, otherwise that PNG is the result.
    annotation_format: in a ZIP one more file or several, otherwise they are the result.

    Raises `InputError` for a value out of range and for inputs that do not go together. Whatever
    the first six inputs accept together is accepted: they are those of the drop-in interface.
    """

    save_overlay: bool = Field(default=False, description="Add the overlay picture to the ZIP file")
    mask_only: bool = Field(
        default=False,
        description="The picture is a black-and-white mask instead of an overlay on the image",
    )
    return_zip: bool = Field(
        default=True,
        description=(
            "Return a ZIP file with one PNG mask per instance, best score first; else one picture"
        ),
    )
    mask_opacity: float = Field(
        default=0.5, ge=0, le=1, description="Opacity of the overlay, 0 to 1"
    )
    mask_color: str = Field(
        default="green",
        json_schema_extra={"enum": list(colors.CHOICES)},
        description="Color of the overlay; distinct gives each instance its own",
    )
    apply_mask: bool = Field(
        default=False,
        description=(
            "The picture is the objects cut out: transparent outside (PNG, WebP) or white (JPEG)"
        ),
    )
    output_format: str = Field(
        default="png",
        json_schema_extra={"enum": list(PICTURE_FORMATS)},
        description="Format of pictures; masks are always PNG",
    )
    show_labels: bool = Field(
        default=False,
        description="Draw box, concept and score of each instance on the overlay",
    )
    annotation_format: str = Field(
        default=NONE,
        json_schema_extra={"enum": list(CHOICES)},
        description=(
            "Add annotations for other tools to the ZIP; with return_zip false, return them alone"
        ),
    )

    label_map: str = Field(
        default=label_map.NONE,
        json_schema_extra={"enum": list(label_map.CHOICES)},
        description=(
            "A PNG whose pixel values are numbers of instances or of concepts, 0 the background; "
            "the better score wins. In the ZIP with labels.json; with return_zip false, alone"
        ),
    )

    def model_post_init(self, _context: object) -> None:
        """Hold every rule that does not depend on the image."""
        check_choice("mask_color", self.mask_color, colors.CHOICES)
        check_choice("output_format", self.output_format, tuple(PICTURE_FORMATS))
        check_choice("annotation_format", self.annotation_format, CHOICES)
        check_choice("label_map", self.label_map, label_map.CHOICES)
        self._check_together()

    @property
    def wants_annotations(self) -> bool:
        """Whether annotations are written."""
        return self.annotation_format != NONE

    @property
    def wants_label_map(self) -> bool:
        """Whether a label map is written."""
        return self.label_map != label_map.NONE

    @property
    def wants_overlay(self) -> bool:
        """Whether the image with tinted objects is written."""
        if self.return_zip:
            return self.save_overlay and not self.mask_only
        return not self._instead_of_overlay()

    @property
    def wants_silhouette(self) -> bool:
        """Whether one picture of all objects, white on black, is written."""
        if self.return_zip:
            return self.save_overlay and self.mask_only
        return self.mask_only

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise `InputError` if `output_format` cannot hold (height, width) pixels."""
        largest = PICTURE_FORMATS[self.output_format].largest_side
        if (self.wants_overlay or self.apply_mask) and max(size) > largest:
            raise InputError(
                f"output_format={self.output_format!r} holds at most {largest} pixels a side and "
                f"the image has {size[1]}×{size[0]}; choose another output_format or send a "
                f"smaller image."
            )

    def _check_together(self) -> None:
        if self.apply_mask and self.mask_only:
            raise InputError(
                "apply_mask=true asks for the objects in color and mask_only=true for white on "
                "black; set one of them to false."
            )
        if self.show_labels and not self.wants_overlay:
            raise InputError(
                f"show_labels=true draws on the overlay, and {self._why_no_overlay()}."
            )
        if self.output_format != "png" and not (self.wants_overlay or self.apply_mask):
            raise InputError(
                f"output_format={self.output_format!r} is for overlay and cut-out (masks are "
                f"always PNG), and {self._why_no_overlay()}."
            )
        if not self.return_zip:
            self._check_one_file()

    def _check_one_file(self) -> None:
        """Without a ZIP there is one result, so only one may be asked for."""
        wanted = self._instead_of_overlay()
        # save_overlay beside mask_only was always accepted by the drop-in interface.
        if self.save_overlay and wanted not in ([], ["mask_only=true"]):
            wanted.insert(0, "save_overlay=true")
        if len(wanted) > 1:
            raise InputError(
                f"return_zip=false gives one file, but {' and '.join(wanted)} ask for "
                f"{len(wanted)}; set return_zip=true or keep one of them."
            )

    def _why_no_overlay(self) -> str:
        """The reason why there is no overlay, as the end of a sentence."""
        if self.return_zip and self.save_overlay:
            return "mask_only=true makes that picture white on black; set one of them to false"
        if self.return_zip:
            return "none is asked for; set save_overlay=true or return_zip=false, or leave it out"
        return (
            f"with return_zip=false {' and '.join(self._instead_of_overlay())} takes its place; "
            f"leave that out, or set return_zip=true with save_overlay=true"
        )

    def _instead_of_overlay(self) -> list[str]:
        """The given inputs that take the overlay's place when there is no ZIP."""
        given = {
            "mask_only=true": self.mask_only,
            "apply_mask=true": self.apply_mask,
            f"annotation_format={self.annotation_format!r}": self.wants_annotations,
            f"label_map={self.label_map!r}": self.wants_label_map,
        }
        return [name for name, is_given in given.items() if is_given]
