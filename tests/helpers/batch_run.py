"""A job with an engine for tests, in a process that may be killed.

    python -m tests.helpers.batch_run SOURCE OUT [--engine Frail] [--ray ADDRESS] [--workers 2]

Prints one JSON: what was done.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pyarrow.dataset as pads

from sam3_image.batch import results
from sam3_image.batch.command import _missing, _scratch
from sam3_image.batch.driver import drive
from sam3_image.batch.job import BatchJob, digest
from sam3_image.batch.pool import LocalPool, WorkerPool
from sam3_image.batch.results import Stock
from sam3_image.batch.sources import ImageSource
from sam3_image.batch.storage import ResultFolder
from sam3_image.errors import UserError
from tests.conftest import DEMO
from tests.helpers import batch_engines


def main() -> int:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--engine", default="Frail")
    parser.add_argument("--ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--beat", type=float, default=results.BEAT)
    options = parser.parse_args()
    results.BEAT = options.beat  # a test waits less for a run that was killed
    try:
        print(json.dumps(run(options)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> dict[str, object]:
    metadata = {"checkpoint": {"digest": digest(DEMO)}}
    source = ImageSource(options.source)
    folder = ResultFolder(options.out)
    with results.locked(folder, lambda _: None) as lock, _scratch(folder) as scratch:
        stock = results.take_stock(folder, metadata, Stock())
        skipped = len(stock.prompts)
        job = BatchJob(
            folder=folder,
            inputs={},
            environment={"SAM3_WEIGHTS": str(DEMO), "SAM3_DEVICE": "cpu"},
            metadata=metadata,
            scratch=scratch,
            root=source.root(),
            probes=tuple(source.probes()),
            threads=1,
            engine=getattr(batch_engines, options.engine),
        )
        pool: WorkerPool
        if options.ray:
            from sam3_image.batch.ray_pool import RayPool

            pool = RayPool(job, options.ray, options.workers)
        else:
            pool = LocalPool(job, ["cpu"] * options.workers)
        totals = drive(job, _missing(source, stock), pool, lock, lambda _: None)
        results.take_stock(folder, metadata, stock)
    return {"skipped": skipped, **vars(totals), "parts": len(totals.parts)}


def rows(out: Path | str) -> dict[str, dict[str, object]]:
    """What a later reader finds, by address; each image must be there once."""
    dataset = pads.dataset(str(out), format="parquet") if "://" not in str(out) else _remote(out)
    found = dataset.to_table().to_pylist()
    by_uri = {row["uri"]: row for row in found}
    assert len(by_uri) == len(found), "an image has two rows"
    assert len({row["id"] for row in found}) == len(found), "two images have one number"
    return by_uri


def _remote(out: Path | str) -> pads.Dataset:
    folder = ResultFolder(str(out))
    system, path = folder._system()
    return pads.dataset([f"{path}/{name}" for name in results.parts(folder)], filesystem=system)


if __name__ == "__main__":
    sys.exit(main())
