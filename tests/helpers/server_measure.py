"""What a server's processes hold: memory, open files, threads, temporary files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.helpers.cog_server import CogServer


@dataclass(frozen=True)
class Measure:
    """The server at rest: bytes that only its processes hold, and counts."""

    server: int  # Cog's own process
    worker: int  # the predictor's process
    files: int
    threads: int
    temporary: int
    names: Counter[str]  # of the threads, without those of Cog's own pool, which come and go

    @classmethod
    def of(cls, server: CogServer) -> Measure:
        parent = psutil.Process(server.process.pid)
        processes = [parent, *parent.children(recursive=True)]
        return cls(
            server=parent.memory_full_info().uss,
            worker=sum(process.memory_full_info().uss for process in processes[1:]),
            files=sum(process.num_fds() for process in processes),
            threads=sum(process.num_threads() for process in processes),
            # Whole results stay for a minute, because Cog reads them after predict() returned.
            temporary=sum(
                path.is_file() and not path.parent.name.startswith("result-")
                for path in server.temporary.rglob("*")
            ),
            names=Counter(
                Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
                for process in processes
                for thread in process.threads()
            )
            - Counter({"tokio-rt-worker": 1000}),
        )

    def __str__(self) -> str:
        return (
            f"server {self.server / 1e6:.1f} MB, worker {self.worker / 1e6:.1f} MB, "
            f"{self.files} open files, {self.threads} threads, {self.temporary} temporary files"
        )


def growth_of(values: Sequence[int]) -> float:
    """How much a line through the values rises from the first to the last, as a part of it.

    Between two requests the worker's memory swings by as much as a leak would add.
    """
    if len(values) < 2:
        return 0.0
    slope, start = np.polyfit(range(len(values)), values, 1)
    return float(slope * (len(values) - 1) / start)
