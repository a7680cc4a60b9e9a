"""The one file: what it holds, which inputs go together, and what happens when it cannot be."""

from __future__ import annotations

import dataclasses
import io
import json
import threading
import tracemalloc
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode.image import Image
from sam3_image.errors import InputError, OutputError
from sam3_image.output import png
from sam3_image.output.canvas import Style
from sam3_image.output.files import save
from sam3_image.output.images import PICTURE_FORMATS
from sam3_image.output.options import Output
from tests.helpers.drawn_instances import disc, instances_of, overlay, photo, ring

SIZE = (90, 130)
MASKS = [disc(SIZE, (40, 50), 25), ring(SIZE, (45, 80), 30), np.zeros(SIZE, bool)]
INSIDE = np.any(MASKS, axis=0)
IMAGE = Image(photo(SIZE), "PNG")
FOUND = instances_of(MASKS)
NONE = instances_of([], SIZE)


def read(content: bytes) -> NDArray[np.uint8]:
    with Pillow.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_default_is_a_zip_of_masks_best_first(tmp_path: Path) -> None:
    path = save(IMAGE, FOUND, Output(), tmp_path)
    files = members(path)
    assert list(files) == ["mask_000.png", "mask_001.png", "mask_002.png"]
    for content, mask in zip(files.values(), MASKS, strict=True):
        with Pillow.open(io.BytesIO(content)) as picture:
            assert (picture.format, picture.mode) == ("PNG", "L")
        assert np.array_equal(read(content), np.where(mask, 255, 0))


def test_the_drop_in_result_byte_for_byte(tmp_path: Path) -> None:
    """What the first eight inputs give by default, and nothing else, whatever is added later."""
    files = members(save(IMAGE, FOUND, Output(save_overlay=True), tmp_path))
    tinted = IMAGE.pixels.copy()
    tinted[INSIDE] = np.floor((IMAGE.pixels[INSIDE] + np.array([0.0, 255.0, 0.0])) / 2)
    assert files == {
        **{f"mask_{i:03}.png": png.encode_mask(FOUND.mask(i)) for i in range(len(MASKS))},
        "overlay.png": png.encode(tinted),
    }


@pytest.mark.parametrize("extra", [{}, {"annotation_format": "coco"}, {"apply_mask": True}])
def test_what_is_new_does_not_touch_what_was_there(tmp_path: Path, extra: dict) -> None:
    (tmp_path / "more").mkdir()
    plain = members(save(IMAGE, FOUND, Output(save_overlay=True), tmp_path))
    more = members(save(IMAGE, FOUND, Output(save_overlay=True, **extra), tmp_path / "more"))
    assert {name: more[name] for name in plain} == plain
    assert list(more)[: len(plain)] == list(plain)


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    output = Output(save_overlay=True, mask_color="distinct", show_labels=True)
    first = save(IMAGE, FOUND, output, tmp_path).read_bytes()
    assert save(IMAGE, FOUND, output, tmp_path).read_bytes() == first


def test_zip_members_are_stored_not_packed_again(tmp_path: Path) -> None:
    with zipfile.ZipFile(save(IMAGE, FOUND, Output(), tmp_path)) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.external_attr >> 16 & 0o777 == 0o644
            assert entry.date_time == (1980, 1, 1, 0, 0, 0), "equal results would differ in bytes"


def test_more_masks_than_the_backlog_keep_their_order(tmp_path: Path) -> None:
    masks = [disc(SIZE, (y, 60), 3) for y in range(80)]
    files = members(save(IMAGE, instances_of(masks), Output(), tmp_path))
    assert list(files) == [f"mask_{index:03}.png" for index in range(80)]
    for content, mask in zip(files.values(), masks, strict=True):
        assert np.array_equal(read(content) > 0, mask)


def test_nothing_found_is_a_result(tmp_path: Path) -> None:
    assert members(save(IMAGE, NONE, Output(), tmp_path)) == {}
    overlay = read(save(IMAGE, NONE, Output(return_zip=False), tmp_path).read_bytes())
    assert np.array_equal(overlay, IMAGE.pixels)
    black = read(save(IMAGE, NONE, Output(return_zip=False, mask_only=True), tmp_path).read_bytes())
    assert black.shape == SIZE
    assert not black.any()
    alone = save(IMAGE, NONE, Output(return_zip=False, annotation_format="rle"), tmp_path)
    assert json.loads(alone.read_bytes())["instances"] == []


