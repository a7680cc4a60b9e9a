"""Which images go into the next shard, and what follows when a worker dies.

A shard whose worker dies is halved until the guilty image is alone. An image that dies alone is
tried once more while no other worker is busy, so that it is not blamed for the memory that others
take; then it gets an error row. The counts are kept in `Attempts`, so they hold across runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sam3_image.batch.job import Manifest, Shard
from sam3_image.batch.reader import Item
from sam3_image.batch.results import Attempts

ALONE_ATTEMPTS = 2  # before an image is given up
PART_SECONDS = 15.0  # of work in one part: what a death costs at most
SMALLEST_SECONDS = 2.0  # parts shrink towards the end, so that all workers end together
LARGEST_PART = 128  # images
FIRST_PART = 4  # images, while nothing is known of their time


class Schedule:
    """Hands out shards; `given_up` collects the images that have used up their attempts."""

    def __init__(self, items: Sequence[Item], attempts: Attempts, workers: int) -> None:
        """Schedule `items`; attempts: of a run that was killed, else empty."""
        self._workers = workers
        self._rate: float | None = None  # seconds of one image in one worker
        self._deaths = attempts.deaths
        self._suspects: deque[tuple[Item, ...]] = deque()
        self._last: deque[Item] = deque()  # to be tried while no other worker is busy
        self.given_up: list[Item] = []
        left = {item.uri: item for item in items}
        for uris in attempts.in_hand:
            if group := tuple(left.pop(uri) for uri in uris if uri in left):
                self._suspect(group)
        for uri in [uri for uri in self._deaths if uri in left]:
            self._retry(left.pop(uri))
        self._pending = deque(left.values())

    def next(self, busy: int) -> Shard | None:
        """Return the next shard, None if there is nothing to do for now.

        busy: how many workers have a shard.
        """
        if self._pending:
            count = min(self._part(), len(self._pending))
            return Shard(tuple(self._pending.popleft() for _ in range(count)))
        if self._suspects:
            return Shard(self._suspects.popleft())
        if self._last and not busy:
            return Shard((self._last.popleft(),), alone=True)
        return None

    @property
    def empty(self) -> bool:
        """Whether every image was handed out; deaths may bring some back."""
        return not (self._pending or self._suspects or self._last)

    def finished(self, manifest: Manifest) -> None:
        """Learn how long images take, and which must be tried while no other worker is busy."""
        self._last.extend(manifest.deferred)
        if manifest.rows:
            seconds = manifest.elapsed / manifest.rows
            self._rate = seconds if self._rate is None else (self._rate + seconds) / 2

    def died(self, shard: Shard) -> None:
        """Take back the images of a shard whose worker died."""
        self._suspect(shard.items)

    def _suspect(self, items: tuple[Item, ...]) -> None:
        if len(items) > 1:
            middle = (len(items) + 1) // 2
            self._suspects += [items[:middle], items[middle:]]
            return
        (item,) = items
        self._deaths[item.uri] = self._deaths.get(item.uri, 0) + 1
        self._retry(item)

    def _retry(self, item: Item) -> None:
        tried = self._deaths[item.uri] >= ALONE_ATTEMPTS
        (self.given_up if tried else self._last).append(item)

    def _part(self) -> int:
        """Return how many images the next part gets: some seconds of work, less at the end."""
        if self._rate is None:
            return FIRST_PART
        image = max(self._rate, 1e-3)
        fair = -(-len(self._pending) // (2 * self._workers))
        least = max(1, round(SMALLEST_SECONDS / image))
        return min(max(least, min(round(PART_SECONDS / image), fair)), LARGEST_PART)
