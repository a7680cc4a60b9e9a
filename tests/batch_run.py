"""A job with an engine for tests, in a process that may be killed.

    python -m tests.batch_run SOURCE OUT [--engine Frail] [--ray ADDRESS] [--workers 2]

Prints one JSON: what was done.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq

from sam3_image.batch.driver import drive
from sam3_image.batch.folder import Folder
from sam3_image.batch.job import Job, digest
from sam3_image.batch.local import LocalPool
from sam3_image.batch.pool import Pool
from sam3_image.batch.sources import Source
from tests import batch_engines
from tests.conftest import DEMO


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", default="Frail")
    parser.add_argument("--ray")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    metadata = {"checkpoint": {"digest": digest(DEMO)}}
    source = Source.open(options.source)
    with Folder(options.out).driven() as folder:
        done = folder.done(metadata)
        missing = [item for item in source.items if item.uri not in done.uris]
        job = Job(
            folder=folder,
            inputs={},
            environment={"SAM3_WEIGHTS": str(DEMO), "SAM3_DEVICE": "cpu"},
            metadata=metadata,
            root=source.root(),
            threads=1,
            engine=getattr(batch_engines, options.engine),
        )
        pool: Pool
        if options.ray:
            from sam3_image.batch.ray_executor import RayPool

            pool = RayPool(job, options.ray, options.workers)
        else:
            pool = LocalPool(job, ["cpu"] * options.workers)
        totals = drive(job, missing, pool, lambda _: None)
    print(json.dumps({"skipped": len(done.uris), **dataclasses.asdict(totals)}))


def rows(out: Path) -> dict[str, dict[str, object]]:
    """What a later reader finds, by address; each image must be there once."""
    found = pq.read_table(out).to_pylist()
    by_uri = {row["uri"]: row for row in found}
    assert len(by_uri) == len(found), "an image has two rows"
    return by_uri


if __name__ == "__main__":
    main()
