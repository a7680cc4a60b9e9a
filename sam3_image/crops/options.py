"""The inputs of `predict()` that ask for more than one look at the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from pydantic import Field, PrivateAttr

from sam3_image.crops.windows import count
from sam3_image.errors import InputError, Options, shown
from sam3_image.model import Box, Prompts, fit_boxes, read_boxes

SMALLEST, LARGEST = 64, 4096
MAX_REFERENCES = 8  # in the strip beside the image each has its share of the height


class CropOptions(Options):
    """The inputs of `predict()` about several looks, with their names and defaults.

    reference_image: a path, the bytes of a file, a Pillow image, or RGB uint8 (H, W, 3).
    reference_boxes: JSON text, a list or an array; xyxy in pixels of the upright reference.
    Raises InputError for whatever can be refused without an image.
    """

    tile_size: int | None = Field(
        default=None,
        ge=SMALLEST,
        le=LARGEST,
        description=(
            "Also look at square tiles of that many pixels, for small objects and for more "
            "than the model finds in one look"
        ),
    )
    refine: bool = Field(
        default=False,
        description="Look at each instance again, more closely, for finer edges",
    )
    reference_image: Any = Field(
        default=None,
        description=(
            "Another image, for reference_boxes; what looks like their content is found in image"
        ),
    )
    reference_boxes: Any = Field(
        default=None,
        description=(
            "JSON, [[x0,y0,x1,y1],...] in pixels of the upright reference_image, at most 8: "
            "examples of what to find"
        ),
    )
    _boxes: tuple[Box, ...] = PrivateAttr(default=())

    def model_post_init(self, _context: object) -> None:
        """Hold every rule that does not depend on an image."""
        if (self.reference_image is None) != (self.reference_boxes is None):
            given, missing = "reference_image", "reference_boxes"
            if self.reference_image is None:
                given, missing = missing, given
            raise InputError(f"{given} was given without {missing}; give both, or neither.")
        if self.reference_image is None:
            return
        if not isinstance(self.reference_image, Path | bytes | np.ndarray | Pillow.Image):
            raise InputError(
                f"reference_image is {shown(self.reference_image)}; give an image, as for image."
            )
        self._boxes = read_boxes("reference_boxes", self.reference_boxes)
        if len(self._boxes) > MAX_REFERENCES:
            raise InputError(
                f"reference_boxes has {len(self._boxes)} entries; give 1 to {MAX_REFERENCES}."
            )

    def check_with(self, prompts: Prompts) -> None:
        """Raise InputError where these inputs and the prompts do not go together."""
        if prompts.task == "everything" and self.reference_image is not None:
            raise InputError(
                "reference_image goes with task='concept', which finds what looks like something; "
                "task='everything' finds all objects."
            )
        own = any(isinstance(entry, dict) for entry in prompts.prompts or ())
        if own and (self.tile_size is not None or self.reference_image is not None):
            raise InputError(
                "boxes of single entries of prompts do not go with tile_size and reference_image; "
                "give the same boxes for all prompts, or ask for one prompt at a time."
            )
        if prompts.task != "visual":
            return
        if self.tile_size is not None:
            raise InputError(
                "tile_size goes with task='concept' and task='everything', which look everywhere; "
                "task='visual' knows where its objects are: give refine for finer edges."
            )
        if self.reference_image is not None:
            raise InputError(
                "reference_image goes with task='concept', which finds what looks like something; "
                "task='visual' picks the object under points or a box."
            )

    def check_size(self, size: tuple[int, int], most: int) -> None:
        """Raise InputError where an image of `size` (height, width) has more tiles than `most`."""
        if self.tile_size is None or (tiles := count(size, self.tile_size)) <= most:
            return
        fits = self.tile_size
        while count(size, fits) > most and fits < LARGEST:
            fits += 1
        advice = f"give a tile_size of at least {fits}"
        if count(size, fits) > most:
            advice = "send a smaller image"
        raise InputError(
            f"tile_size is {self.tile_size}, which cuts {size[1]}×{size[0]} pixels into "
            f"{tiles:,} tiles; at most {most:,} are accepted: {advice} (or raise SAM3_MAX_TILES "
            "where the server runs)."
        )

    def references(self, size: tuple[int, int]) -> Sequence[Box]:
        """The reference's boxes; `size` is its (height, width). Raises InputError."""
        return fit_boxes("reference_boxes", self._boxes, size)
