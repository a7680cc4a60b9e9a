"""Which images go into the next shard, and what follows when a worker dies.

An image that was in hand when its process died is a suspect. Suspects wait until everything else is
done; then each goes into a shard of its own. One that dies alone is tried once more, while no other
worker is at work (so that nobody else's hunger for memory is taken for its fault), and then it gets
an error row. Those attempts are read off the marks, so that they count across runs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from sam3_image.batch.items import Item
from sam3_image.batch.job import Manifest, Shard
from sam3_image.batch.marks import Leftover

ATTEMPTS = 2  # alone, before an image is given up
PART_SECONDS = 15.0  # of work in one part: what a death costs at most, and how often bars move
SMALLEST_SECONDS = 2.0  # parts shrink towards the end, so that no worker is left alone with one
LARGEST_PART = 128  # images
FIRST_PART = 4  # images, while nothing is known of their time


class Schedule:
    """Hands out shards; `given_up` collects the images that have used up their attempts."""

    def __init__(
        self, items: Sequence[Item], leftovers: Iterable[Leftover], workers: int, session: str
    ) -> None:
        """Schedule `items`; leftovers: marks of dead processes, from this run or another."""
        self._workers = workers
        self._session = session
        self._count = 0
        self._rate: float | None = None  # seconds of one image in one worker
        self._died_alone: Counter[str] = Counter()
        suspected: set[str] = set()
        for leftover in leftovers:
            suspected.update(leftover.suspects)
            if leftover.alone:
                self._died_alone.update(leftover.uris)
        self._pending = deque(item for item in items if item.uri not in suspected)
        self._suspects: deque[Item] = deque()
        self._last: deque[Item] = deque()  # for their last attempt
        self.given_up: list[Item] = []
        for item in items:
            if item.uri in suspected:
                self._suspect(item)

    def next(self, busy: int) -> Shard | None:
        """Return the next shard, None where there is nothing to do for now.

        busy: how many workers have a shard.
        """
        if self._pending:
            count = min(self._part(), len(self._pending))
            return self._shard([self._pending.popleft() for _ in range(count)])
        if self._suspects:
            return self._shard([self._suspects.popleft()], alone=True)
        if self._last and not busy:
            return self._shard([self._last.popleft()], alone=True)
        return None

    @property
    def empty(self) -> bool:
        """Whether every image was given out; deaths may bring some back."""
        return not (self._pending or self._suspects or self._last)

    def finished(self, manifest: Manifest) -> None:
        """Learn from a part how long images take, and which memory did not suffice for.

        Those are tried again while nobody else is at work.
        """
        self._last.extend(manifest.deferred)
        if manifest.rows:
            seconds = manifest.elapsed / manifest.rows
            self._rate = seconds if self._rate is None else (self._rate + seconds) / 2

    def died(self, shard: Shard, leftover: Leftover | None) -> None:
        """Take back the images of a shard whose worker died.

        leftover: what its mark says; None where it had not begun.
        """
        if leftover and shard.alone:
            self._died_alone.update(item.uri for item in shard.items)
        suspected = set() if leftover is None else set(leftover.suspects)
        for item in shard.items:
            if shard.alone or item.uri in suspected:
                self._suspect(item)
            else:
                self._pending.append(item)

    def _suspect(self, item: Item) -> None:
        attempts = self._died_alone[item.uri]
        if attempts >= ATTEMPTS:
            self.given_up.append(item)
        elif attempts == ATTEMPTS - 1:
            self._last.append(item)
        else:
            self._suspects.append(item)

    def _part(self) -> int:
        """How many images the next part gets: some seconds of work, less towards the end."""
        if self._rate is None:
            return FIRST_PART
        image = max(self._rate, 1e-3)
        fair = -(-len(self._pending) // (2 * self._workers))
        least = max(1, round(SMALLEST_SECONDS / image))
        return min(max(least, min(round(PART_SECONDS / image), fair)), LARGEST_PART)

    def _shard(self, items: list[Item], alone: bool = False) -> Shard:
        self._count += 1
        return Shard(f"{self._session}-{self._count:06}", tuple(items), alone)
