"""The model card's second table: a checkpoint's figures on pictures by another hand.

    python -m tools.second_figures weights/demo [--processes 2]

The pictures are `random_picture(0)` to `random_picture(199)`, which share no code with the
training; the questions come from the part's first number, so they do not depend on how many
processes ask them.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from tests.helpers.second_scenes import random_picture
from tools.demo_checkpoint.evaluate import evaluate, in_parts
from tools.demo_checkpoint.halves import Halves
from tools.demo_checkpoint.report import Report, table

PICTURES = 200
PART = 25  # pictures that one process takes at a time


def part_figures(folder: Path, part: range) -> Report:
    """Ask about the pictures of one part, with one thread."""
    torch.set_num_threads(1)
    pictures = [random_picture(number) for number in part]
    return evaluate(Halves.load(folder), pictures, seed=(0, part.start))


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint, for example weights/demo")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    parts = [range(first, first + PART) for first in range(0, PICTURES, PART)]
    report = in_parts(partial(part_figures, options.folder), parts, options.processes)
    print(f"{options.folder}, float32, {PICTURES} pictures by another hand\n")
    print(table(report))


if __name__ == "__main__":
    main()
