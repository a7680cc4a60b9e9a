"""everything, masks as prompts, several objects in one request, and boxes for each text.

The figures on many images are those of `tools.everything_figures`, by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import sam3_image
from sam3_image.errors import InputError
from sam3_image.masks import rle
from sam3_image.model import Everything, Pick, Segmenter, Target
from sam3_image.model import everything as module
from sam3_image.model.picker import low_res_logits
from sam3_image.model.transformers_adapter import (
    candidate_masks,
    decode_masks,
    decode_points,
    embed_prompts,
    fine_features,
)
from sam3_image.report import Report
from sam3_image.request import Request
from sam3_image.serving import CanceledError, Service
from sam3_image.settings import Settings
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.large_scenes import crowd
from tests.helpers.second_scenes import arranged, iou
from tests.http.test_prompts_http import central

SHAPES = REPOSITORY / "examples" / "shapes.png"
NAMES = ["red circle", "blue square", "green star", "yellow heart", "purple ring", "black cross"]


@pytest.fixture(scope="module")
def sam(weights: Path) -> Iterator[sam3_image.Sam]:
    with sam3_image.load(weights, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def segmenter(sam: sam3_image.Sam) -> Segmenter:
    assert sam._model is not None
    return sam._model


def test_every_object_is_found_once(sam: sam3_image.Sam) -> None:
    image, drawn = arranged(NAMES)
    found = sam.everything(image, points_per_side=12)
    assert len(found) == len(drawn)
    assert set(found.concepts) == {"object"}
    assert list(found.scores) == sorted(found.scores, reverse=True)
    for one in drawn:
        assert max(iou(other.mask, one.mask) for other in found) > 0.85
    for one in found:
        assert one.box == one.region.box


def test_nothing_there_is_an_empty_answer(sam: sam3_image.Sam) -> None:
    plain = np.full((120, 160, 3), 200, dtype=np.uint8)
    assert len(sam.everything(plain, points_per_side=4)) == 0
    assert len(sam.everything(plain, points_per_side=4, tile_size=64, min_area=5)) == 0
    # No pixel is above a threshold of 1, and every one above 0: the image is one object.
    assert len(sam.everything(SHAPES, points_per_side=4, mask_threshold=1.0)) == 0
    (all_of_it,) = sam.everything(SHAPES, points_per_side=4, mask_threshold=0.0, threshold=0.0)
    assert all_of_it.mask.all()


def test_objects_of_a_crowd_are_found_once_with_tiles(sam: sam3_image.Sam) -> None:
    image, drawn = crowd(3, (700, 500), 14, (36, 84))
    found = list(sam.everything(image, points_per_side=12, tile_size=350))
    hits = [[one for one in drawn if iou(one.mask, other.mask) >= 0.5] for other in found]
    assert all(len(own) == 1 for own in hits)
    assert len({id(own[0]) for own in hits}) == len(drawn)


def test_it_goes_with_refine_and_the_selection(sam: sam3_image.Sam) -> None:
    image, drawn = arranged(NAMES)
    largest = max(one.mask.sum() for one in drawn)
    found = sam.everything(image, points_per_side=12, refine=True, min_area=int(largest) - 900)
    assert 0 < len(found) < len(drawn)
    assert len(sam.everything(image, points_per_side=12, max_instances=2)) == 2
    assert len(sam.everything(image, points_per_side=12, threshold=0.9999)) == 0


@torch.inference_mode()
def test_the_two_halves_of_the_decoder_are_the_decoder(segmenter: Segmenter) -> None:
    pixels = np.asarray(Pillow.open(SHAPES).convert("RGB"))
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    picker = segmenter._heads[Pick]
    levels = picker.levels(features)
    points = torch.rand((5, 2), generator=torch.Generator().manual_seed(1)) * 336
    labels = torch.ones((1, 5, 1), dtype=torch.long)
    prompts = embed_prompts(picker.tracker, levels[-1], points[None, :, None], labels, None)
    logits, scores, presence = decode_masks(picker.tracker, levels, *prompts, multimask=True)
    decoded = decode_points(picker.tracker, levels[-1], points)
    fine = fine_features(picker.tracker, levels)
    chosen = torch.tensor([4, 1])
    torch.testing.assert_close(decoded.scores, scores[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.presence, presence[0, :, 0], atol=1e-3, rtol=1e-4)
    masks = candidate_masks(picker.tracker, fine, decoded, chosen)
    torch.testing.assert_close(masks, logits[0, chosen], atol=1e-2, rtol=1e-3)


def test_work_and_memory_are_bounded(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step decodes more than so many points, and no more objects are kept than the most."""
    pixels = np.asarray(Pillow.open(SHAPES).convert("RGB"))
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    counts: list[int] = []
    real = module.decode_points

    def counted(tracker: Any, high: torch.Tensor, points: torch.Tensor) -> Any:
        counts.append(len(points))
        return real(tracker, high, points)

    monkeypatch.setattr(module, "decode_points", counted)
    monkeypatch.setattr(module, "MOST_OBJECTS", 3)
    done: list[tuple[int, int]] = []
    task = Everything(12)
    found = segmenter.segment(features, task, progress=lambda *now: done.append(now))
    assert sum(counts) == 144
    assert max(counts) <= module.TURN_POINTS
    assert done == [(n, 4) for n in range(1, 5)]  # 144 points in three turns, and their sum
    assert len(found) == 3


