"""`sam3-image predict`: images named on the command line → one result file each."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from tqdm import tqdm

from sam3_image.decode import Limits, read_input, silence_libtiff
from sam3_image.errors import ImageError, InputError, UserError, shown
from sam3_image.instances import ENDINGS, output_for
from sam3_image.output import Output, unwritable
from sam3_image.report import Report, log_to_stdout
from sam3_image.request import Request
from sam3_image.settings import Settings
from sam3_image.shipped import DEMO_NAME, EXAMPLE, command

if TYPE_CHECKING:
    from sam3_image.serving import Service

EXAMPLE_INPUTS = {
    "prompt": "red circle",
    "return_zip": False,
    "mask_color": "blue",
    "show_labels": True,
}
OUTPUT_FOLDER = Path("out")
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class ImageArgument:
    """An image as it was named. stem: what its result is called after."""

    text: str
    stem: str

    @property
    def is_address(self) -> bool:
        """Whether it has to be fetched."""
        return re.match(r"https?://", self.text, re.IGNORECASE) is not None

    def read(self, settings: Settings) -> Path | bytes:
        """What the decoder takes; raises ImageError."""
        if self.text == STANDARD_INPUT:
            return sys.stdin.buffer.read()
        data = read_input(self.text, Limits.of(settings))
        assert isinstance(data, Path | bytes)
        return data


def predict_files(images: Sequence[str], output: Path | None, inputs: Mapping[str, Any]) -> int:
    """Segment images with one start of the model, and print the path of each result.

    images: paths, patterns, http(s) addresses or "-"; none for the example with the demo weights.
    output: a file, or a folder; None for `out/`. inputs: those of `predict()` that were given.

    Returns how many images could not be answered; a line on stderr says why. Raises UserError for
    what can be refused before the model is loaded, and where there is one image alone.
    """
    settings = Settings.from_environment(os.environ)
    if not images:
        images, inputs = _example(inputs)
        settings = replace(settings, weights=DEMO_NAME)
    named = _arguments(images)
    target = OutputTarget.of(output, named)
    request = _request(inputs, target, settings)
    failed = 0
    with contextlib.redirect_stdout(sys.stderr):
        # Imported late: torch takes seconds, and neither --help nor a wrong option needs it.
        from sam3_image.serving import Service

        silence_libtiff()
        log_to_stdout()
        service = Service(settings)
    with contextlib.closing(service):
        for image in named:
            try:
                path = _answer(service, image, request, target, settings)
            except UserError as error:
                if len(named) == 1:
                    raise
                print(f"predict: {image.text}: {error}", file=sys.stderr)
                failed += 1
            else:
                print(path, flush=True)
    return failed


def _answer(
    service: Service,
    image: ImageArgument,
    request: Request,
    target: OutputTarget,
    settings: Settings,
) -> Path:
    with contextlib.redirect_stdout(sys.stderr):
        report = Report(progress=_Bar())
        rendered = service.submit_rendered(image.read(settings), request, report).result()
    path = target.path(image, rendered.name)
    _write(path, rendered.data)
    return path


def _example(inputs: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The image and the inputs of a call without an image."""
    if inputs:
        names = ", ".join("--" + name.replace("_", "-") for name in inputs)
        raise InputError(
            f"{names} came without an image; give one first: {command('predict')} IMAGE …."
        )
    for line in (
        f"No image given: {EXAMPLE.name} with the prompt {shown(EXAMPLE_INPUTS['prompt'])} and",
        "the demo checkpoint, which knows drawn shapes only. For photographs fetch facebook/sam3",
        f"with {command('download-weights')}, then: {command('predict')} photo.jpg --prompt person",
    ):
        print(line, file=sys.stderr)
    return [str(EXAMPLE)], dict(EXAMPLE_INPUTS)


