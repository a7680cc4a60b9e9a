"""The segmenter beside plain transformers on the same weights: one encoder pass, same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Sam3Model, Sam3VideoConfig
from transformers.models.sam3 import modeling_sam3

from benchmarks.agreement import questions
from sam3_image.errors import DeviceError
from sam3_image.masks import LowResMasks
from sam3_image.model import finder
from sam3_image.model.cache import TensorCache
from sam3_image.model.compatibility import TRANSFORMERS
from sam3_image.model.device import Placement
from sam3_image.model.prompts import Find, Pick, Target
from sam3_image.model.segmenter import CacheBudget, Segmenter
from sam3_image.model.transfer import pixel_values
from sam3_image.model.transformers_adapter import position_encoding
from sam3_image.model.weights.checkpoint import Checkpoint

CPU = Placement(torch.device("cpu"), torch.float32)
RED = Find(("red circle",), 0.0)


@pytest.fixture(scope="module")
def segmenter(tiny_weights: Path) -> Segmenter:
    return Segmenter(Checkpoint.open(tiny_weights), CPU)


def picture(seed: int = 0, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def test_the_same_picture_is_encoded_once(segmenter: Segmenter) -> None:
    segmenter.forget()
    side = segmenter.side(100)
    first = segmenter.encode(segmenter.prepare(picture(), side))
    again = segmenter.encode(segmenter.prepare(picture().copy(), side))
    other = segmenter.encode(segmenter.prepare(picture(1), side))
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert torch.equal(first.hidden, again.hidden)
    assert not torch.equal(first.hidden, other.hidden)


def test_another_resolution_is_another_encoding(segmenter: Segmenter) -> None:
    segmenter.forget()
    full = segmenter.encode(segmenter.prepare(picture(), segmenter.side(100)))
    half = segmenter.encode(segmenter.prepare(picture(), segmenter.side(50)))
    assert not half.cached
    assert half.hidden.shape[-1] * 2 == full.hidden.shape[-1]


@pytest.mark.parametrize("percent", [50, 100])
def test_every_resolution_equals_transformers_configured_for_it(
    tiny_weights: Path, percent: int
) -> None:
    """At 100 exactly today's path; below, what a model made for that image size computes."""
    segmenter = Segmenter(Checkpoint.open(tiny_weights), CPU, reference=TRANSFORMERS)
    side = segmenter.side(percent)
    config = Sam3VideoConfig.from_pretrained(tiny_weights)
    config.detector_config.vision_config.image_size = side
    config.detector_config.vision_config.backbone_config.image_size = side
    plain = Sam3Model.from_pretrained(tiny_weights, config=config)
    tokens = segmenter._texts.tokenizer(
        "red circle", padding="max_length", max_length=32, return_tensors="pt"
    )
    with torch.inference_mode():
        outputs = plain(pixel_values=pixel_values(picture(), side), **tokens)
    ours = segmenter.segment(segmenter.encode(segmenter.prepare(picture(), side)), RED)
    scores = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
    order = scores[0].argsort(descending=True, stable=True)
    np.testing.assert_allclose(ours.scores, scores[0, order], atol=1e-5)
    np.testing.assert_allclose(
        ours.source.values, outputs.pred_masks[0, order].sigmoid(), atol=1e-5
    )
    assert ours.source.values.shape[-1] == side // 14 * 4


def test_resolutions_are_whole_windows(segmenter: Segmenter) -> None:
    """112 pixels, patches of 14, windows of 4: steps of 56."""
    assert [segmenter.side(percent) for percent in (25, 50, 51, 99, 100)] == [56, 56, 112, 112, 112]


