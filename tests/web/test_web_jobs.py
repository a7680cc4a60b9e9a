"""Jobs and uploaded files: what is kept, for how long, and how a job ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest

from sam3_image.errors import InputError
from sam3_image.output import RenderedFile
from sam3_image.web.jobs import Jobs, Outcome, WebJob
from sam3_image.web.store import Admission, BoundedStore, BusyError, GoneError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome(size: int = 1) -> Outcome:
    return (RenderedFile("mask_000.png", "image/png", b"x" * size),)


def done(size: int = 1) -> Callable[[], Awaitable[Outcome]]:
    async def work() -> Outcome:
        await asyncio.sleep(0)
        return outcome(size)

    return work


async def forever() -> Outcome:
    await asyncio.Event().wait()
    return outcome()


def test_a_store_is_bounded_in_count_and_bytes() -> None:
    store: BoundedStore[str] = BoundedStore("file", max_count=3, max_bytes=10)
    for name in "abcd":
        store.put(name, name, 2)
    assert list(store.values()) == ["d", "c", "b"]
    store.put("e", "e", 8)
    assert list(store.values()) == ["e", "d"]
    assert store.bytes == 10
    store.put("large", "large", 1000)  # alone it stays: it was accepted, so it can be used once
    assert list(store.values()) == ["large"]
    with pytest.raises(GoneError, match="No file 'a' is kept here"):
        store.get("a")


def test_what_nobody_fetches_goes_after_a_while() -> None:
    clock = Clock()
    store: BoundedStore[str] = BoundedStore("file", 10, max_seconds=60, clock=clock)
    store.put("a", "a", 5)
    clock.now = 50
    store.put("b", "b", 5)
    clock.now = 61
    assert list(store.values()) == ["b"]
    assert store.bytes == 5
    with pytest.raises(GoneError):
        store.get("a")


def test_a_job_succeeds_fails_or_is_canceled() -> None:
    async def refused() -> Outcome:
        raise InputError("prompt is blank")

    async def broken() -> Outcome:
        raise ZeroDivisionError("a secret of the inside")

    async def run() -> list[WebJob]:
        jobs = Jobs()
        started = [jobs.start("a", work)[0] for work in (done(), refused, broken, forever)]
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


def test_who_follows_a_job_sees_it_start_and_end() -> None:
    async def run() -> list[str]:
        seen: list[str] = []

        async def follow(job: WebJob) -> None:
            seen.append(job.status)
            await job.wait()
            seen.append(job.status)

        jobs = Jobs()
        (job,) = jobs.start("a", done(), follow=follow)
        await jobs.finish(5)
        job.cancel()  # too late: a finished job stays as it is
        return [*seen, job.status]

    assert asyncio.run(run()) == ["processing", "succeeded", "succeeded"]


def test_several_jobs_are_taken_together_or_not_at_all() -> None:
    async def run() -> None:
        jobs = Jobs(max_unfinished=3)
        first = jobs.start("a", forever, count=2)
        with pytest.raises(BusyError, match="2 jobs are waiting, and at most 3"):
            jobs.start("a", forever, count=2)
        assert sorted(job.id for job in jobs.of("a")) == sorted(job.id for job in first)
        await jobs.finish(0)
        assert [job.status for job in first] == ["canceled"] * 2

    asyncio.run(run())


def test_a_finished_job_lets_go_of_the_request_that_it_came_from() -> None:
    class Request:
        async def tell(self, job: WebJob) -> None:
            await job.wait()

    def started(jobs: Jobs) -> tuple[WebJob, weakref.ref[Request]]:
        request = Request()

        async def work() -> Outcome:
            return outcome(len(repr(request)))

        (job,) = jobs.start("a", work, follow=request.tell)
        return job, weakref.ref(request)

    async def run() -> bool:
        job, request = started(jobs := Jobs())
        await jobs.finish(5)
        await asyncio.sleep(0)
        gc.collect()
        assert jobs.get("a", job.id) is job
        return request() is None

    assert asyncio.run(run())


def test_waiting_jobs_are_bounded_in_number_and_bytes() -> None:
    async def run() -> None:
        jobs = Jobs(max_unfinished=2, max_bytes=100)
        (first,) = jobs.start("a", forever, held=60)
        with pytest.raises(BusyError, match="1 jobs are waiting"):
            jobs.start("a", forever, held=41)
        (second,) = jobs.start("b", forever, held=40)
        with pytest.raises(BusyError, match="2 jobs are waiting"):
            jobs.start("a", forever)
        first.cancel()
        (third,) = jobs.start("a", forever, held=60)
        assert jobs.of("a") == [third, first]
        assert jobs.get("b", second.id) is second
        with pytest.raises(GoneError):
            jobs.get("a", second.id)
        for job in (second, third):
            job.cancel()

    asyncio.run(run())


def test_results_that_are_over_the_bound_go_and_waiting_work_ends_with_them() -> None:
    clock = Clock()

    async def run() -> None:
        jobs = Jobs(max_bytes=100, max_seconds=60, clock=clock)
        (old,) = jobs.start("a", done(60))
        await old.wait()
        (new,) = jobs.start("a", done(60))
        await new.wait()
        assert jobs.of("a") == [new]
        (waiting,) = jobs.start("a", forever)
        clock.now = 61
        assert jobs.of("a") == []
        await waiting.wait(5)
        assert waiting.status == "canceled"

    asyncio.run(run())


def test_ids_cannot_be_guessed() -> None:
    async def run() -> set[str]:
        jobs = Jobs()
        return {jobs.start("a", done())[0].id for _ in range(50)}

    ids = asyncio.run(run())
    assert len(ids) == 50
    assert all(len(name) >= 24 and name.isalnum() for name in ids)


def test_admission_has_so_many_places() -> None:
    admission = Admission(2)
    with (
        admission.place(),
        admission.place(),
        pytest.raises(BusyError, match="2 requests are"),
        admission.place(),
    ):
        pass
    with pytest.raises(ZeroDivisionError), admission.place():
        raise ZeroDivisionError
    with admission.place(), admission.place():
        pass
