"""The flat inputs of every caller → one checked request.

Cog, the command line, the web server and Python programs name the inputs alike. Whatever can be
refused without the image is refused here, before a byte of it is decoded.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any

from pydantic.fields import FieldInfo

from sam3_image.crops import CropOptions
from sam3_image.errors import InputError, Options
from sam3_image.masks import Selection
from sam3_image.model import VISUAL, Find, Pick, Prompts
from sam3_image.output import Output

PARTS: tuple[type[Options], ...] = (Prompts, CropOptions, Selection, Output)


@dataclass(frozen=True)
class Request:
    """Everything that one caller asks of one image; `Request()` asks with all defaults."""

    prompts: Prompts
    crops: CropOptions
    selection: Selection
    output: Output

    @classmethod
    def from_inputs(cls, **inputs: Any) -> Request:
        """Return the request of the inputs that were given, named as those of `predict()`.

        An input that is None was not given. Raises InputError for unknown names, for values that
        are not accepted and for inputs that do not go together.
        """
        known = cls.inputs()
        for name in inputs:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
                raise InputError(f"{name} is not an input; {hint}")
        given = {name: value for name, value in inputs.items() if value is not None}
        prompts, crops = Prompts(**_of(Prompts, given)), CropOptions(**_of(CropOptions, given))
        crops.check_with(prompts)
        return cls(
            prompts,
            crops,
            Selection(**_of(Selection, given)),
            Output(**_of(Output, given)),
        )

    @classmethod
    def from_filled(cls, **inputs: Any) -> Request:
        """Return the request of inputs in which a default fills what was not given.

        Cog calls `predict()` like that, and does not tell a default that it filled in from the
        same value sent by the caller. So a value that equals its default counts as not given:
        `prompt="person"` beside boxes means the boxes alone, and `threshold=0.5` beside
        `task="visual"` is accepted, though a caller who sends them may have meant them.
        """
        defaults = {name: field.default for name, field in cls.inputs().items()}
        return cls.from_inputs(
            **{name: value for name, value in inputs.items() if value != defaults.get(name)}
        )

    def task(self, size: tuple[int, int]) -> Find | Pick:
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
        return task

    def check_size(self, size: tuple[int, int], max_tiles: int) -> None:
        """Raise InputError for what an image of `size` (height, width) in pixels cannot be asked.

        max_tiles: how many tiles one request may ask for.
        """
        self.output.check_size(size)
        self.crops.check_size(size, max_tiles)

    @classmethod
    def inputs(cls) -> dict[str, FieldInfo]:
        """Return all inputs but the image by name: default, bounds, choices and description."""
        return {name: field for kind in PARTS for name, field in kind.model_fields.items()}


def _of(part: type[Options], given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in part.model_fields}
