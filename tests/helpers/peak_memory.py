"""Child process of the tests: opens image files and prints what each cost, as JSON lines.

python -m tests.helpers.peak_memory [--room BYTES] FILE…

--room: the address space that may still be taken, so that a larger image finds no memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from sam3_image.decode import Limits, open_image
from sam3_image.errors import UserError


def status(key: str) -> int:
    """A figure of this process in bytes, e.g. VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--room", type=int)
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    if arguments.room is not None:
        limit = status("VmSize") + arguments.room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for path in arguments.files:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, started = status("VmRSS"), time.perf_counter()
        answer: dict[str, object] = {"name": path.name}
        try:
            image = open_image(path, Limits())
            answer["size"] = image.size
            del image
        except UserError as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        answer["seconds"] = time.perf_counter() - started
        answer["peak"] = status("VmHWM") - before
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
