"""One run in a process of its own, for its peak memory: `python -m benchmarks.one SIDE …`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.around import SIDES, Inputs
from benchmarks.measure import peak_bytes


def main(side: str, photo: str, outputs: str, kind: str) -> None:
    """Print a JSON line: bytes when all is imported and loaded, bytes at the peak, seconds."""
    run = SIDES[side](Inputs(Path(photo), Path(outputs)))
    ready = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        seconds = run([kind], Path(folder))
    print(json.dumps({"ready": ready, "peak": peak_bytes(), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