def test_a_canceled_request_ends_between_two_turns(weights: Path) -> None:
    service = Service(Settings.from_environment({"SAM3_WEIGHTS": str(weights)}), print)
    try:
        seen: list[int] = []

        def progress(done: int, total: int) -> None:
            seen.append(done)
            job.cancel()

        request = Request.from_inputs(task="everything", points_per_side=64)
        job = service.submit(SHAPES, request, Report(progress=progress))
        with pytest.raises(CanceledError):
            job.result(timeout=60)
        service.open(SHAPES)  # a thread of the pool is free again
        assert seen == [1]
    finally:
        service.close()


def test_so_many_points_and_no_more(sam: sam3_image.Sam) -> None:
    image = np.zeros((500, 500, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="65,536 points in each of 122 looks") as caught:
        sam.everything(image, points_per_side=256, tile_size=64)
    assert "give at most 23, or a larger tile_size" in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"prompt": "star"}, "not with task='everything', which needs no prompt"),
        ({"points": [[1, 2]]}, "lays a grid of its own: give points_per_side"),
        ({"boxes": [[1, 2, 3, 4]]}, "boxes go with task='concept' and task='visual'"),
        ({"mask_image": np.ones((2, 2), bool)}, "mask_image goes with task='visual'"),
        ({"points_per_side": 0}, "points_per_side is 0; give a whole number from 1 to 256"),
        ({"reference_image": b"", "reference_boxes": [[1, 2, 3, 4]]}, "finds all objects"),
    ],
)
def test_what_does_not_go_with_everything(inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.from_inputs(task="everything", **inputs)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_objects_are_answered_as_each_alone(sam: sam3_image.Sam) -> None:
    image, drawn = arranged(NAMES)
    points = [[central(one.mask)] for one in drawn]
    labels = [[1] for _ in drawn]
    points[1].append((5.0, 5.0))  # another number of points, one of them off the object
    labels[1].append(0)
    found = sam.pick(image, points=points, point_labels=labels)
    assert sorted(found.prompts.tolist()) == list(range(len(drawn)))
    for one in found:
        index = one.prompt
        (alone,) = sam.pick(image, points=points[index], point_labels=labels[index])
        assert alone.score == pytest.approx(one.score, abs=1e-4)
        assert iou(alone.mask, one.mask) > 0.999
    candidates = sam.pick(image, points=points, point_labels=labels, multimask_output=True)
    assert np.bincount(candidates.prompts).tolist() == [3] * len(drawn)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"points": [[1, 2], [[3, 4]]]}, "points[1] is [[3, 4]]"),
        ({"points": [[[1, 2]], [3, 4]]}, "points[1][0] is 3"),
        ({"points": [[[1, 2]], []]}, "points[1] has 0 entries"),
        ({"points": [[[[1, 2]]]]}, "points[0][0] is [[1, 2]]"),
        ({"points": [[[1, 2]]] * 65}, "points has 65 entries; give 1 to 64"),
        ({"points": [[[1, 2]], [[3, 4]]], "point_labels": [1, 1]}, "[[1, 0, …], …]"),
        ({"points": [[[1, 2]], [[3, 4]]], "point_labels": [[1]]}, "points has 2 objects"),
        ({"points": [[[1, 2]], [[3, 4]]], "point_labels": [[1], [0]]}, "point_labels[1] are all 0"),
        ({"points": [[[1, 2]], [[3, 4]]], "boxes": [[1, 2, 3, 4]]}, "give only one of the two"),
        ({"points": [[[1, 2]], [[3, 4]]], "mask_image": b"x"}, "mask_image shows one object"),
        ({"mask_image": 3}, "mask_image is 3; give an image"),
        ({"mask_image": "/etc/passwd"}, "mask_image is '/etc/passwd'; give an image"),
    ],
)
def test_refused_prompts_of_a_pick(inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.from_inputs(task="visual", **inputs)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_becomes_logits_as_large_as_metas() -> None:
    shape = (12, 12)
    mask = np.zeros((60, 36), dtype=bool)
    mask[:30] = True
    logits = low_res_logits(mask, shape)
    assert logits.shape == shape
    assert (logits[:5] == 10).all()
    assert (logits[-5:] == -10).all()
    own = np.linspace(-50, 50, 144, dtype=np.float32).reshape(shape)
    assert np.array_equal(low_res_logits(own, shape), own.clip(-32, 32))


def test_a_mask_is_a_prompt_in_every_form(tiny_weights: Path) -> None:
    """With random weights, so it shows that the mask is read, and read alike."""
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    mask = np.zeros((90, 120), dtype=bool)
    mask[20:60, 30:80] = True
    with sam3_image.load(tiny_weights, device="cpu") as sam:
        (alone,) = sam.pick(image, mask=mask)
        clicks = {"points": [[50, 40]]}
        (plain,) = sam.pick(image, **clicks)
        (clicked,) = sam.pick(image, mask=mask, **clicks)
        (on,) = sam.pick(image, mask=plain, **clicks)
        white = Pillow.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
        forms: list[Any] = [white, torch.from_numpy(mask), rle.encode(alone.region)]
        (drawn,) = sam.pick(image, mask_image=forms[0])
        (tensor,) = sam.pick(image, mask=forms[1])
        assert drawn.score == tensor.score == alone.score
        assert len({alone.score, plain.score, clicked.score, on.score}) == 4
        sam.pick(image, mask_image=forms[2], **clicks)  # run lengths, as the page sends them
        with pytest.raises(InputError, match=r"\[1, 1\], and the image is \[90, 120\]"):
            sam.pick(image, mask_image={"size": [1, 1], "counts": "0"}, **clicks)
        with pytest.raises(InputError, match="mask_image shows no object"):
            sam.pick(image, mask=np.zeros((4, 4), dtype=bool))
        with pytest.raises(InputError, match=r"mask is of int64, \(2,\)"):
            sam.pick(image, mask=np.array([1, 2]))


def test_the_logits_of_an_answer_are_passed_on_as_they_are(segmenter: Segmenter) -> None:
    pixels = np.asarray(Pillow.open(SHAPES).convert("RGB"))
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    first = segmenter.segment(features, Pick((Target(((500.0, 300.0),), (1,)),), False))
    assert first.logits is not None
    assert np.abs(first.logits).max() <= 32
    points, labels = ((500.0, 300.0), (520.0, 310.0)), (1, 1)
    target = Target(points, labels, mask=first.logits[0])
    second = segmenter.segment(features, Pick((target,), False))
    assert second.logits is not None
    assert second.logits.shape == first.logits.shape


def test_each_text_has_boxes_of_its_own(sam: sam3_image.Sam) -> None:
    star = [float(value) for value in sam.find(SHAPES, "star")[0].box]
    prompts = ["red circle", {"boxes": [star]}, {"text": "star", "boxes": [star]}]
    found = sam.find(SHAPES, prompts)
    alone = [
        sam.find(SHAPES, "red circle"),
        sam.find(SHAPES, boxes=[star]),
        sam.find(SHAPES, "star", boxes=[star]),
    ]
    for index, one in enumerate(alone):
        assert np.allclose(found[found.prompts == index].scores, one.scores, atol=1e-5)
        assert found[found.prompts == index].concepts == one.concepts


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ([{"txt": "a"}], "prompts[0] has 'txt'; an entry has text, boxes and box_labels"),
        ([{"text": 1}], "prompts[0].text is 1; give a text"),
        ([{}], "prompts[0].text is blank"),
        ([{"text": "a", "box_labels": [1]}], "prompts[0] has box_labels without boxes"),
        ([{"text": "a", "boxes": [[1, 2]]}], "prompts[0].boxes[0] is [1, 2]"),
        ([{"boxes": [[1, 2, 3, 4]], "box_labels": [2]}], "prompts[0].box_labels[0] is 2"),
    ],
)
def test_refused_entries_of_prompts(prompts: list[Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.from_inputs(prompts=prompts)
    assert sentence in str(caught.value)
