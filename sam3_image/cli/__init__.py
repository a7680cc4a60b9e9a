"""The command `sam3-image`: predict, serve, web, batch, download-weights, convert-weights.

`script/NAME` sets up a clone and calls it. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sam3_image.shipped import missing_module

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Whatever is wrong is one line on stderr."""
    try:
        from sam3_image.cli.app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        advice = missing_module(error.name)
        if advice is None:
            raise
        print(f"sam3-image: {advice}", file=sys.stderr)
        return USAGE_ERROR
