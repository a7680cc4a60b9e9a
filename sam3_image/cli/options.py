"""The inputs of a request as options of a command, for typer."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo

from sam3_image.errors import bounds, choices, shown
from sam3_image.request import PARTS, Request

# The headings in the help, by the class that declares the inputs.
HEADINGS = {
    "Prompts": "What to find",
    "CropOptions": "Several looks at the image",
    "Selection": "Which instances",
    "Output": "The result",
    "DecodeOptions": "The image",
}


def takes_inputs(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every input of a request, instead of its `**inputs`.

    Inputs that were not given arrive as None.
    """
    own = [
        parameter
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.kind != inspect.Parameter.VAR_KEYWORD
    ]
    inputs = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotation(name, field, HEADINGS.get(part.__name__, part.__name__)),
        )
        for part in PARTS
        for name, field in part.model_fields.items()
    ]
    function.__signature__ = inspect.Signature([*own, *inputs])  # type: ignore[attr-defined]
    return function


def expanded(arguments: Sequence[str]) -> list[str]:
    """Arguments as typer reads them, from the ways in which docs and terminals write them.

    `--return_zip` becomes `--return-zip`; a switch gets a value, `--no-return-zip` becomes
    `--return-zip=false`; `--prompts cat dog` becomes `--prompts cat --prompts dog`.
    """
    switches, lists = _options(bool), _options(list[str])
    result: list[str] = []
    listing = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not re.match(r"--[a-z]", name):
            if listing and not argument.startswith("-") and result[-1] != listing:
                result.append(listing)
            result.append(argument)
            continue
        name = name.replace("_", "-")
        listing = name if name in lists and not equals else ""
        if name in switches and not equals:
            equals, value = "=", "true"
        elif f"--{name[5:]}" in switches and name.startswith("--no-") and not equals:
            name, equals, value = f"--{name[5:]}", "=", "false"
        result.append(name + equals + value)
    return result


def _options(kind: Any) -> set[str]:
    """The options whose inputs are of that type."""
    return {
        _option(name)
        for name, field in Request.inputs().items()
        if kind in (field.annotation, *get_args(field.annotation))
    }


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _annotation(name: str, field: FieldInfo, heading: str) -> Any:
    kinds = (field.annotation, *get_args(field.annotation))
    how: dict[str, Any] = {"help": _help(field), "rich_help_panel": heading}
    option = _option(name)
    if bool in kinds:
        how |= {"parser": _switch, "metavar": "true|false"}
        return Annotated[Any, typer.Option(option, **how)]
    if list[str] in kinds:
        return Annotated[list[str] | None, typer.Option(option, metavar="TEXT …", **how)]
    if int in kinds:
        how |= {"parser": _number(int, "whole number"), "metavar": "N"}
    elif float in kinds:
        how |= {"parser": _number(float, "number"), "metavar": "N"}
    else:
        # The request refuses other choices itself, with a sentence.
        how["metavar"] = "|".join(str(choice) for choice in choices(field)) or "TEXT"
    return Annotated[Any, typer.Option(option, **how)]


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("[", r"\[")  # brackets are markup in a help
    low, high = bounds(field)
    if high < math.inf:
        text += f"; {low:g} to {high:g}"
    elif low > -math.inf:
        text += f"; at least {low:g}"
    if field.default is None:
        return text
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"{text} (default: {default})"


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise typer.BadParameter(f"{shown(text)} is neither true nor false")
    return text.lower() == "true"


def _number(kind: type[int] | type[float], name: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise typer.BadParameter(f"{shown(text)} is not a {name}") from None

    return convert
