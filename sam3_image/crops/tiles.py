"""find and everything in an image that is too large for one look: tiles, the whole, closer looks.

Every tile is asked like an image of its own. What is longer than the tiles' overlap may lie whole
in none of them; it comes from the look at the whole image, or from a closer look at a square
around the piece that a tile saw. So no mask is ever put together from pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sam3_image.crops.detection import CropDetection, crop_detections, detections, hull, longer
from sam3_image.crops.merge import groups, merge, same, unique
from sam3_image.crops.runner import CropRunner, Question
from sam3_image.crops.windows import Box, Window, around, grid
from sam3_image.masks import Detections

# A closer look at an object that the look cuts again is widened, at most so often.
ROUNDS = 3

# Called after each tile: how many are done, how many there are, and what was found in this one.
TileDone = Callable[[int, int, Detections], None]
# What to ask about a window of the image for some of the prompts.
Ask = Callable[[Window, Sequence[int]], Question]


@dataclass(frozen=True)
class _Target:
    """An object to look at more closely.

    one: the latest that was seen of it. first: what was seen first. box: around all of it so far.
    """

    one: CropDetection
    first: CropDetection
    box: Box


@dataclass(frozen=True)
class Tiles:
    """An image, what to find in it, and how to cut it.

    image_size: (height, width) in pixels. prompts: how many there are.
    ask: for the whole image and for tiles; ask_again: for closer looks.
    tile_size: side of the tiles in pixels.
    """

    runner: CropRunner
    image_size: tuple[int, int]
    prompts: int
    ask: Ask
    ask_again: Ask
    tile_size: int

    def find(self, tile_done: TileDone) -> Detections:
        """Each object once and whole, with its best score; best first.

        tile_done: see `TileDone`.
        """
        everything = range(self.prompts)
        whole = self.ask(Window.whole(self.image_size), everything)
        overview = list(crop_detections(whole, self.runner.overview(whole), self.image_size))
        windows = grid(self.image_size, self.tile_size)
        tiles: list[CropDetection] = []
        asked = (self.ask(window, everything) for window in windows)
        for done, (question, found) in enumerate(self.runner.look(asked), start=1):
            tiles += crop_detections(question, found, self.image_size)
            tile_done(done, len(windows), found)
        kept, targets, rest = [], [], []
        limit = len(windows)  # an image full of pieces must not take much longer than its tiles
        for prompt in everything:
            mine = merge(_of(tiles, prompt), _of(overview, prompt), self.tile_size)
            kept += mine.kept
            targets += [_Target(one, one, box) for one, box in groups(mine.doubtful[:limit])]
            rest += mine.doubtful[limit:]
        targets.sort(key=lambda target: -target.one.score)
        kept += self._closer(targets[:limit])
        rest += [target.one for target in targets[limit:]]
        kept += [one for one in rest if one.whole]
        each = [unique(_of(kept, prompt)) for prompt in everything]
        return detections([one for own in each for one in own], self.image_size)

    def _closer(self, targets: Sequence[_Target]) -> list[CropDetection]:
        """What a look at a square around each target shows of it.

        Where it shows nothing, pieces are dropped, and what the overview saw whole remains.
        """
        found = []
        for _ in range(ROUNDS):
            questions = (self.ask_again(self._window(own), [own.one.prompt]) for own in targets)
            cut = []
            for own, (question, answer) in zip(targets, self.runner.look(questions), strict=True):
                again = [
                    one
                    for one in crop_detections(question, answer, self.image_size)
                    if one.consistent and same(one, own.one)
                ]
                best = max(again, key=lambda one: (one.whole, one.score), default=own.first)
                if best.whole:
                    found.append(best)
                elif again:
                    cut.append(_Target(best, own.first, hull([own.box, best.around])))
            targets = cut
        return found + [own.first for own in targets if own.first.whole]

    def _window(self, target: _Target) -> Window:
        """A square in which the object takes half the side at most, or of a tile's size."""
        return around(target.box, max(self.tile_size, 2 * longer(target.box)), self.image_size)


def _of(instances: Iterable[CropDetection], prompt: int) -> Iterator[CropDetection]:
    return (one for one in instances if one.prompt == prompt)
