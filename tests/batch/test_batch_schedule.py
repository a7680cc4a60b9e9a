"""What follows when a worker dies: no image is lost, none is blamed for another."""

from __future__ import annotations

from collections.abc import Callable

from sam3_image.batch.job import Manifest, Shard
from sam3_image.batch.reader import Item
from sam3_image.batch.results import Attempts
from sam3_image.batch.schedule import LARGEST_PART, PART_SECONDS, Schedule

ITEMS = [Item(name) for name in "abcdefgh"]


def schedule(attempts: Attempts | None = None, workers: int = 1) -> Schedule:
    return Schedule(ITEMS, attempts or Attempts(), workers)


def names(shard: Shard | None) -> str:
    return "".join(shard.uris) if shard else ""


def run(plan: Schedule, deadly: Callable[[Shard], bool] = lambda _: False) -> list[str]:
    """What is handed out to one worker after another; those that get what is deadly die."""
    handed = []
    while shard := plan.next(busy=0):
        handed.append(names(shard))
        if deadly(shard):
            plan.died(shard)
        else:
            plan.finished(Manifest("part", len(shard.items), 0, 0, elapsed=2.0 * len(shard.items)))
    assert plan.empty
    return handed


def test_every_image_is_handed_out_once() -> None:
    assert "".join(run(schedule())) == "abcdefgh"


def test_a_part_is_some_seconds_of_work() -> None:
    plan = Schedule([Item(str(n)) for n in range(10_000)], Attempts(), 2)
    plan.finished(Manifest("", 10, 0, 0, elapsed=5.0))
    shard = plan.next(busy=0)
    assert shard
    assert len(shard.items) == PART_SECONDS / 0.5
    for _ in range(20):
        plan.finished(Manifest("", 1000, 0, 0, elapsed=1.0))
    shard = plan.next(busy=0)
    assert shard
    assert len(shard.items) == LARGEST_PART


def test_a_shard_whose_worker_died_is_halved_until_the_guilty_image_is_alone() -> None:
    plan = schedule()
    handed = run(plan, lambda shard: "c" in names(shard))
    assert handed[0] == "abcd"
    assert handed.count("c") == 2
    assert [item.uri for item in plan.given_up] == ["c"]
    finished = [part for part in handed if "c" not in part]
    assert sorted("".join(finished)) == list("abdefgh")


def test_two_guilty_images_in_one_shard() -> None:
    plan = schedule()
    run(plan, lambda shard: bool({"a", "d"} & set(names(shard))))
    assert sorted(item.uri for item in plan.given_up) == ["a", "d"]


def test_the_last_attempt_is_made_while_no_other_worker_is_busy() -> None:
    plan = schedule(Attempts([["b"]]))
    rest = []
    while shard := plan.next(busy=1):
        rest.append(names(shard))
    assert "b" not in "".join(rest)
    shard = plan.next(busy=0)
    assert shard == Shard((Item("b"),), alone=True)


def test_one_death_blames_nobody() -> None:
    plan = schedule()
    deaths = iter([True])
    run(plan, lambda _: next(deaths, False))
    assert not plan.given_up


def test_attempts_count_across_runs() -> None:
    assert run(schedule(Attempts([["a", "b"]])))[-2:] == ["a", "b"]
    once = Attempts([["a"]])
    assert run(schedule(once))[-1] == "a"
    assert once.deaths == {"a": 1}
    twice = schedule(Attempts([["a"]], {"a": 1}))
    assert [item.uri for item in twice.given_up] == ["a"]
    assert "a" not in "".join(run(twice))
    again = schedule(Attempts([], {"a": 1, "gone": 2}))
    assert run(again)[-1] == "a"
    assert not again.given_up


def test_what_memory_did_not_suffice_for_comes_last_and_alone() -> None:
    plan = schedule()
    shard = plan.next(busy=0)
    assert shard
    plan.finished(Manifest("part", 3, 0, 0, deferred=(shard.items[1],)))
    handed = run(plan)
    assert handed[-1] == "b"
