"""Webhooks of the replicate client: a prediction's changes, posted in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from pydantic import BaseModel

from sam3_image.report import LOG
from sam3_image.web.fetch import Fetcher, FetchError
from sam3_image.web.jobs import WebJob

START, COMPLETED = "start", "completed"
EVENTS = (START, COMPLETED)
TRIES = 3
PAUSE_SECONDS = 1.0


async def notify(
    fetcher: Fetcher,
    url: str,
    events: Collection[str],
    describe: Callable[[WebJob], BaseModel],
    job: WebJob,
) -> None:
    """Post to `url` that `job` has started and that it is completed.

    events: which of `EVENTS` are wanted. describe: makes the body. The start is given up when the
    job is finished before it could be posted, so that it never arrives after the end.
    """
    if START in events:
        body = describe(job).model_dump_json().encode()
        await _post(fetcher, url, body, wanted=lambda attempt: attempt == 1 or not job.finished)
    await job.wait()
    if COMPLETED in events:
        body = describe(job).model_dump_json().encode()
        await _post(fetcher, url, body, wanted=lambda _: True)


async def _post(fetcher: Fetcher, url: str, body: bytes, wanted: Callable[[int], bool]) -> None:
    for attempt in range(1, TRIES + 1):
        if not wanted(attempt):
            return
        try:
            await fetcher.post(url, body)
        except FetchError as error:
            LOG.info("webhook, attempt %d of %d: %s", attempt, TRIES, error)
            await asyncio.sleep(attempt * PAUSE_SECONDS)
        else:
            return