def _arguments(texts: Sequence[str]) -> list[ImageArgument]:
    """The images that are meant, each with a stem of its own; raises InputError."""
    found: list[ImageArgument] = []
    taken: set[str] = set()
    for text in (match for named in texts for match in _matching(named)):
        argument = ImageArgument(text, _stem(text))
        number = 1
        while argument.stem in taken:
            number += 1
            argument = ImageArgument(text, f"{_stem(text)}-{number}")
        taken.add(argument.stem)
        found.append(argument)
    if [argument.text for argument in found].count(STANDARD_INPUT) > 1:
        raise InputError("- was given twice; standard input holds one image.")
    return found


def _matching(text: str) -> list[str]:
    """The files that a pattern means, or what was named itself; raises ImageError."""
    path = Path(text)
    if text == STANDARD_INPUT or ImageArgument(text, "").is_address:
        return [text]
    if path.is_dir():
        raise ImageError(
            f"{text} is a folder; name its images ('{path / '*.jpg'}'), or give it to "
            f"{command('batch')}."
        )
    if path.exists():
        return [text]
    if glob.has_magic(text):
        files = sorted(one for one in glob.glob(text, recursive=True) if Path(one).is_file())
        if files:
            return files
        raise ImageError(f"No file matches {shown(text, 200)}; check the pattern and the folder.")
    raise ImageError(f"There is no file {shown(text, 200)}; check the name and the folder.")


def _stem(text: str) -> str:
    if text == STANDARD_INPUT:
        return "stdin"
    if ImageArgument(text, "").is_address:
        name = PurePosixPath(urlsplit(text).path).stem
        return re.sub(r"[^\w.-]", "_", name)[:100].lstrip(".") or "image"
    return Path(text).stem


@dataclass(frozen=True)
class OutputTarget:
    """Where results go: the file, or where that is None the folder."""

    file: Path | None
    folder: Path

    @classmethod
    def of(cls, output: Path | None, images: Sequence[ImageArgument]) -> OutputTarget:
        """What `--output` means for these images; raises InputError."""
        if output is None:
            return cls(None, OUTPUT_FOLDER)
        several = len(images) > 1
        if several and output.suffix.lower() in ENDINGS and not output.is_dir():
            raise InputError(
                f"--output is {shown(str(output))}, one file, and there are {len(images)} images; "
                "name a folder."
            )
        if several or output.is_dir():
            return cls(None, output)
        for image in images:
            if output.exists() and Path(image.text).exists() and output.samefile(image.text):
                raise InputError(
                    f"--output is {shown(str(output))}, the image itself; name another file."
                )
        return cls(output, output.parent)

    def path(self, image: ImageArgument, name: str) -> Path:
        """The path of the result of an image, which is called `name` by itself."""
        return self.file or self.folder / f"{image.stem}-{name}"


def _request(inputs: Mapping[str, Any], target: OutputTarget, settings: Settings) -> Request:
    """The checked request; the ending of the file says what the options do not."""
    given = dict(inputs)
    for name in ("reference_image", "mask_image"):
        value = given.get(name)
        if isinstance(value, str) and value.startswith("{"):  # run lengths, which only masks have
            given[name] = _run_lengths(name, value)
        elif value is not None:
            (text,) = _matching(str(value))[:1]
            given[name] = ImageArgument(text, "").read(settings)
    if target.file is None:
        return Request.from_inputs(**given)
    output = {name: given.pop(name) for name in Output.model_fields if name in given}
    return replace(Request.from_inputs(**given), output=output_for(target.file, output))


def _run_lengths(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{name} is {shown(text)}, which is not valid JSON ({error}).") from None


class _Bar:
    """A bar of the tiles or points on stderr, where that is a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that so many tiles of so many are done."""
        self._bar = self._bar or tqdm(total=total, desc="Looks", file=sys.stderr, disable=None)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def _write(target: Path, data: bytes) -> None:
    """Write a file, which replaces an older one once it is complete; raises OutputError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sam3-image-", dir=target.parent) as folder:
            made = Path(folder, target.name)
            made.write_bytes(data)
            made.replace(target)
    except OSError as error:
        raise unwritable(target, error) from None
