"""The command `sam3-image`: predict, serve, web, batch, download-weights, convert-weights.

`script/NAME` sets up a clone and calls it. Nothing heavy is imported before a command needs it.
"""

from sam3_image.cli.app import main

__all__ = ["main"]