def test_several_concepts_equal_the_same_one_by_one(segmenter: Segmenter) -> None:
    names = ["red circle", "blue star", "a", "green", "ring", "red circle"]  # more than one chunk
    features = segmenter.encode(segmenter.prepare(picture(), segmenter.side(100)))
    together = segmenter.segment(features, Find(tuple(names), 0.0))
    for index, name in enumerate(names):
        alone = segmenter.segment(features, Find((name,), 0.0))
        mine = together.take(np.flatnonzero(together.prompts == index))
        assert set(mine.concepts) == {name}
        np.testing.assert_allclose(mine.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(mine.source.values, alone.source.values, atol=1e-4)
    assert list(together.scores) == sorted(together.scores, reverse=True)


def test_both_tasks_share_one_backbone(segmenter: Segmenter) -> None:
    features = segmenter.encode(segmenter.prepare(picture(), segmenter.side(100)))
    segmenter.segment(features, Pick((Target(points=((5.0, 5.0),), labels=(1,)),), False))
    assert segmenter._heads[Pick] is not None
    detector, tracker = segmenter._heads[Find].detector, segmenter._heads[Pick].tracker
    assert tracker.vision_encoder.backbone is detector.vision_encoder.backbone


@pytest.mark.parametrize("percent", [50, 100])
def test_pick_works_at_every_resolution(segmenter: Segmenter, percent: int) -> None:
    features = segmenter.encode(segmenter.prepare(picture(), segmenter.side(percent)))
    targets = (Target(box=(10.0, 10.0, 50.0, 60.0)), Target(box=(60.0, 10.0, 90.0, 60.0)))
    assert len(segmenter.segment(features, Pick(targets, False))) == 2
    three = segmenter.segment(features, Pick(targets[:1], True))
    assert sorted(three.candidates) == [0, 1, 2]
    assert list(three.scores) == sorted(three.scores, reverse=True)


def test_half_precision_runs_through_every_path(tiny_weights: Path) -> None:
    half = Segmenter(Checkpoint.open(tiny_weights), Placement(CPU.device, torch.bfloat16))
    features = half.encode(half.prepare(picture(), half.side(100)))
    exemplar = Find(("a",), 0.0, ((1.0, 1.0, 50.0, 50.0),), (1,))
    for request in (RED, exemplar, Pick((Target(box=(1.0, 1.0, 50.0, 50.0)),), True)):
        found = half.segment(features, request)
        assert found.scores.dtype == found.boxes.dtype == np.float32
        assert len(found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_maps_leave_in_two_bytes_and_nothing_is_lost(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 maps are 66 MB in float32, and the device waits for the copy."""
    logits = (torch.randn(2, 5, 16, 16, generator=torch.manual_seed(0)) * 20).to(dtype)
    logits[0, 1, 0, :4] = torch.tensor([3e38, -3e38, 1e-30, -1e-30]).to(dtype)
    kept = (np.array([0, 0, 1]), np.array([1, 4, 0]))
    moved: list[torch.Tensor] = []
    monkeypatch.setattr(finder, "to_host", lambda values: moved.append(values) or values.numpy())
    maps = finder._selected(logits, kept)
    assert sum(values.nbytes for values in moved) == (
        0 if dtype is torch.float32 else maps.size * 2
    )
    expected = logits[torch.from_numpy(kept[0]), torch.from_numpy(kept[1])].float().numpy()
    ordinary = (np.abs(expected) < 3e4) & (np.abs(expected) > 1e-7)
    np.testing.assert_array_equal(maps.astype(np.float32)[ordinary], expected[ordinary])
    assert (np.sign(maps) == np.sign(expected))[np.abs(expected) > 1e-7].all()
    assert np.isfinite(maps[np.isfinite(expected)]).all()


def test_masks_of_two_byte_maps_are_those_of_the_same_values_in_float32() -> None:
    values = (np.random.default_rng(0).normal(0, 5, (2, 12, 12))).astype(np.float16)
    narrow = LowResMasks.of_logits(values, 0.5, (50, 70))
    wide = LowResMasks.of_logits(values.astype(np.float32), 0.5, (50, 70))
    for index in range(2):
        assert np.array_equal(narrow.mask(index).inside, wide.mask(index).inside)


def test_numbers_leave_the_device_at_once(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each copy to the host waits until the device has done all that was asked of it."""
    moved: list[tuple[int, ...]] = []

    def to_host(values: torch.Tensor) -> np.ndarray:
        moved.append(tuple(values.shape))
        return values.numpy()

    monkeypatch.setattr(finder, "to_host", to_host)
    features = segmenter.encode(segmenter.prepare(picture(), segmenter.side(100)))
    segmenter.segment(features, Find(("red circle", "a", "b", "c"), 0.5))
    assert len(moved) == 1


@pytest.mark.parametrize("task", [RED, Pick((Target(box=(1.0, 1.0, 50.0, 50.0)),), False)])
def test_scores_that_overflowed_are_an_error(tiny_weights: Path, task: Find | Pick) -> None:
    """NaN is not above any threshold: without a check it would read as "nothing found"."""
    half = Segmenter(Checkpoint.open(tiny_weights), Placement(CPU.device, torch.float16))
    features = half.encode(half.prepare(picture(), half.side(100)))
    head = half._heads[type(task)]
    layer = (
        head.detector.dot_product_scoring.query_proj
        if isinstance(task, Find)
        else head.tracker.mask_decoder.pred_obj_score_head.proj_out
    )
    layer.bias.data.fill_(float("nan"))
    with pytest.raises(DeviceError, match="SAM3_DTYPE to bfloat16 or float32") as caught:
        half.segment(features, task)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def exact(weights: Path) -> Segmenter:
    return Segmenter(Checkpoint.open(weights), CPU)


# float16 has no fast products on a CPU.
@pytest.mark.parametrize(("dtype", "count"), [(torch.bfloat16, 18), (torch.float16, 3)], ids=str)
def test_half_precision_answers_as_float32_does(
    weights: Path, exact: Segmenter, dtype: torch.dtype, count: int
) -> None:
    """On a GPU it is the default: boxes within 1 ‰ of the image's side, the same instances."""
    half = Segmenter(Checkpoint.open(weights), Placement(CPU.device, dtype))
    pairs = 0
    for pixels, question in questions(count):
        one, other = (
            model.segment(model.encode(model.prepare(pixels, model.side(100))), question)
            for model in (exact, half)
        )
        assert len(one) == len(other)
        np.testing.assert_allclose(other.scores, one.scores, atol=0.02)
        sides = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        for index in range(len(one)):
            ious = [one.mask(index).iou(mask) for mask in other.masks()]
            nearest = int(np.argmax(ious))
            assert ious[nearest] > 0.95
            if isinstance(question, Find):
                difference = np.abs(other.boxes[nearest] - one.boxes[index]) / sides
                assert difference.max() < 1e-3
            pairs += 1
    assert pairs >= 2


def test_coordinates_are_float32_until_they_are_read(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[torch.Tensor] = []

    def noted(function: Any, place: int) -> Any:
        def call(*values: Any) -> Any:
            read.extend(values[place] if isinstance(values[place], tuple) else [values[place]])
            return function(*values)

        return call

    encoding = modeling_sam3.Sam3SinePositionEmbedding
    monkeypatch.setattr(encoding, "encode_1d_positions", noted(encoding.encode_1d_positions, 1))
    monkeypatch.setattr(encoding, "encode_boxes", noted(encoding.encode_boxes, 1))
    regions = modeling_sam3.torchvision.ops
    monkeypatch.setattr(regions, "roi_align", noted(regions.roi_align, 1))
    half = Segmenter(Checkpoint.open(weights), Placement(CPU.device, torch.bfloat16))
    features = half.encode(half.prepare(picture(), half.side(100)))
    half.segment(features, Find(("star",), 0.0, ((7.0, 9.0, 50.0, 60.0),), (1,)))
    layers = len(half._heads[Find].detector.detr_decoder.layers)
    assert len(read) > layers
    assert {one.dtype for one in read} == {torch.float32}


class Reads(TorchDispatchMode):
    """Counts how often a value is read back from a tensor, for which a GPU has to be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in ("item", "is_nonzero", "_local_scalar_dense")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("task", [RED, Pick((Target(((5.0, 5.0),), (1,)),), True)])
def test_nothing_is_read_back_while_the_heads_run(exact: Segmenter, task: Find | Pick) -> None:
    features = exact.encode(exact.prepare(picture(), exact.side(100)))
    exact.segment(features, task)
    with Reads() as reads:
        exact.segment(features, task)
    assert reads.count == 0
    if isinstance(task, Find):  # the text encoder asks twice about the mask of a new text
        with Reads() as reads:
            exact.segment(features, Find(("blue star",), 0.0))
        assert reads.count <= 2


def test_positions_are_rounded_once(weights: Path, exact: Segmenter) -> None:
    detector = exact._heads[Find].detector
    level = torch.zeros(1, 8, 72, 72)
    single = position_encoding(detector, level)
    half = position_encoding(detector, level.to(torch.bfloat16))
    assert torch.equal(half, single.to(torch.bfloat16))


def test_caches_stay_within_their_budget(tiny_weights: Path) -> None:
    segmenter = Segmenter(Checkpoint.open(tiny_weights), CPU, CacheBudget(150_000, 20_000))
    for seed in range(6):
        features = segmenter.encode(segmenter.prepare(picture(seed), segmenter.side(100)))
        segmenter.segment(features, Find((f"circle {seed}",), 0.0))
        assert segmenter._features.used <= 150_000
        assert segmenter._texts.cache.used <= 20_000
    assert segmenter._features.used > 0


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    def tensor() -> tuple[torch.Tensor, ...]:
        return (torch.zeros(10, dtype=torch.uint8),)

    cache = TensorCache(budget=25)
    cache.get_or_make("a", tensor)
    cache.get_or_make("b", tensor)
    cache.get("a")
    cache.get_or_make("c", tensor)
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    cache.get_or_make("large", lambda: (torch.zeros(26, dtype=torch.uint8),))
    assert cache.get("large") is None
    assert cache.used == 20


def test_thirty_two_tokens_pass_and_thirty_three_are_counted(segmenter: Segmenter) -> None:
    from sam3_image.errors import InputError

    def text(tokens: int) -> str:
        return " ".join("a" for _ in range(tokens))

    words = next(
        n for n in range(1, 64) if len(segmenter._texts.tokenizer(text(n)).input_ids) >= 32
    )
    assert len(segmenter._texts.tokenizer(text(words)).input_ids) == 32
    segmenter.check_texts([text(words)])
    with pytest.raises(InputError, match="33 tokens"):
        segmenter.check_texts([text(words + 1)])
