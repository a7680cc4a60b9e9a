"""The waiting line, the device thread and the ledger of memory, each by itself."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sam3_image.errors import MemoryLimitError
from sam3_image.serving.memory import MemoryBudget
from sam3_image.serving.scheduler import CanceledError, DeviceExecutor, HostPool, Job

SECONDS = 20


@pytest.fixture
def pool() -> Iterator[HostPool]:
    made = HostPool(threads=2)
    yield made
    made.close()


@pytest.fixture
def device() -> Iterator[DeviceExecutor]:
    made = DeviceExecutor(lambda: None)
    yield made
    made.close()


class Blocked:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, job: Job[Any]) -> str:
        self.began.set()
        assert self.go.wait(SECONDS)
        job.check_canceled()
        return "done"


# The waiting line


def test_first_come_first_served(pool: HostPool) -> None:
    blocked = [Blocked(), Blocked()]
    first = [pool.submit(work) for work in blocked]
    order: list[int] = []
    later = [pool.submit(lambda _, number=number: order.append(number)) for number in range(9)]
    time.sleep(0.2)
    blocked[0].go.set()  # one thread for all nine
    for job in later:
        job.result(SECONDS)
    assert order == list(range(9))
    blocked[1].go.set()
    assert [job.result(SECONDS) for job in first] == ["done", "done"]
    assert later[0].report.metrics["timing.queue"] >= 0.2
    assert pool.idle


def test_what_is_canceled_in_the_line_never_runs(pool: HostPool) -> None:
    blocked = [Blocked(), Blocked()]
    running = [pool.submit(work) for work in blocked]
    ran: list[bool] = []
    waiting = pool.submit(lambda _: ran.append(True))
    waiting.cancel()
    for work in blocked:
        work.go.set()
    for job in running:
        job.result(SECONDS)
    with pytest.raises(CanceledError):
        waiting.result(SECONDS)
    assert not ran
    assert pool.idle


def test_what_is_canceled_while_it_runs_ends_at_its_next_check(pool: HostPool) -> None:
    work = Blocked()
    job = pool.submit(work)
    assert work.began.wait(SECONDS)
    job.cancel()
    work.go.set()
    with pytest.raises(CanceledError):
        job.result(SECONDS)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration("x")])
def test_no_error_leaves_that_would_end_an_event_loop(pool: HostPool, error: BaseException) -> None:
    def fail(_: Job[None]) -> None:
        raise error

    async def wait() -> None:
        await pool.submit(fail)

    with pytest.raises(RuntimeError, match=type(error).__name__):
        asyncio.run(asyncio.wait_for(wait(), SECONDS))


def test_a_task_that_is_canceled_cancels_its_job(pool: HostPool) -> None:
    work = Blocked()
    jobs: list[Job[str]] = []

    async def wait() -> str:
        jobs.append(pool.submit(work))
        return await jobs[0]

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        while not work.began.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert jobs[0].canceled
    work.go.set()


def test_work_runs_in_the_context_of_its_caller(pool: HostPool) -> None:
    """By which Cog knows to whose log a line belongs."""
    name = contextvars.ContextVar("name", default="nobody")

    async def ask(number: int) -> str:
        name.set(f"caller {number}")
        return await pool.submit(lambda _: name.get())

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(ask(number) for number in range(8)))

    assert asyncio.run(ask_all()) == [f"caller {number}" for number in range(8)]


# The device thread


def test_requests_take_turns_on_the_device(pool: HostPool, device: DeviceExecutor) -> None:
    """Eight pieces of one request do not come before the one piece of another."""
    order: list[str] = []
    long_began, short_waits = threading.Event(), threading.Event()

    def piece(name: str) -> None:
        order.append(name)
        long_began.set()
        if name == "long":
            assert short_waits.wait(SECONDS)

    def long(_: Job[None]) -> None:
        for _ in range(8):
            device.run(lambda: piece("long"))

    def short(_: Job[None]) -> None:
        assert long_began.wait(SECONDS)
        future = device._executor.submit(piece, "short")
        short_waits.set()
        future.result(SECONDS)

    for job in (pool.submit(long), pool.submit(short)):
        job.result(SECONDS)
    assert order == ["long", "short"] + ["long"] * 7


def test_a_lack_of_memory_is_that_request_s_alone() -> None:
    forgotten: list[int] = []
    device = DeviceExecutor(lambda: forgotten.append(threading.get_ident()))
    with pytest.raises(MemoryLimitError, match="smaller image"):
        device.run(lambda: torch.empty(1 << 50))
    assert device.run(lambda: threading.get_ident()) == forgotten[0]  # on the device's own thread
    device.close()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=str,
)
@pytest.mark.parametrize("fits_at_last", [True, False])
def test_a_device_without_memory_is_emptied_and_asked_again(
    error: Exception, fits_at_last: bool
) -> None:
    """What the failed step had on the device is freed first, or there is nothing to give back."""
    alive: list[weakref.ref[np.ndarray]] = []
    left_at_forgetting: list[int] = []

    def step() -> str:
        kept = np.zeros(10)
        alive.append(weakref.ref(kept))
        if fits_at_last and len(alive) == 2:
            return "done"
        raise type(error)(*error.args)

    def forget() -> None:
        left_at_forgetting.append(sum(ref() is not None for ref in alive))

    device = DeviceExecutor(forget)
    if fits_at_last:
        assert device.run(step) == "done"
    else:
        with pytest.raises(MemoryLimitError, match="The device ran out of memory") as caught:
            device.run(step)
        assert caught.value.__context__ is caught.value.__cause__ is None
    device.close()
    assert left_at_forgetting == [0] * (1 if fits_at_last else 2)
    assert len(alive) == 2


@pytest.fixture
def _interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)  # Python's own
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_interval")
def test_a_busy_host_thread_does_not_hold_the_device_up() -> None:
    """Each operation leaves Python's lock; with Python's own interval it takes 5 ms to return."""
    device, stop = DeviceExecutor(lambda: None), threading.Event()
    c_library = ctypes.CDLL(None)

    def busy() -> None:
        while not stop.is_set():
            sum(range(1000))

    def step() -> float:
        start = time.perf_counter()
        for _ in range(200):
            c_library.usleep(5)  # stands for a launch: no lock, no processor
        return time.perf_counter() - start

    other = threading.Thread(target=busy)
    other.start()
    try:
        assert device.run(step) < 200 * 0.005 / 2
    finally:
        stop.set()
        other.join()
        device.close()


def test_work_on_the_device_may_ask_for_the_device(device: DeviceExecutor) -> None:
    assert device.run(lambda: device.run(lambda: 1)) == 1


def test_a_device_that_hangs_is_lost_and_comes_back() -> None:
    device, go = DeviceExecutor(lambda: None, limit=0.2), threading.Event()
    assert device.probe(lambda: True)
    thread = threading.Thread(target=lambda: device.run(lambda: go.wait(SECONDS)))
    thread.start()
    while not device.hangs:
        time.sleep(0.02)
    assert not device.probe(lambda: True)
    go.set()
    thread.join(SECONDS)
    assert device.probe(lambda: True)
    device.close()


# Memory


def claimed(ledger: MemoryBudget, pool: HostPool, needed: int, work: Blocked) -> Job[Any]:
    def take(job: Job[Any]) -> Any:
        with ledger.claim(job.check_canceled, job.report.waited) as claim:
            lack = claim.take(needed)
            return work(job) if lack is None else lack

    return pool.submit(take)


def test_memory_promised_to_one_request_is_not_promised_to_another(pool: HostPool) -> None:
    ledger = MemoryBudget(available=lambda: 1000)
    first, second = Blocked(), Blocked()
    one = claimed(ledger, pool, 600, first)
    assert first.began.wait(SECONDS)
    other = claimed(ledger, pool, 600, second)
    assert not second.began.wait(0.5)
    first.go.set()
    assert second.began.wait(SECONDS)
    second.go.set()
    assert (one.result(SECONDS), other.result(SECONDS)) == ("done", "done")
    assert other.report.metrics["timing.queue"] > 0.4


def test_what_can_never_fit_is_refused_at_once(pool: HostPool) -> None:
    ledger = MemoryBudget(available=lambda: 1000)
    assert claimed(ledger, pool, 1001, Blocked()).result(SECONDS) == 1000


def test_small_requests_pass_a_large_one_that_waits_for_memory(pool: HostPool) -> None:
    ledger = MemoryBudget(available=lambda: 1000)
    holder, large, small = Blocked(), Blocked(), Blocked()
    three = HostPool(threads=3)
    jobs = [claimed(ledger, three, 600, holder)]
    assert holder.began.wait(SECONDS)
    jobs += [claimed(ledger, three, 900, large), claimed(ledger, three, 300, small)]
    assert small.began.wait(SECONDS)
    assert not large.began.is_set()
    for work in (small, holder, large):
        work.go.set()
    assert [job.result(SECONDS) for job in jobs] == ["done"] * 3
    three.close()


def test_requests_that_need_more_while_they_hold_some_do_not_wait_forever() -> None:
    """Each has an image and wants a second one, for which there is room after the other's end."""
    ledger, pool, held = (
        MemoryBudget(available=lambda: 1000),
        HostPool(threads=2),
        threading.Barrier(2),
    )

    def work(job: Job[int | None]) -> int | None:
        with ledger.claim(job.check_canceled, job.report.waited) as claim:
            assert claim.take(400) is None
            held.wait(SECONDS)
            lack = claim.take(300)
            assert claim.bytes == 700
            return lack

    jobs = [pool.submit(work) for _ in range(2)]
    assert [job.result(SECONDS) for job in jobs] == [None, None]
    pool.close()


def test_a_request_that_waits_for_memory_can_be_canceled(pool: HostPool) -> None:
    ledger = MemoryBudget(available=lambda: 1000)
    first = Blocked()
    one = claimed(ledger, pool, 600, first)
    assert first.began.wait(SECONDS)
    other = claimed(ledger, pool, 600, Blocked())
    other.cancel()
    with pytest.raises(CanceledError):
        other.result(SECONDS)
    first.go.set()
    one.result(SECONDS)
