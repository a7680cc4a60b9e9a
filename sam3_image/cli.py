"""The predictor from a terminal, without Docker: `script/predict photo.jpg --prompt "person"`.

The options are the inputs of `predict()`, read off `predict.py` and checked as Cog checks them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from cog_schema.signature import NO_DEFAULT, DeclaredInput, read_signature
from sam3_image.errors import InputError, OutputError, UserError, shown

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "shapes.png"
EXAMPLE_INPUTS = {
    "prompt": "red circle",
    "return_zip": False,
    "mask_color": "blue",
    "show_labels": True,
}
USAGE_ERROR = 2

TYPES: dict[str, type] = {"str": str, "int": int, "float": float}
KINDS = {"int": "whole number", "float": "number"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one prediction and print the path of its result; returns the exit status."""
    inputs = read_signature((ROOT / "predict.py").read_text(encoding="utf-8")).inputs
    try:
        given = vars(_parser(inputs).parse_args(arguments))
        image, output = given.pop("image"), given.pop("output")
        if image is None:
            image, given = _example(given)
        values = complete(inputs, given)
        print(_predict(Path(image), values, output))
    except UserError as error:
        print(f"predict: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def complete(inputs: Sequence[DeclaredInput], given: dict[str, Any]) -> dict[str, Any]:
    """All inputs but the image: those given, checked against their limits, else the defaults.

    Cog does both before it calls `predict()`; called directly, nothing would. Raises InputError.
    """
    values = {}
    for item in inputs:
        if item.name != "image":
            values[item.name] = given.get(item.name, item.default)
            if item.name in given:
                _check(item, given[item.name])
    return values


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the page of options before it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; script/predict --help lists what is allowed")


def _parser(inputs: Sequence[DeclaredInput]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="script/predict",
        description="Segment an image. Without arguments: an example with the demo checkpoint.",
        # Only what was given ends up in the namespace; the defaults are those of predict().
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("image", nargs="?", default=None, metavar="IMAGE", help="the image file")
    parser.add_argument(
        "--output", type=Path, default=None, metavar="PATH", help="result file; default: in out/"
    )
    for item in inputs:
        if item.name == "image":
            continue
        options: dict[str, Any] = {"help": _help(item)}
        if item.kind == "bool":
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _converter(item)
            options["metavar"] = "TEXT" if item.kind == "str" else "N"
            if item.choices:
                options["choices"], options["metavar"] = item.choices, None
            if item.repeated:
                options["nargs"] = "+"
        parser.add_argument("--" + item.name.replace("_", "-"), dest=item.name, **options)
    return parser


def _help(item: DeclaredInput) -> str:
    text = (item.description or "").replace("%", "%%")
    if item.default is NO_DEFAULT or item.default is None:
        return text
    default = str(item.default).lower() if item.kind == "bool" else item.default
    return f"{text} (default: {default})"


def _converter(item: DeclaredInput) -> Any:
    def convert(text: str) -> Any:
        try:
            return TYPES[item.kind](text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{shown(text)} is no {KINDS[item.kind]}") from None

    return convert


def _check(item: DeclaredInput, value: Any) -> None:
    limits = item.limits
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = limits.get("ge", -math.inf), limits.get("le", math.inf)
        if not low <= value <= high:  # so written, NaN is refused too
            raise InputError(f"{item.name} is {value}; choose a number {_range(low, high)}")
    if isinstance(value, str):
        low, high = limits.get("min_length", 0), limits.get("max_length", math.inf)
        if not low <= len(value) <= high:
            raise InputError(
                f"{item.name} has {len(value)} characters; choose a number of them "
                f"{_range(low, high)}"
            )
        if "regex" in limits and not re.search(limits["regex"], value):
            raise InputError(f"{item.name} is {shown(value)}; it must match {limits['regex']}")


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f"of at least {low}"
    return f"of at most {high}" if low == -math.inf else f"from {low} to {high}"


def _example(given: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The image and the inputs of a call without an image; picks the demo checkpoint."""
    from sam3_image.model import DEMO

    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise InputError(f"{names} came without an image; give one first: script/predict IMAGE …")
    os.environ["SAM3_WEIGHTS"] = str(DEMO)
    _say(f"No image given: {EXAMPLE.name} with the prompt {shown(EXAMPLE_INPUTS['prompt'])} and")
    _say("the demo checkpoint, which knows drawn shapes only. For photographs fetch facebook/sam3")
    _say("with script/download-weights, then: script/predict photo.jpg --prompt person")
    return EXAMPLE, dict(EXAMPLE_INPUTS)


def _predict(image: Path, values: dict[str, Any], output: Path | None) -> Path:
    """Load the model, run `predict()` with its log on stderr, keep the result; returns its path."""
    with contextlib.redirect_stdout(sys.stderr):
        # Imported late: torch takes seconds, and neither --help nor a wrong option needs it.
        from predict import Predictor
        from sam3_image.serving import Service, Settings

        predictor = Predictor()
        # As in setup(), but files of this machine are what a person at its terminal names.
        settings = Settings.from_environment(os.environ)
        predictor.service = Service(settings, downloads_only=False)
        result = Path(predictor.predict(image=image, **values))
        # Temporary files go with the service, so the result is copied while it lives.
        return _keep(result, output or Path("out") / f"{image.stem}-{result.name}")


def _keep(result: Path, target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(result, target)
    except OSError as error:
        raise OutputError(
            f"the result cannot be written to {shown(str(target))}: {error.strerror}; choose "
            "another file with --output"
        ) from None
    return target


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
