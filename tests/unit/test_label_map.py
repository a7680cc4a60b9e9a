"""Label maps: every pixel says whose it is, in Python, as a PNG and in a ZIP."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode import Image
from sam3_image.errors import InputError
from sam3_image.instances import Instances
from sam3_image.masks import Detections
from sam3_image.output import Output, render
from tests.helpers.drawn_instances import Bools, instances_of, many_masks, photo

SIZE = (60, 80)


def values(data: bytes) -> tuple[str, NDArray[Any]]:
    with Pillow.open(io.BytesIO(data)) as picture:
        return picture.mode, np.asarray(picture)


def expected(masks: list[Bools], numbers: list[int]) -> NDArray[Any]:
    """The worst first, so that better ones cover it."""
    wanted = np.zeros(masks[0].shape, dtype=int)
    for mask, number in reversed(list(zip(masks, numbers, strict=True))):
        wanted[mask] = number
    return wanted


def rendered(found: Detections, **output: Any) -> Any:
    return render(Image(photo(found.size), "PNG"), found, Output(**output))


def separate(count: int) -> list[Bools]:
    """Masks of a few pixels each that do not overlap."""
    masks = []
    for index in range(count):
        mask = np.zeros(SIZE, bool)
        mask[2 * (index // 20), 4 * (index % 20) : 4 * (index % 20) + 1 + index % 3] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize(("count", "mode"), [(255, "L"), (256, "I;16"), (300, "I;16")])
def test_300_instances_make_the_round_trip(count: int, mode: str) -> None:
    masks = separate(count)
    found = instances_of(masks)
    made = rendered(found, return_zip=False, label_map="instance")
    assert (made.name, made.media_type) == ("label_map.png", "image/png")
    got, pixels = values(made.data)
    assert got == mode
    for index, mask in enumerate(masks):
        assert np.array_equal(pixels == index + 1, mask)
    python = Instances(Image(photo(SIZE), "PNG"), found).label_map()
    assert python.dtype == np.uint16
    assert np.array_equal(python, pixels)


def test_the_better_score_wins_and_the_zip_says_who_is_who() -> None:
    masks = many_masks(40, SIZE, seed=4)[2:]
    prompts = [3 * (index % 3) for index in range(len(masks))]
    concepts = [f"thing {prompt}" for prompt in prompts]
    found = instances_of(masks, concepts=concepts, prompts=prompts)
    numbers = {
        "instance": list(range(1, len(masks) + 1)),
        "concept": [prompt + 1 for prompt in prompts],
    }
    for kind, own in numbers.items():
        made = rendered(found, label_map=kind)
        with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
            names = archive.namelist()
            pixels = values(archive.read("label_map.png"))[1]
            legend = json.loads(archive.read("labels.json"))
        assert names[len(masks) :] == ["label_map.png", "labels.json"]
        assert np.array_equal(pixels, expected(masks, own))
        assert [int(value) for value in legend] == sorted(set(own))
        for value, entry in legend.items():
            first = own.index(int(value))
            assert entry == {
                "concept": concepts[first],
                "score": round(float(found.scores[first]), 6),
                "area": int((pixels == int(value)).sum()),
            }


def test_nothing_found_is_background() -> None:
    made = rendered(instances_of([], SIZE), label_map="concept")
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        assert not values(archive.read("label_map.png"))[1].any()
        assert json.loads(archive.read("labels.json")) == {}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"label_map": "class"}, ["label_map is 'class'", "none, instance, concept"]),
        ({"label_map": "instance", "return_zip": False, "mask_only": True}, ["2; set return_zip"]),
        (
            {"label_map": "instance", "return_zip": False, "save_overlay": True},
            ["save_overlay=true and label_map='instance'"],
        ),
        (
            {"label_map": "instance", "return_zip": False, "show_labels": True},
            ["label_map='instance' takes its place"],
        ),
    ],
)
def test_what_does_not_go_together(inputs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Output(**inputs)
    assert all(word in str(caught.value) for word in words), caught.value


def test_save_takes_it_from_its_ending(tmp_path: Path) -> None:
    found = Instances(Image(photo(SIZE), "PNG"), instances_of(separate(3)))
    path = found.save(tmp_path / "labels.png", label_map="instance")
    assert np.array_equal(values(path.read_bytes())[1], found.label_map())
    with pytest.raises(InputError, match="kind is 'none'"):
        found.label_map("none")
    with pytest.raises(InputError, match=r"ends in \.jpg"):
        found.save(tmp_path / "labels.jpg", label_map="instance")


def test_more_instances_than_16_bits_hold_are_refused() -> None:
    found = instances_of([np.ones((1, 1), bool)] * 65_536)
    with pytest.raises(InputError, match="65,535 values and there are 65,536 instances"):
        rendered(found, return_zip=False, label_map="instance")
