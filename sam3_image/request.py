"""The flat inputs of every caller → one checked request.

Cog, the command line, the web server and Python programs name the inputs alike. Whatever can be
refused without the image is refused here, before a byte of it is decoded.
"""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from pydantic.fields import FieldInfo

from sam3_image.crops import CropOptions, count
from sam3_image.decode import DecodeOptions, Image
from sam3_image.errors import InputError, Options, shown
from sam3_image.masks import Selection, rle
from sam3_image.model import VISUAL, Find, MaskPrompt, Prompts, Task
from sam3_image.output import Output

P = TypeVar("P", bound=Options)
MASK_TYPES = (np.bool_, np.float32)
WHITE = 128  # the mean of red, green and blue from which a pixel of a mask_image is on the object
EVERYTHING = "everything"
PARTS: tuple[type[Options], ...] = (Prompts, CropOptions, Selection, Output, DecodeOptions)


@dataclass(frozen=True)
class Request:
    """Everything that one caller asks of one image; `Request()` asks with all defaults."""

    prompts: Prompts
    crops: CropOptions
    selection: Selection
    output: Output
    decoding: DecodeOptions

    @classmethod
    def from_inputs(cls, **inputs: Any) -> Request:
        """The request of the inputs that were given, named as those of `predict()`.

        An input that is None was not given. Raises InputError for unknown names, for values that
        are not accepted and for inputs that do not go together.
        """
        given: defaultdict[type[Options], dict[str, Any]] = defaultdict(dict)
        for name, value in inputs.items():
            if name not in _PART_OF:
                raise InputError(_unknown(name))
            if value is not None:
                given[_PART_OF[name]][name] = value
        prompts = Prompts(**given[Prompts])
        crops = _made(CropOptions, given)
        if crops.model_fields_set:
            crops.check_with(prompts)
        return cls(
            prompts,
            crops,
            _made(Selection, given),
            _made(Output, given),
            _made(DecodeOptions, given),
        )

    @classmethod
    def from_filled(cls, **inputs: Any) -> Request:
        """The request of inputs in which a default fills what was not given.

        Cog calls `predict()` like that, and does not tell a default that it filled in from the
        same value sent by the caller. So a value that equals its default counts as not given:
        `prompt="person"` beside boxes means the boxes alone, and `threshold=0.5` beside
        `task="visual"` is accepted, though a caller who sends them may have meant them.
        """
        defaults = {name: field.default for name, field in cls.inputs().items()}
        return cls.from_inputs(
            **{name: value for name, value in inputs.items() if value != defaults.get(name)}
        )

    def task(self, size: tuple[int, int]) -> Task:
        """What the model is asked about an upright image of `size` (height, width) in pixels.

        A reference image without a text means the reference alone, as exemplar boxes do. Raises
        InputError for coordinates outside the image.
        """
        task = self.prompts.on(size)
        if (
            isinstance(task, Find)
            and self.crops.reference_image is not None
            and not self.prompts.given("prompt", "prompts")
        ):
            return replace(task, concepts=(VISUAL,))
        if not isinstance(task, Find) and self.selection.fill_holes == 0:
            return replace(task, fill_holes=False)
        return task

    def mask(self, size: tuple[int, int], decode: Callable[[Any], Image]) -> MaskPrompt | None:
        """The mask prompt of a request that has a `mask_image`; else None.

        size: (height, width) of the image. decode: makes an image of what was given; logits, bool
        masks and COCO's run lengths {"size", "counts"} need it not. Raises InputError for run
        lengths of another size.
        """
        given = self.prompts.mask_image
        if isinstance(given, dict):
            if given.get("size") != list(size):
                raise InputError(
                    f"mask_image has run lengths of the size {shown(given.get('size'))}, and the "
                    f"image is [{size[0]}, {size[1]}] (height, width); send a mask of this image."
                )
            return rle.decode(str(given.get("counts")), size).full()
        if given is None or (isinstance(given, np.ndarray) and given.dtype in MASK_TYPES):
            return given
        return decode(given).pixels.mean(axis=2, dtype=np.float32) >= WHITE

    def check_work(self, size: tuple[int, int], max_tiles: int, max_points: int) -> None:
        """Raise InputError for more tiles or points than one request may ask for.

        size: (height, width) of the image in pixels.
        """
        self.crops.check_size(size, max_tiles)
        if self.prompts.task != EVERYTHING:
            return
        tiles = 1 if self.crops.tile_size is None else count(size, self.crops.tile_size)
        looks = tiles + (tiles > 1)  # and the image as a whole
        side = self.prompts.points_per_side
        if looks * side**2 > max_points:
            fits = math.isqrt(max_points // looks)
            where = f" in each of {looks} looks (tile_size)" if looks > 1 else ""
            raise InputError(
                f"points_per_side is {side}, which is {side**2:,} points{where}; at most "
                f"{max_points:,} are accepted in one request: give at most {fits}"
                f"{', or a larger tile_size' if looks > 1 else ''} (or raise SAM3_MAX_POINTS where "
                "the server runs)."
            )

    @classmethod
    def inputs(cls) -> dict[str, FieldInfo]:
        """All inputs but the image by name: default, bounds, choices and description."""
        return {name: field for kind in PARTS for name, field in kind.model_fields.items()}


_PART_OF = {name: part for part in PARTS for name in part.model_fields}
_DEFAULTS: dict[type[Options], Any] = {part: part() for part in PARTS}


def _made(part: type[P], given: dict[type[Options], dict[str, Any]]) -> P:
    """The checked options of one part; the same object wherever none of its inputs was given."""
    values = given.get(part)
    return part(**values) if values else _DEFAULTS[part]


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, _PART_OF, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_PART_OF)}."
    return f"{name} is not an input; {hint}"
