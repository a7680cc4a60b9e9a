"""The command line of `batch`: which inputs of a request make sense for many images."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam3_image.batch import export
from sam3_image.batch.arguments import Parser, add_input
from sam3_image.batch.reader import ImageReader, Item
from sam3_image.batch.storage import canonical
from sam3_image.decode import Limits
from sam3_image.errors import InputError, shown
from sam3_image.output import Output
from sam3_image.request import Request
from sam3_image.settings import Settings
from sam3_image.shipped import command

# Boxes, points and masks lie in one image, and so does what task='visual' asks about.
OF_ONE_IMAGE = (
    "boxes",
    "box_labels",
    "points",
    "point_labels",
    "mask_image",
    "multimask_output",
)
RAY_HERE = "local"


def inputs() -> dict[str, Any]:
    """The inputs of a request that a job takes, by name."""
    return {
        name: field
        for name, field in Request.inputs().items()
        if name not in OF_ONE_IMAGE and name not in Output.model_fields
    }


def check(given: Mapping[str, Any]) -> None:
    """Raise InputError for inputs that a job does not take or a request does not accept."""
    for name in given:
        if name in OF_ONE_IMAGE:
            raise InputError(
                f"{name} belongs to one image and cannot be given for many; a job takes "
                f"{', '.join(inputs())}."
            )
        if name in Output.model_fields:
            raise InputError(
                f"{name} says how one image's file looks; a job writes Parquet, and with --format "
                f"also one of {', '.join(export.NAMES[1:])}."
            )
    if given.get("task") == "visual":
        raise InputError(
            "task is 'visual', which picks an object of one image and cannot be given for many; "
            "give 'concept' or 'everything'."
        )
    Request.from_inputs(**given)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a run; `inputs` holds those of the request that were given.

    Raises InputError with one line.
    """
    parser = Parser(
        prog=command("batch"),
        description="Segment a folder, list or bucket of images into Parquet; run it again to go "
        f"on where it stopped. {command('batch')} export FOLDER --format NAME converts results.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder (recursive), glob, list (.txt, .csv, .tsv, .parquet), .tar, .parquet or "
        ".arrow with images, or an s3://, gs:// or https:// address",
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="of the results; s3:// and gs:// too"
    )
    parser.add_argument(
        "--column", metavar="NAME", help="of a table: what holds paths, addresses or images"
    )
    _add_format(parser)
    _add_how(parser)
    group = parser.add_argument_group("what to find, as in predict")
    for name, field in inputs().items():
        add_input(group, name, field)
    options = parser.parse_args(arguments)
    options.inputs = {
        name: options.__dict__.pop(name) for name in inputs() if name in options.__dict__
    }
    if "reference_image" in options.inputs:  # workers elsewhere do not see this machine's files
        options.inputs["reference_image"] = _content(options.inputs["reference_image"])
    for name in ("limit", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; give a number of at least 1.")
    check(options.inputs)
    return options


def parse_export(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of `batch export`; raises InputError with one line."""
    parser = Parser(
        prog=f"{command('batch')} export",
        description="Results of batch in another format, next to them.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="FOLDER", help="--out of the run")
    _add_format(parser, required=True)
    return parser.parse_args(arguments)


def _content(address: str) -> bytes:
    """Return the bytes of an image that belongs to the request; raises UserError."""
    found = ImageReader(Limits.of(Settings.from_environment(os.environ))).read(
        Item(canonical(address))
    )
    try:
        return found.read_bytes() if isinstance(found, Path) else found
    except OSError as error:
        raise InputError(
            f"reference_image {shown(address, 200)} cannot be read ({error.strerror}): check the "
            "name."
        ) from None


def _add_how(parser: argparse.ArgumentParser) -> None:
    """Add the options that change nothing in the results."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that hold the model; default: as fit"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const=RAY_HERE,
        metavar="ADDRESS",
        help="on a Ray cluster: auto, HOST:PORT, or nothing for one that this job starts",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only N images, from all over the source, and an estimate for all; their rows stay",
    )
    parser.add_argument(
        "--overlays", action="store_true", help="also a JPEG of each image with its masks"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit status 1 when an image has an error"
    )


def _add_format(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--format",
        choices=export.NAMES,
        required=required,
        default=export.PARQUET,
        help="write this as well: coco is one file _coco.json, the others have a file per image",
    )
