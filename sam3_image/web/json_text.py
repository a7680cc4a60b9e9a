"""JSON that somebody sent → Python values that can be computed with and sent back."""

from __future__ import annotations

import json
import math
from typing import Any

from sam3_image.errors import InputError, shown

MAX_DIGITS = 300  # a longer integer is no float, and no measure of an image


def parse_json(name: str, text: object) -> Any:
    """The value of a JSON text (str or UTF-8 bytes); raises InputError.

    name: what the text is called in messages.

    Python's own reader accepts what nothing else can hold: NaN, Infinity, numbers outside the
    range of a float, and halves of surrogate pairs, which cannot be encoded in an answer.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        if not isinstance(decoded, str):
            raise TypeError
        value = json.loads(
            decoded, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
        if "\\u" in decoded:
            json.dumps(value, ensure_ascii=False).encode()
        else:
            decoded.encode()
    except UnicodeEncodeError as error:
        half = shown(error.object[error.start : error.start + 1])
        raise InputError(
            f"{name} holds {half}, half of a surrogate pair, which is no character; send "
            "well-formed Unicode."
        ) from None
    except OverflowError as error:
        raise InputError(
            f"{name} holds the number {shown(str(error))}, which is out of range; send a finite "
            "number."
        ) from None
    except (TypeError, ValueError, RecursionError):
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        raise InputError(f"{name} is {shown(plain)}, which is not JSON; send JSON.") from None
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise OverflowError(text)
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise OverflowError(text)
    return value


def _constant(text: str) -> float:
    raise OverflowError(text)
