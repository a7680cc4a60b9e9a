"""The one family of errors that a user is meant to read, and the checked options that raise them.

Cog answers a failed prediction with ``ClassName: message``, so the message is the user
interface: one line that says what was wrong, the value, what is allowed and what to do.
"""

from __future__ import annotations

import math
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails


class UserError(Exception):
    """Base of all errors whose message is written for the person who made the request."""


class InputError(UserError):
    """A value in the request is not one that `predict()` accepts."""


class ImageError(InputError):
    """The image file cannot be used: not an image, damaged, refused format, or over a limit."""


class CheckpointError(UserError):
    """The weights cannot be found, fetched or trusted; raised by `setup()`."""


class DeviceError(UserError):
    """The compute device or dtype asked for is not there or does not work."""


class MemoryLimitError(UserError):
    """One prediction needed more memory than there is; the next one can still work."""


class OutputError(UserError):
    """The result could not be written: full disk, read-only or vanished folder."""


def shown(value: object, limit: int = 60) -> str:
    """Return `repr(value)` on one line, shortened to `limit` characters, for use in messages."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class Options(BaseModel):
    """A group of inputs, checked when it is made: types strictly, then bounds and choices.

    Names, defaults, bounds, choices and descriptions are those of the fields. Which inputs were
    given is in `model_fields_set`. Whatever is wrong is one InputError.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        """Raise InputError for the first value that is not accepted."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_refusal(type(self), error.errors()[0])) from None

    def given(self, *names: str) -> bool:
        """Whether any of these inputs was given, be it with the value of its default."""
        return bool(self.model_fields_set.intersection(names))


def bounds(field: FieldInfo) -> tuple[float, float]:
    """Smallest and largest number that a field accepts; infinite where it has no bound."""
    low, high = -math.inf, math.inf
    for constraint in field.metadata:
        low = getattr(constraint, "ge", low)
        high = getattr(constraint, "le", high)
    return low, high


def choices(field: FieldInfo) -> tuple[Any, ...]:
    """The values that a field accepts, or an empty tuple for a field that accepts any."""
    extra = field.json_schema_extra
    return tuple(extra["enum"]) if isinstance(extra, dict) and "enum" in extra else ()  # type: ignore[arg-type]


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless `value` is one of those `allowed`."""
    if value not in allowed:
        raise InputError(f"{name} is {shown(value)}; choose one of {', '.join(allowed)}.")


def _refusal(options: type[Options], error: ErrorDetails) -> str:
    name, value = str(error["loc"][0]), error["input"]
    if error["type"] == "extra_forbidden":
        known = ", ".join(options.model_fields)
        return f"{name} is not an input here; known are {known}. Check the spelling."
    field = options.model_fields[name]
    kinds = [field.annotation, *get_args(field.annotation)]
    if error["type"] == "string_too_long":
        most = error["ctx"]["max_length"]
        return f"{name} has {len(value)} characters; at most {most} are allowed. Shorten the text."
    if bool in kinds:
        allowed = "true or false"
    elif int in kinds or float in kinds:
        allowed = _numbers(field, "whole number" if int in kinds else "number")
    elif str in kinds:
        allowed = "a text"
    else:
        allowed = "a list of texts"
    where = "".join(f"[{part}]" for part in error["loc"][1:] if isinstance(part, int))
    return f"{name}{where} is {shown(value)}; give {allowed}."


def _numbers(field: FieldInfo, kind: str) -> str:
    low, high = bounds(field)
    if high == math.inf:
        return f"a {kind}" if low == -math.inf else f"a {kind} of at least {low:g}"
    return f"a {kind} from {low:g} to {high:g}"