def test_mask_only_is_white_on_black_png(tmp_path: Path) -> None:
    path = save(IMAGE, FOUND, Output(return_zip=False, mask_only=True), tmp_path)
    assert path.name == "mask.png"
    assert np.array_equal(read(path.read_bytes()), np.where(INSIDE, 255, 0))


@pytest.mark.parametrize(("name", "form"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_pictures_come_in_the_format_asked_for(tmp_path: Path, name: str, form: str) -> None:
    path = save(IMAGE, FOUND, Output(return_zip=False, output_format=name), tmp_path)
    assert path.name == f"overlay.{name}"
    with Pillow.open(path) as picture:
        assert (picture.format, picture.mode) == (form, "RGB")
        assert picture.size == SIZE[::-1]
    zipped = members(save(IMAGE, FOUND, Output(save_overlay=True, output_format=name), tmp_path))
    assert list(zipped)[-1] == f"overlay.{name}"
    assert zipped[f"overlay.{name}"] == path.read_bytes()


def test_lossy_pictures_are_close_to_the_exact_one(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, SIZE[1], dtype=np.uint8)[None, :, None]
    image = Image(np.broadcast_to(smooth, (*SIZE, 3)).copy(), "PNG")
    exact = overlay(image.pixels, FOUND, Style()).astype(int)
    for name in ("jpg", "webp"):
        path = save(image, FOUND, Output(return_zip=False, output_format=name), tmp_path)
        assert np.abs(read(path.read_bytes()) - exact).mean() < 4, name


def test_a_jpeg_is_what_pillow_would_have_written() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    expected = io.BytesIO()
    Pillow.fromarray(noise).save(expected, "JPEG", quality=90, subsampling=0)
    assert np.array_equal(read(PICTURE_FORMATS["jpg"].encode(noise)), read(expected.getvalue()))


@pytest.mark.parametrize("name", ["png", "webp"])
def test_a_cutout_is_transparent_outside_and_exact_inside(tmp_path: Path, name: str) -> None:
    output = Output(return_zip=False, apply_mask=True, output_format=name)
    path = save(IMAGE, FOUND, output, tmp_path)
    assert path.name == f"cutout.{name}"
    picture = read(path.read_bytes())
    assert np.array_equal(picture[..., 3], np.where(INSIDE, 255, 0))
    assert np.array_equal(picture[INSIDE, :3], IMAGE.pixels[INSIDE])


def test_a_jpeg_cutout_is_white_outside(tmp_path: Path) -> None:
    flat = Image(np.full((*SIZE, 3), (200, 30, 60), np.uint8), "PNG")
    output = Output(return_zip=False, apply_mask=True, output_format="jpg")
    picture = read(save(flat, FOUND, output, tmp_path).read_bytes()).astype(int)
    blocks = np.zeros(SIZE, bool)  # JPEG's 8×8 blocks that the objects reach into
    for y, x in product(range(0, SIZE[0], 8), range(0, SIZE[1], 8)):
        blocks[y : y + 8, x : x + 8] = INSIDE[y : y + 8, x : x + 8].any()
    assert (picture[~blocks] == 255).all()
    assert picture[~INSIDE].mean() > 250
    assert np.abs(picture[INSIDE] - (200, 30, 60)).mean() < 8


def test_a_zip_can_hold_everything(tmp_path: Path) -> None:
    output = Output(save_overlay=True, apply_mask=True, annotation_format="polygon")
    names = list(members(save(IMAGE, FOUND, output, tmp_path)))
    assert names[3:] == ["overlay.png", "cutout.png", "annotations.json"]


ON_OFF = (False, True)


def test_every_combination_of_the_drop_in_inputs_is_accepted() -> None:
    for saved, only, zipped, opacity, color in product(
        ON_OFF, ON_OFF, ON_OFF, (0.0, 0.5, 1.0), ("green", "magenta", "distinct")
    ):
        Output(
            save_overlay=saved,
            mask_only=only,
            return_zip=zipped,
            mask_opacity=opacity,
            mask_color=color,
        )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mask_color": "purple"}, "purple"),
        ({"mask_opacity": float("nan")}, "nan"),
        ({"mask_opacity": 1.5}, "1.5"),
        ({"mask_opacity": -0.1}, "-0.1"),
        ({"output_format": "gif"}, "gif"),
        ({"annotation_format": "svg"}, "svg"),
        ({"apply_mask": True, "mask_only": True}, "mask_only"),
        ({"apply_mask": True, "mask_only": True, "return_zip": False}, "mask_only"),
        ({"show_labels": True}, "save_overlay=true"),
        ({"show_labels": True, "return_zip": False, "mask_only": True}, "mask_only"),
        ({"show_labels": True, "save_overlay": True, "mask_only": True}, "mask_only"),
        ({"output_format": "jpg", "save_overlay": True, "mask_only": True}, "mask_only"),
        ({"show_labels": True, "return_zip": False, "apply_mask": True}, "apply_mask"),
        ({"show_labels": True, "return_zip": False, "annotation_format": "rle"}, "save_overlay"),
        ({"output_format": "jpg"}, "save_overlay=true"),
        ({"output_format": "webp", "return_zip": False, "mask_only": True}, "always PNG"),
        ({"return_zip": False, "apply_mask": True, "annotation_format": "coco"}, "return_zip=true"),
        ({"return_zip": False, "mask_only": True, "annotation_format": "coco"}, "return_zip=true"),
        ({"return_zip": False, "save_overlay": True, "annotation_format": "rle"}, "save_overlay"),
        ({"return_zip": False, "save_overlay": True, "apply_mask": True}, "save_overlay"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_it(wrong: dict, named: str) -> None:
    with pytest.raises(InputError) as caught:
        Output(**wrong)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
    assert len(message) < 250


def test_a_format_too_small_for_the_image_is_refused_before_any_work(tmp_path: Path) -> None:
    size = (20, 16_384)
    wide, found = Image(photo(size), "PNG"), instances_of([disc(size, (9, 99), 9)])
    with pytest.raises(InputError, match=r"at most 16383 pixels a side.*16384×20"):
        save(wide, found, Output(return_zip=False, output_format="webp"), tmp_path)
    path = save(wide, found, Output(return_zip=False, output_format="jpg"), tmp_path)
    assert read(path.read_bytes()).shape == (*size, 3)


@pytest.mark.parametrize("output", [Output(), Output(return_zip=False)])
def test_a_vanished_folder_is_an_output_error(tmp_path: Path, output: Output) -> None:
    with pytest.raises(OutputError, match=r"cannot be written to .*gone .*choose another"):
        save(IMAGE, FOUND, output, tmp_path / "gone")


# macOS has no such file; Linux, where the container and CI run, always has.
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full disk")
@pytest.mark.parametrize(
    ("output", "name"), [(Output(), "masks.zip"), (Output(return_zip=False), "overlay.png")]
)
def test_a_full_disk_is_an_output_error(tmp_path: Path, output: Output, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"No space left.*free some disk space"):
        save(IMAGE, FOUND, output, tmp_path)


def test_memory_does_not_grow_with_the_number_of_instances(tmp_path: Path) -> None:
    low = [ring((32, 32), (16, 16), 15)] * 60  # each nearly fills the image
    size = (1500, 1500)
    found = dataclasses.replace(instances_of(low), size=size)
    image = Image(np.zeros((*size, 3), np.uint8), "PNG")
    output = Output(save_overlay=True, annotation_format="rle")
    tracemalloc.start()
    save(image, found, output, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    all_masks = 60 * size[0] * size[1]
    assert peak < all_masks / 2


def test_no_thread_outlives_a_result_or_a_failure(tmp_path: Path) -> None:
    before = threading.active_count()
    save(IMAGE, FOUND, Output(), tmp_path)
    with pytest.raises(OutputError):
        save(IMAGE, FOUND, Output(), tmp_path / "gone")
    assert threading.active_count() == before


def test_the_formats_limits_are_those_of_the_encoders() -> None:
    for name in ("jpg", "webp"):
        form = PICTURE_FORMATS[name]
        largest = form.encode(np.zeros((1, form.largest_side, 3), np.uint8))
        assert read(largest).shape[0] == 1
