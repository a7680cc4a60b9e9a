"""What follows when a worker dies: no image is lost, none is blamed for another."""

from __future__ import annotations

from pathlib import Path

from sam3_image.batch.items import Item
from sam3_image.batch.job import Manifest, Shard
from sam3_image.batch.marks import Leftover
from sam3_image.batch.schedule import LARGEST_PART, PART_SECONDS, Schedule

ITEMS = [Item(name) for name in "abcdefgh"]


def schedule(leftovers: list[Leftover] | None = None, workers: int = 1) -> Schedule:
    return Schedule(ITEMS, leftovers or [], workers, "s")


def names(shard: Shard | None) -> str:
    return "".join(item.uri for item in shard.items) if shard else ""


def left(*suspects: str, alone: bool = False) -> Leftover:
    return Leftover(Path("mark"), suspects, suspects, alone)


def rest(schedule: Schedule) -> list[str]:
    """What is handed out to one worker after another, none of which dies."""
    handed = []
    while shard := schedule.next(busy=0):
        handed.append(names(shard))
    return handed


def test_every_image_is_handed_out_once_under_names_of_its_own() -> None:
    plan = schedule()
    shards = []
    while shard := plan.next(busy=0):
        shards.append(shard)
        plan.finished(Manifest(len(shard.items), 0, 0, elapsed=2.0))
    assert "".join(map(names, shards)) == "abcdefgh"
    assert len({shard.name for shard in shards}) == len(shards)
    assert plan.empty


def test_a_part_is_some_seconds_of_work() -> None:
    plan = Schedule([Item(str(n)) for n in range(10_000)], [], 2, "s")
    plan.finished(Manifest(10, 0, 0, elapsed=5.0))
    shard = plan.next(busy=0)
    assert shard
    assert len(shard.items) == PART_SECONDS / 0.5
    for _ in range(20):
        plan.finished(Manifest(1000, 0, 0, elapsed=1.0))
    shard = plan.next(busy=0)
    assert shard
    assert len(shard.items) == LARGEST_PART


def test_who_was_not_in_hand_goes_on_and_who_was_waits_to_be_tried_alone() -> None:
    plan = schedule()
    shard = plan.next(busy=0)
    assert shard
    assert names(shard) == "abcd"
    plan.died(shard, left("b"))
    assert rest(plan) == ["efgh", "acd", "b"]


def test_a_worker_that_had_not_begun_blames_nobody() -> None:
    plan = schedule()
    shard = plan.next(busy=0)
    assert shard
    plan.died(shard, None)
    assert rest(plan) == ["efgh", "abcd"]
    assert not plan.given_up


def test_an_image_gets_two_attempts_alone_the_last_beside_nobody() -> None:
    plan = schedule()
    shard = plan.next(busy=0)
    assert shard
    plan.died(shard, left("b"))
    while len((shard := plan.next(busy=0)).items) > 1:  # type: ignore[union-attr]
        pass
    assert shard
    assert shard.alone
    assert names(shard) == "b"
    plan.died(shard, left("b", alone=True))
    assert plan.next(busy=1) is None
    shard = plan.next(busy=0)
    assert shard
    assert names(shard) == "b"
    plan.died(shard, left("b", alone=True))
    assert plan.empty
    assert [item.uri for item in plan.given_up] == ["b"]


def test_attempts_count_across_runs() -> None:
    assert rest(schedule([left("a", "b")]))[-2:] == ["a", "b"]
    once = schedule([left("a", "b"), left("a", alone=True)])
    assert rest(once)[-2:] == ["b", "a"]
    assert not once.given_up
    twice = schedule([left("a", alone=True), left("a", alone=True)])
    assert [item.uri for item in twice.given_up] == ["a"]
    assert "a" not in "".join(rest(twice))
