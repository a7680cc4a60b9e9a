"""Jobs and uploaded files: what is kept, for how long, and how a job ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest

from sam3_image.errors import InputError
from sam3_image.web.jobs import Job, Jobs, Outcome
from sam3_image.web.shelf import Busy, File, Gate, Gone, Shelf


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome(size: int = 1) -> Outcome:
    return Outcome((File("mask_000.png", "image/png", b"x" * size),))


def done(size: int = 1) -> Callable[[], Awaitable[Outcome]]:
    async def work() -> Outcome:
        return outcome(size)

    return work


async def forever() -> Outcome:
    await asyncio.Event().wait()
    return outcome()


def test_a_shelf_is_bounded_in_count_and_bytes() -> None:
    shelf: Shelf[str] = Shelf("file", max_count=3, max_bytes=10)
    for name in "abcd":
        shelf.put(name, name, 2)
    assert list(shelf.values()) == ["d", "c", "b"]
    shelf.put("e", "e", 8)
    assert list(shelf.values()) == ["e", "d"]
    assert shelf.bytes == 10
    shelf.put("large", "large", 1000)  # alone it stays: it was accepted, so it can be used once
    assert list(shelf.values()) == ["large"]
    with pytest.raises(Gone, match="No file 'a' is kept here"):
        shelf.get("a")


def test_what_nobody_fetches_goes_after_a_while() -> None:
    clock = Clock()
    shelf: Shelf[str] = Shelf("file", 10, max_seconds=60, clock=clock)
    shelf.put("a", "a", 5)
    clock.now = 50
    shelf.put("b", "b", 5)
    clock.now = 61
    assert list(shelf.values()) == ["b"]
    assert shelf.bytes == 5
    with pytest.raises(Gone):
        shelf.get("a")


def test_a_job_succeeds_fails_or_is_canceled() -> None:
    async def refused() -> Outcome:
        raise InputError("prompt is blank")

    async def broken() -> Outcome:
        raise ZeroDivisionError("a secret of the inside")

    async def run() -> list[Job]:
        jobs = Jobs()
        started = [jobs.start("a", work) for work in (done(), refused, broken, forever)]
        await asyncio.sleep(0)
        started[3].cancel()
        for job in started:
            await job.wait(5)
        return started

    good, refused_job, broken_job, canceled = asyncio.run(run())
    assert [job.status for job in (good, refused_job, broken_job, canceled)] == [
        *("succeeded", "failed", "failed", "canceled")
    ]
    assert good.outcome == outcome()
    assert str(refused_job.error) == "prompt is blank"
    assert "secret" not in str(broken_job.error)
    for job in (good, refused_job, broken_job, canceled):
        assert job.created <= (job.started or 0) <= (job.completed or 0)


def test_a_job_tells_each_change_once() -> None:
    async def run() -> list[str]:
        told: list[str] = []
        job = Jobs().start("a", done(), told=lambda job: told.append(job.status))
        await job.wait()
        job.cancel()  # too late: a finished job stays as it is
        return told

    assert asyncio.run(run()) == ["processing", "succeeded"]


def test_a_finished_job_lets_go_of_the_request_that_it_came_from() -> None:
    class Request:
        def tell(self, _: Job) -> None:
            pass

    def started(jobs: Jobs) -> tuple[Job, weakref.ref[Request]]:
        request = Request()

        async def work() -> Outcome:
            return outcome(len(repr(request)))

        return jobs.start("a", work, told=request.tell), weakref.ref(request)

    async def run() -> bool:
        job, request = started(jobs := Jobs())
        await job.wait()
        gc.collect()
        assert jobs.get("a", job.id) is job
        return request() is None

    assert asyncio.run(run())


def test_waiting_jobs_are_bounded_in_number_and_bytes() -> None:
    async def run() -> None:
        jobs = Jobs(max_unfinished=2, max_bytes=100)
        first = jobs.start("a", forever, held=60)
        with pytest.raises(Busy, match="1 jobs are waiting"):
            jobs.start("a", forever, held=41)
        second = jobs.start("b", forever, held=40)
        with pytest.raises(Busy, match="2 jobs are waiting"):
            jobs.start("a", forever)
        first.cancel()
        third = jobs.start("a", forever, held=60)
        assert jobs.of("a") == [third, first]
        assert jobs.get("b", second.id) is second
        with pytest.raises(Gone):
            jobs.get("a", second.id)
        for job in (second, third):
            job.cancel()

    asyncio.run(run())


def test_results_that_are_over_the_bound_go_and_waiting_work_ends_with_them() -> None:
    clock = Clock()

    async def run() -> None:
        jobs = Jobs(max_bytes=100, max_seconds=60, clock=clock)
        old = jobs.start("a", done(60))
        await old.wait()
        new = jobs.start("a", done(60))
        await new.wait()
        assert jobs.of("a") == [new]
        waiting = jobs.start("a", forever)
        clock.now = 61
        assert jobs.of("a") == []
        await waiting.wait(5)
        assert waiting.status == "canceled"

    asyncio.run(run())


def test_ids_cannot_be_guessed() -> None:
    async def run() -> set[str]:
        jobs = Jobs()
        return {jobs.start("a", done()).id for _ in range(50)}

    ids = asyncio.run(run())
    assert len(ids) == 50
    assert all(len(name) >= 24 and name.isalnum() for name in ids)


def test_a_gate_has_so_many_places() -> None:
    gate = Gate(2)
    with gate.place(), gate.place(), pytest.raises(Busy, match="2 requests are"), gate.place():
        pass
    with pytest.raises(ZeroDivisionError), gate.place():
        raise ZeroDivisionError
    with gate.place(), gate.place():
        pass
