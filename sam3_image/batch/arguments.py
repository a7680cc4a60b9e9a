"""Options of `batch` for argparse: the inputs of a request, and errors in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, get_args

from pydantic.fields import FieldInfo

from sam3_image.errors import InputError, choices, shown


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the page of options before it."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message}; {self.prog} --help lists what is allowed.")


def add_input(parser: argparse._ActionsContainer, name: str, field: FieldInfo) -> None:
    """Add the input `name` of a request as an option.

    Only what was given ends up in the namespace; the defaults are those of the request.
    """
    parser.add_argument(
        "--" + name.replace("_", "-"),
        dest=name,
        default=argparse.SUPPRESS,
        help=_help(field),
        **_argument(field),
    )


def _argument(field: FieldInfo) -> dict[str, Any]:
    kinds = (field.annotation, *get_args(field.annotation))
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    if int in kinds:
        return {"type": _number(int, "whole number"), "metavar": "N"}
    if float in kinds:
        return {"type": _number(float, "number"), "metavar": "N"}
    if list[str] in kinds:
        return {"nargs": "+", "metavar": "TEXT"}
    allowed = choices(field)
    return {"choices": allowed} if allowed else {"metavar": "TEXT"}


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    if field.default is None:
        return text
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"{text} (default: {default})"


def _number(kind: type[int] | type[float], name: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a {name}") from None

    return convert
