"""The flat inputs of every caller → one checked request.

Cog, the command line, the web server and Python programs name the inputs alike. Whatever can be
refused without the image is refused here, before a byte of it is decoded.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from sam3_image.crops import CropOptions
from sam3_image.decode import DecodeOptions
from sam3_image.errors import InputError, Options
from sam3_image.masks import Selection
from sam3_image.model import VISUAL, Find, Pick, Prompts
from sam3_image.output import Output

P = TypeVar("P", bound=Options)
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
        if isinstance(task, Pick) and self.selection.fill_holes == 0:
            return replace(task, fill_holes=False)
        return task

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
