"""Pictures: overlay, silhouette and cut-out, pixel for pixel."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from sam3_image.output import canvas, colors
from sam3_image.output.canvas import Pixels, Style
from sam3_image.output.labels import LONGEST_LABEL, MOST_HIDDEN, Lettering, Rectangle
from tests.helpers.drawn_instances import (
    canvas_of,
    disc,
    instances_of,
    many_masks,
    overlay,
    photo,
    ring,
)

SIZE = (120, 160)
FIRST = disc(SIZE, (50, 60), 30)
SECOND = ring(SIZE, (60, 90), 40)
BOTH = FIRST | SECOND


def test_opacity_0_gives_the_input_back_and_1_the_pure_color() -> None:
    pixels, found = photo(SIZE), instances_of([FIRST, SECOND])
    assert np.array_equal(overlay(pixels, found, Style("red", 0.0)), pixels)
    solid = overlay(pixels, found, Style("red", 1.0))
    assert (solid[BOTH] == (255, 0, 0)).all()
    assert np.array_equal(solid[~BOTH], pixels[~BOTH])


@pytest.mark.parametrize("name", list(colors.NAMED_COLORS))
@pytest.mark.parametrize("opacity", [0.25, 0.5, 0.77])
def test_one_color_tints_the_union_once(name: str, opacity: float) -> None:
    pixels = photo(SIZE)
    before = pixels.copy()
    tinted = overlay(pixels, instances_of([FIRST, SECOND]), Style(name, opacity))
    wanted = (pixels * (1 - opacity) + np.array(colors.NAMED_COLORS[name]) * opacity).astype(
        np.uint8
    )
    assert np.array_equal(tinted[BOTH], wanted[BOTH])
    assert np.array_equal(tinted[~BOTH], pixels[~BOTH])
    assert np.array_equal(pixels, before), "the input was drawn on"


def test_distinct_gives_each_its_color_and_the_better_score_lies_on_top() -> None:
    assert (FIRST & SECOND).any()
    picture = overlay(photo(SIZE), instances_of([FIRST, SECOND]), Style("distinct", 1.0))
    assert (picture[FIRST] == colors.PALETTE[0]).all()
    assert (picture[SECOND & ~FIRST] == colors.PALETTE[1]).all()


def test_tinting_in_blocks_equals_tinting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, found = photo(SIZE), instances_of([FIRST, SECOND])
    whole = overlay(pixels, found, Style("distinct", 0.3))
    monkeypatch.setattr(canvas, "TINT_PIXELS", 700)  # blocks of a few rows, the last one shorter
    assert np.array_equal(overlay(pixels, found, Style("distinct", 0.3)), whole)


@pytest.mark.parametrize("size", [(40, 60), (1, 60), (40, 1), (1, 1)])
def test_masks_of_every_shape_are_tinted_exactly(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    masks = many_masks(40, size, seed=7) if min(size) > 9 else list(rng.random((9, *size)) > 0.5)
    for index, mask in enumerate(masks):
        pixels = photo(size, seed=index)
        wanted = pixels.copy()
        wanted[mask] = np.floor((pixels[mask] + np.array([255.0, 255.0, 0.0])) / 2)
        picture = overlay(pixels, instances_of([mask]), Style("yellow"))
        assert np.array_equal(picture, wanted), index


def test_silhouette_is_white_on_black() -> None:
    found = instances_of([FIRST, SECOND])
    assert np.array_equal(canvas_of(photo(SIZE), found).silhouette(), np.where(BOTH, 255, 0))
    assert canvas_of(photo(SIZE), found).silhouette().dtype == np.uint8


def test_cutout_keeps_color_inside_and_nothing_outside() -> None:
    pixels, found = photo(SIZE), instances_of([FIRST, SECOND])
    picture = canvas_of(pixels, found).cutout()
    assert np.array_equal(picture[..., 3], np.where(BOTH, 255, 0))
    assert np.array_equal(picture[BOTH, :3], pixels[BOTH])
    assert not picture[~BOTH].any(), "what was cut away can still be read"


def test_nothing_found_is_a_picture_too() -> None:
    pixels, none = photo(SIZE), instances_of([], SIZE)
    assert np.array_equal(overlay(pixels, none, Style(labels=True)), pixels)
    assert not canvas_of(pixels, none).silhouette().any()
    assert not canvas_of(pixels, none).cutout().any()


@pytest.mark.parametrize("size", [(200, 300), (300, 400), (100, 4000), (1, 1), (7, 300), (300, 5)])
@pytest.mark.parametrize("count", [1, 50])
def test_labels_are_drawn_at_every_size_and_edge(size: tuple[int, int], count: int) -> None:
    pixels = photo(size)
    masks = many_masks(count + 2, size, seed=1)[2:] if min(size) > 9 else [np.ones(size, bool)]
    found = instances_of(masks)
    # Boxes of a model may reach out of the image.
    found.boxes[:] += np.array([-30, -30, 30, 30], dtype=np.float32)
    plain = overlay(pixels, found, Style("distinct", 0.5))
    labelled = overlay(pixels, found, Style("distinct", 0.5, labels=True))
    assert labelled.shape == pixels.shape
    assert (plain != labelled).any()


def test_a_label_stands_whole_inside_the_picture_whatever_the_corner() -> None:
    size = (200, 300)
    style = Lettering.for_size(size)
    wide, high = style.extent(style.label("thing", 0.95))
    for y, x in ((0, 0), (0, 299), (199, 0), (199, 299), (100, 150)):
        mask = disc(size, (y, x), 20)
        picture = overlay(
            np.full((*size, 3), 90, np.uint8), instances_of([mask]), Style("green", 0, labels=True)
        )
        drawn_on = (picture != 90).any(axis=2)
        assert (drawn_on.sum(axis=1) >= wide).sum() >= high, f"cut off at {y}, {x}"
        ink = (picture == 0).all(axis=2)
        assert ink.sum() > 40, "no text on the plate"


@pytest.mark.parametrize("size", [(200, 300), (768, 1024), (3000, 4000), (200, 8000)])
def test_text_can_be_read(size: tuple[int, int]) -> None:
    style = Lettering.for_size(size)
    assert style.font >= 12, "too few pixels for letters"
    # Shown 1,000 pixels wide or high, or as it is where smaller, letters keep 9 pixels or more,
    # but for a strip, which nobody shows whole.
    shown = min(1, 1000 / max(size))
    assert style.font * shown >= 9 or max(size) > 10 * min(size)
    assert style.extent("x")[1] < size[0] / 4, "the label hides the picture"


def test_a_long_concept_is_shortened_and_keeps_its_score() -> None:
    style = Lettering.for_size((200, 300))
    text = style.label("a very long concept " * 25, 0.875)
    assert style.extent(text)[0] <= min(300, LONGEST_LABEL * style.font)
    assert text.startswith("a very long")
    assert text.endswith("… 0.88")
    assert style.name("line\nbreak\tand\x00more?", 0) == "line break and more?"


@pytest.mark.parametrize(
    "word",
    [
        "Ærøskøbing",
        "человек",
        "σκύλος",
        "人",
        "くるま",
        "자동차",
        "汽车",
        "người",
        "e\u0301t\u00e9",
    ],
)
def test_these_scripts_are_written(word: str) -> None:
    style = Lettering.for_size((400, 400))
    name = style.name(word, 3)
    assert name == unicodedata.normalize("NFC", word)

    def drawn(text: str) -> bytes:
        picture = np.zeros((60, 400, 3), np.uint8)
        style.draw(picture, text, (0, 0, 400, 60), (255, 255, 255))
        return picture.tobytes()

    letters = {drawn(letter) for letter in set(name)}
    assert drawn("?") not in letters
    assert len(letters) == len(set(name)), "two letters look the same"


@pytest.mark.parametrize("word", ["كلب", "כלב", "ไทย", "हिन्दी", "🐶", "dog 🐶", "q\u0308"])
def test_what_cannot_be_written_is_called_by_its_prompt(word: str) -> None:
    assert Lettering.for_size((400, 400)).name(word, 3) == "prompt 3"


def test_the_better_score_keeps_its_label() -> None:
    size = (200, 300)
    masks = [disc(size, (100, 150), 40 - index / 4) for index in range(100)]
    found = instances_of(masks, concepts=["best", *["other"] * 99])
    gray = np.full((*size, 3), 90, np.uint8)
    picture = overlay(gray, found, Style("distinct", 0.0, labels=True))
    style = Lettering.for_size(size)
    wide, high = style.extent(style.label("best", 0.95))
    plate = (picture == colors.PALETTE[0]).all(axis=2)
    assert plate.sum() > 0.5 * wide * high, "the best label is covered"


def test_labels_leave_most_of_the_picture_free() -> None:
    size = (200, 300)
    corners = [(y, x) for y in range(10, 200, 10) for x in range(10, 300, 10)]
    masks = [disc(size, corner, 1) for corner in corners]
    gray = np.full((*size, 3), 90, np.uint8)
    picture = overlay(gray, instances_of(masks), Style("distinct", 0.0, labels=True))
    dots = np.any(masks, axis=0).mean()
    assert (picture != gray).any(axis=2).mean() < MOST_HIDDEN + 5 * dots + 0.03


def sizes_of_pictures() -> list[tuple[int, int]]:
    """Draw (height, width): mostly small, some of them strips."""
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.uniform(0, np.log(400), (150, 2))).astype(int)
    return [(int(height), int(width)) for height, width in drawn] + [(768, 1024), (1200, 90)]


def test_labels_never_hide_more_than_their_share_of_any_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their plates are measured, and that nothing is written beside a plate."""
    plates: list[Rectangle] = []
    draw, shown = Lettering.draw, 0

    def noted(
        style: Lettering, picture: Pixels, text: str, place: Rectangle, color: colors.Color
    ) -> None:
        before = picture.copy()
        draw(style, picture, text, place, color)
        x0, y0, x1, y1 = place
        changed = (picture != before).any(axis=2)
        changed[y0:y1, x0:x1] = False
        assert not changed.any(), (picture.shape, text)
        plates.append(place)

    monkeypatch.setattr(Lettering, "draw", noted)
    for seed, size in enumerate(sizes_of_pictures()):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 12))
        spots = rng.random((count, 2)) * size
        masks = [disc(size, tuple(spot), 0.2 * max(size)) for spot in spots]
        words = rng.choice(["x", "red circle", "a concept of many words " * 4], count).tolist()
        plates.clear()
        overlay(photo(size), instances_of(masks, concepts=words), Style("distinct", labels=True))
        hidden = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in plates)
        assert hidden <= MOST_HIDDEN * size[0] * size[1], size
        shown += bool(plates)
    assert shown > 20


@pytest.mark.parametrize("size", [(75, 75), (60, 90), (50, 200)])
def test_a_small_picture_has_a_label_where_one_fits(size: tuple[int, int]) -> None:
    style = Lettering.for_size(size)
    text = style.label("red circle", 0.95)
    wide, high = style.extent(text)
    assert wide * high <= MOST_HIDDEN * size[0] * size[1]
    assert text.endswith("0.95")
