"""The predictor from a terminal, without Docker: `script/predict photo.jpg --prompt "person"`.

The options are the inputs of `predict()`, with their defaults and checks; `Parser` and `add_input`
make them, for this command and for `script/batch`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from pydantic.fields import FieldInfo
from tqdm import tqdm

from sam3_image.errors import InputError, UserError, choices, shown
from sam3_image.output import unwritable
from sam3_image.request import Request

# Beside the package in a clone; a package that was installed has no example.
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "shapes.png"
EXAMPLE_INPUTS = {
    "prompt": "red circle",
    "return_zip": False,
    "mask_color": "blue",
    "show_labels": True,
}
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one prediction and print the path of its result; returns the exit status."""
    try:
        given = vars(_parser().parse_args(arguments))
        image, output = given.pop("image"), given.pop("output")
        if image is None:
            image, given = _example(given)
        print(_predict(Path(image), Request.from_inputs(**_with_paths(given)), output))
    except UserError as error:
        print(f"predict: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the page of options before it."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message}; {self.prog} --help lists what is allowed.")


def _parser() -> Parser:
    parser = Parser(
        prog="script/predict",
        description="Segment an image. Without arguments: an example with the demo checkpoint.",
        allow_abbrev=False,
    )
    parser.add_argument("image", nargs="?", default=None, metavar="IMAGE", help="the image file")
    parser.add_argument(
        "--output", type=Path, default=None, metavar="PATH", help="result file; default: in out/"
    )
    for name, field in Request.inputs().items():
        add_input(parser, name, field)
    return parser


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


def _example(given: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The image and the inputs of a call without an image, with the demo checkpoint chosen."""
    from sam3_image.model import DEMO

    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise InputError(f"{names} came without an image; give one first: script/predict IMAGE ….")
    os.environ["SAM3_WEIGHTS"] = str(DEMO)
    _say(f"No image given: {EXAMPLE.name} with the prompt {shown(EXAMPLE_INPUTS['prompt'])} and")
    _say("the demo checkpoint, which knows drawn shapes only. For photographs fetch facebook/sam3")
    _say("with script/download-weights, then: script/predict photo.jpg --prompt person")
    return EXAMPLE, dict(EXAMPLE_INPUTS)


def _with_paths(given: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs with the reference image as the path that it names here."""
    reference = given.get("reference_image")
    return given if reference is None else {**given, "reference_image": Path(reference)}


def _predict(image: Path, request: Request, output: Path | None) -> Path:
    """Load the model, answer with its log on stderr, keep the result; returns its path."""
    with contextlib.redirect_stdout(sys.stderr):
        # Imported late: torch takes seconds, and neither --help nor a wrong option needs it.
        from sam3_image.decode import silence_libtiff
        from sam3_image.report import log_to_stdout
        from sam3_image.serving import Service
        from sam3_image.settings import Settings

        silence_libtiff()
        log_to_stdout()
        # Files of this machine are what a person at its terminal names.
        service = Service(Settings.from_environment(os.environ))
        result = service.run(image, request, _Bar()).path
        # Temporary files go with the service, so the result is copied while it lives.
        return _keep(result, output or Path("out") / f"{image.stem}-{result.name}")


class _Bar:
    """A bar of the tiles on stderr, where that is a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that so many tiles of so many are done."""
        self._bar = self._bar or tqdm(total=total, desc="Tiles", file=sys.stderr, disable=None)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def _keep(result: Path, target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(result, target)
    except OSError as error:
        raise unwritable(target, error) from None
    return target


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
