"""Tiles without weights: a stand-in for the model finds what is drawn, so every answer is known.

What it finds of an object is what the window shows of it; of an object of fewer than 12 pixels in
the encoder's square it finds nothing, as SAM 3 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sam3_image.crops import CropOptions, CropRunner, Exemplar, count, find_in_crops
from sam3_image.crops.detection import crop_detections
from sam3_image.crops.runner import Question
from sam3_image.crops.windows import Window, grid
from sam3_image.errors import InputError
from sam3_image.masks import Detections, LowResMasks
from sam3_image.model.prompts import Find
from tests.helpers.drawn_instances import disc

SIDE, CELLS = 336, 96
COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250)}
SMALLEST = 12


@dataclass
class StandIn:
    """Finds connected areas of a color; keeps count of what it was asked."""

    passes: list[int] = field(default_factory=list)
    asked: list[Find] = field(default_factory=list)

    def batch(self, side: int) -> int:
        return 4

    def prepare(self, pixels: NDArray[np.uint8], side: int) -> Any:
        return pixels

    def encode(self, image: Any) -> Any:
        return image

    def encode_all(self, crops: Sequence[Any]) -> Any:
        self.passes.append(len(crops))
        return crops

    def segment(self, features: Any, request: Any, mask_threshold: float) -> Detections:
        self.asked.append(request)
        parts = [self._found(features, name, i) for i, name in enumerate(request.concepts)]
        return Detections.joined(parts).sorted()

    def _found(self, pixels: NDArray[np.uint8], name: str, prompt: int) -> Detections:
        height, width = pixels.shape[:2]
        alike = (np.abs(pixels.astype(int) - COLOURS[name]).max(axis=2) < 9).astype(np.uint8)
        number, labels, stats, _ = cv2.connectedComponentsWithStats(alike)
        maps, boxes = [], []
        for index in range(1, number):
            x, y, w, h = (int(v) for v in stats[index, :4])
            if max(w * SIDE / width, h * SIDE / height) < SMALLEST:
                continue
            one = (labels == index).astype(np.float32)
            maps.append(cv2.resize(one, (CELLS, CELLS), interpolation=cv2.INTER_AREA))
            boxes.append((x, y, x + w, y + h))
        return Detections.of(
            size=(height, width),
            source=LowResMasks(
                np.array(maps, np.float32).reshape(-1, CELLS, CELLS), 0.5, (height, width)
            ),
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.linspace(0.9, 0.8, len(boxes), dtype=np.float32),
            presence=np.ones(len(boxes), np.float32),
            concept=name,
            prompt=prompt,
        )


def drawn(size: tuple[int, int], circles: Sequence[tuple[str, float, float, float]]) -> Any:
    """A picture (H, W, 3), and the mask of each circle (color, x, y, diameter)."""
    pixels = np.full((*size, 3), 200, np.uint8)
    masks = []
    for colour, x, y, diameter in circles:
        mask = np.zeros(size, bool)
        left, top = max(0, int(x - diameter / 2) - 1), max(0, int(y - diameter / 2) - 1)
        part = mask[top : int(y + diameter / 2) + 2, left : int(x + diameter / 2) + 2]
        part[:] = disc(part.shape, (y - top, x - left), diameter / 2)
        pixels[mask] = COLOURS[colour]
        masks.append(mask)
    return pixels, masks


def found_in(
    pixels: NDArray[np.uint8], tile_size: int, names: tuple[str, ...] = ("red",), **options: Any
) -> tuple[Detections, StandIn]:
    model = StandIn()
    runner = CropRunner(model, SIDE, 0.5)
    return find_in_crops(runner, pixels, Find(names, 0.5), tile_size=tile_size, **options), model


def assert_each_once(found: Detections, masks: Sequence[Any], least: float = 0.85) -> None:
    """Hold that each of the masks, which do not overlap, is found once and nothing else is."""
    truth = np.zeros(found.size, int)
    for number, mask in enumerate(masks, start=1):
        truth[mask] = number
    areas = np.bincount(truth.ravel(), minlength=len(masks) + 1)
    hit = []
    for mask in found.masks():
        shared = np.bincount(truth[mask.window][mask.inside], minlength=len(masks) + 1)
        number = int(shared[1:].argmax()) + 1
        assert shared[number] / (mask.area + areas[number] - shared[number]) >= least
        hit.append(number)
    assert sorted(hit) == list(range(1, len(masks) + 1))


@pytest.mark.parametrize("diameter", [30, 60, 90, 140, 200, 290, 420, 600])
@pytest.mark.parametrize("place", [(288, 288), (336, 300), (384, 384), (430, 500)])
def test_an_object_on_a_seam_is_found_once_and_whole(
    diameter: float, place: tuple[float, float]
) -> None:
    x, y = (max(value, diameter / 2 + 2) for value in place)
    pixels, masks = drawn((800, 1000), [("red", x, y, diameter)])
    found, _ = found_in(pixels, 256)
    assert_each_once(found, masks)


def test_a_crowd_is_found_and_concepts_stay_apart() -> None:
    places = [
        (("red", "blue")[(column + row) % 2], 15 + 30 * column, 15 + 30 * row, 14)
        for column in range(20)
        for row in range(14)
    ]
    pixels, masks = drawn((430, 610), places)
    found, model = found_in(pixels, 128, ("red", "blue"))
    assert_each_once(found, masks, 0.8)
    for index, name in enumerate(("red", "blue")):
        assert (found.prompts == index).sum() == 140
        assert {c for c, p in zip(found.concepts, found.prompts, strict=True) if p == index} == {
            name
        }
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert sum(model.passes) == count((430, 610), 128), "nothing was cut: no closer looks"
    assert max(model.passes) == 4


@pytest.mark.parametrize("seam", [219, 402, 585])
def test_what_only_pieces_show_is_looked_at_as_a_whole(seam: int) -> None:
    """Longer than the overlap, in its middle, and too small for the look at the whole picture."""
    pixels, masks = drawn((300, 3000), [("red", seam, 150, 100)])
    found, model = found_in(pixels, 256)
    assert_each_once(found, masks)
    assert sum(model.passes) > count((300, 3000), 256)


def test_nothing_to_find_is_an_empty_answer() -> None:
    pixels, _ = drawn((500, 700), [])
    found, _ = found_in(pixels, 128)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_a_tile_as_large_as_the_picture_is_the_plain_look() -> None:
    pixels, _ = drawn((300, 400), [("red", 100, 100, 60)])
    found, model = found_in(pixels, 400)
    assert isinstance(found.source, LowResMasks)
    assert model.passes == []


@pytest.mark.parametrize("size", [(64, 64), (100, 999), (1001, 333), (2000, 3000)])
@pytest.mark.parametrize("tile_size", [64, 100, 384, 4096])
def test_tiles_cover_the_picture_and_overlap_by_a_quarter(
    size: tuple[int, int], tile_size: int
) -> None:
    windows = grid(size, tile_size)
    assert len(windows) == count(size, tile_size)
    covered = np.zeros(size, bool)
    for window in windows:
        assert max(window.size) <= tile_size
        covered[window.y0 : window.y1, window.x0 : window.x1] = True
    assert covered.all()
    columns = sorted({(window.x0, window.x1) for window in windows})
    for (_, end), (start, _) in pairwise(columns):
        assert end - start >= tile_size // 4


def test_progress_counts_every_tile() -> None:
    pixels, _ = drawn((300, 500), [("red", 100, 100, 60)])
    told: list[tuple[int, int]] = []
    found_in(pixels, 128, tile_done=lambda done, total, _: told.append((done, total)))
    total = count((300, 500), 128)
    assert told == [(done, total) for done in range(1, total + 1)]


def test_what_is_found_in_the_strip_is_dropped_and_the_rest_is_where_it_was() -> None:
    reference, _ = drawn((200, 200), [("red", 100, 100, 80)])
    pixels, masks = drawn((300, 400), [("red", 300, 200, 90), ("red", 60, 60, 70)])
    exemplar = Exemplar(reference, (60, 60, 140, 140))
    model = StandIn()
    found = find_in_crops(
        CropRunner(model, SIDE, 0.5),
        pixels,
        Find(("red",), 0.5),
        tile_size=None,
        references=[exemplar],
    )
    assert_each_once(found, masks)
    (request,) = model.asked
    assert request.labels == (1,)
    x0, _, x1, _ = request.boxes[0]
    assert 0 <= x0 < x1 <= 400, "the box lies in the strip"


@pytest.mark.parametrize(("columns", "kept"), [((60, 130), True), ((40, 130), False)])
def test_across_the_edge_of_the_strip_the_larger_part_decides(
    columns: tuple[int, int], kept: bool
) -> None:
    """A strip of 90 columns; what reaches into the picture with most of itself is cut there."""
    x0, x1 = columns
    maps = np.zeros((1, 100, 190), np.float32)
    maps[0, 20:60, x0:x1] = 1
    found = Detections.of(
        size=(100, 190),
        source=LowResMasks(maps, 0.5, (100, 190)),
        boxes=np.array([[x0, 20, x1, 60]], np.float32),
        scores=np.array([0.9], np.float32),
        presence=np.ones(1, np.float32),
        concept="red",
        prompt=0,
    )
    window = Window.whole((100, 100))
    question = Question(np.zeros((100, 190, 3), np.uint8), Find(("red",), 0.5), window, (0,), 90)
    own = list(crop_detections(question, found, (100, 100)))
    assert len(own) == kept
    for one in own:
        mask = one.packed.mask()
        assert (mask.box, mask.area) == ((0, 20, x1 - 90, 60), 40 * (x1 - 90))


def one_instance(maps: NDArray[np.float32], box: tuple[int, int, int, int]) -> Detections:
    """An answer with one instance of 200×200 pixels."""
    return Detections.of(
        size=(200, 200),
        source=LowResMasks(maps, 0.5, (200, 200)),
        boxes=np.array([box], np.float32),
        scores=np.array([0.9], np.float32),
        presence=np.ones(1, np.float32),
        concept="red",
        prompt=0,
    )


@pytest.mark.parametrize("fleck", [(0, 100, 100, 110), (100, 196, 120, 200), (150, 60, 190, 100)])
def test_what_a_mask_shows_outside_its_box_does_not_count(fleck: tuple[int, ...]) -> None:
    """Among equal objects, SAM 3's masks spill over to others while its boxes do not.

    A few pixels at the border of a tile would make a whole object look cut off.
    """
    x0, y0, x1, y1 = fleck
    maps = np.zeros((1, 200, 200), np.float32)
    maps[0, y0:y1, x0:x1] = 1
    maps[0, 40:80, 80:120] = 1
    found = one_instance(maps, (79, 41, 121, 80))
    window = Window(100, 100, 300, 300)
    question = Question(np.zeros((200, 200, 3), np.uint8), Find(("red",), 0.5), window, (0,))
    (one,) = crop_detections(question, found, (400, 400))
    assert one.whole
    assert one.consistent
    assert (one.around, one.area) == ((180, 140, 220, 180), 40 * 40)


@pytest.mark.parametrize(
    ("whole", "box", "consistent"),
    [
        (True, (79, 41, 121, 80), True),  # it fits its box: an object, whatever else is shown
        (True, (80, 40, 130, 90), False),
        (False, (80, 40, 130, 90), True),
    ],
)
def test_a_piece_of_a_mask_smeared_over_the_whole_image_is_no_object(
    whole: bool, box: tuple[int, int, int, int], consistent: bool
) -> None:
    """In a tile such pieces are of the equal objects around."""
    maps = np.zeros((1, 200, 200), np.float32)
    maps[0, 40:80, 80:120] = 1
    maps[0, 140:180, ::4] = 1
    window = Window(0, 0, 200, 200)
    question = Question(np.zeros((200, 200, 3), np.uint8), Find(("red",), 0.5), window, (0,))
    size = (200, 200) if whole else (400, 400)
    (one,) = crop_detections(question, one_instance(maps, box), size)
    assert one.consistent is consistent


@pytest.mark.parametrize("strip", [0, 20])
def test_a_mask_of_everything_ends_at_its_box(strip: int) -> None:
    """A mask_threshold of 0 gives one; it is no object that every border of the tile cuts."""
    found = Detections.of(
        size=(100, 100 + strip),
        source=LowResMasks(np.ones((1, 96, 96), np.float32), 0.0, (100, 100 + strip)),
        boxes=np.array([[strip + 10, 20, strip + 90, 60]], np.float32),
        scores=np.array([0.9], np.float32),
        presence=np.ones(1, np.float32),
        concept="red",
        prompt=0,
    )
    window, pixels = Window(50, 50, 150, 150), np.zeros((100, 100 + strip, 3), np.uint8)
    question = Question(pixels, Find(("red",), 0.5), window, (0,), strip)
    (one,) = crop_detections(question, found, (200, 200))
    assert one.whole
    assert (one.around, one.area) == ((60, 70, 140, 110), 80 * 40)


def test_an_exemplar_is_shown_to_the_tiles_that_do_not_hold_it() -> None:
    pixels, masks = drawn((400, 900), [("red", 60, 60, 50), ("red", 800, 300, 50)])
    model = StandIn()
    request = Find(("red",), 0.5, ((35, 35, 85, 85), (775, 275, 825, 325)), (1, 0))
    found = find_in_crops(CropRunner(model, SIDE, 0.5), pixels, request, tile_size=256)
    assert_each_once(found, masks)
    assert {len(one.boxes) for one in model.asked} == {2}
    assert {one.labels for one in model.asked} == {(1, 0), (0, 1)}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"tile_size": 63}, ["tile_size is 63", "64 to 4096"]),
        ({"tile_size": 4097}, ["tile_size is 4097"]),
        ({"refine": 1}, ["refine is 1", "true or false"]),
        ({"reference_boxes": [[1, 2, 3, 4]]}, ["reference_boxes", "without reference_image"]),
        ({"reference_image": b""}, ["reference_image", "without reference_boxes"]),
        ({"reference_image": "a.png", "reference_boxes": [[1, 2, 3, 4]]}, ["'a.png'"]),
        ({"reference_image": b"", "reference_boxes": [[1, 2, 3, 4]] * 9}, ["9 entries", "1 to 8"]),
    ],
)
def test_what_is_not_accepted_is_one_line(inputs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        CropOptions(**inputs)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_tiles_are_refused_with_the_size_that_fits() -> None:
    looks, size = CropOptions(tile_size=64), (3000, 4000)
    with pytest.raises(InputError, match=r"tile_size is 64, .* at most 400 are accepted") as caught:
        looks.check_size(size, 400)
    fits = int(str(caught.value).partition("at least ")[2].split()[0])
    CropOptions(tile_size=fits).check_size(size, 400)
    assert count(size, fits - 1) > 400
