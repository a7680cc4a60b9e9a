"""Parity: our pipeline beside plain transformers on the same checkpoint, in float32.

Both start from the image's pixels and end at full-size masks. The plain pipeline is
`benchmarks.plain`: as in transformers' documentation for `SAM3_REFERENCE=transformers`, and called
as `tools.demo_checkpoint.as_meta` says for the default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Sam3TrackerModel, Sam3TrackerProcessor

from benchmarks import plain
from sam3_image.masks.detections import Detections
from sam3_image.model.compatibility import META, TRANSFORMERS, Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.prompts import Find, Pick, Prompts
from sam3_image.model.segmenter import Segmenter
from sam3_image.model.weights.checkpoint import Checkpoint
from tests.helpers import second_scenes
from tools.demo_checkpoint.as_meta import fill_holes, image_embeddings, set_epsilon

CPU = Placement(torch.device("cpu"), torch.float32)
SEEDS = range(31)  # for text, which the drop-in interface promises
FEWER = range(8)  # for each of the ten other kinds of prompt
TEXTS = ["red circle", "blue square", "striped star", "circle", "person"]
# Low, so that there are always masks to compare, also of weak instances.
THRESHOLD = 0.001
# Of all pixels, how many may differ because a sum was rounded in another order.
PIXELS = 1e-6
NUMBERS = 1e-5


@pytest.fixture(scope="module", params=[TRANSFORMERS, META], ids=lambda mode: mode.name)
def reference(request: pytest.FixtureRequest) -> Compatibility:
    return request.param


@pytest.fixture(scope="module")
def ours(weights: Path, reference: Compatibility) -> Callable[..., Detections]:
    segmenter = Segmenter(Checkpoint.open(weights), CPU, reference=reference)
    assert segmenter._heads[Pick] is not None
    give_memory_embedding(segmenter._heads[Pick].tracker)

    def run(image: Image.Image, mask_threshold: float = 0.5, **fields: Any) -> Detections:
        pixels = np.array(image)
        request = Prompts(**fields).on(pixels.shape[:2])
        features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
        return segmenter.segment(features, request, mask_threshold)

    return run


@pytest.fixture(scope="module")
def detector(weights: Path, reference: Compatibility) -> plain.Plain:
    loaded = plain.load(weights, as_meta=reference is META)
    align(loaded.model)
    return loaded


@pytest.fixture(scope="module")
def tracker(weights: Path, reference: Compatibility) -> tuple[Any, Any]:
    model = Sam3TrackerModel.from_pretrained(weights).eval()
    give_memory_embedding(model)
    if reference is META:
        set_epsilon(model)
    return Sam3TrackerProcessor.from_pretrained(weights), model


def align(model: torch.nn.Module) -> None:
    """Move the weights to aligned memory, as ours are.

    transformers leaves them where the file has them, often at addresses where MKL sums the product
    of a single row in another order: on AMD with AVX-512 that shows in the last digit.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


@torch.no_grad()
def give_memory_embedding(tracker: Sam3TrackerModel) -> None:
    """Make it count where it is added: the demo checkpoint's own is zero."""
    tracker.no_memory_embedding.normal_(generator=torch.Generator().manual_seed(0))


@cache
def scene(seed: int) -> tuple[Image.Image, Sequence[second_scenes.Drawn]]:
    """A picture of its own size and shape for every seed, and what is drawn in it."""
    return second_scenes.random_picture(seed=seed)


def assert_equal(mine: Detections, theirs: dict[str, torch.Tensor], image: Image.Image) -> int:
    """Scores and boxes are the same; returns how many pixels of the masks differ."""
    order = theirs["scores"].argsort(descending=True, stable=True)
    assert len(mine) == len(order)
    np.testing.assert_allclose(mine.scores, theirs["scores"][order].numpy(), atol=NUMBERS)
    scale = np.array([image.width, image.height] * 2)
    boxes = theirs["boxes"][order].numpy()
    np.testing.assert_allclose(mine.boxes / scale, boxes / scale, atol=NUMBERS)
    pairs = zip(mine.masks(), theirs["masks"][order].numpy(), strict=True)
    return sum(int((a.full() != b.astype(bool)).sum()) for a, b in pairs)


def test_text(
    ours: Callable[..., Detections], detector: plain.Plain, reference: Compatibility
) -> None:
    differing = compared = 0
    for seed in SEEDS:
        image, _ = scene(seed)
        text = TEXTS[seed % len(TEXTS)]
        inputs = plain.preprocess(detector.processor, image, text=text)
        size = (image.height, image.width)
        for mask_threshold in (0.5, 0.3) if seed in FEWER else (0.5,):
            outputs = plain.infer(detector, inputs)
            theirs = plain.post_process(
                detector.processor, outputs, size, THRESHOLD, mask_threshold, detector.as_meta
            )
            mine = ours(image, mask_threshold, prompt=text, threshold=THRESHOLD)
            differing += assert_equal(mine, theirs, image)
            compared += theirs["masks"].numel()
    assert compared > 5_000_000
    assert differing <= compared * PIXELS


def test_text_with_the_token_0(ours: Callable[..., Detections], detector: plain.Plain) -> None:
    """An "!" before "<", which Meta's way leaves out of the prompt."""
    for seed in range(2):
        image, _ = scene(seed)
        inputs = plain.preprocess(detector.processor, image, text="circle !<")
        assert 0 in inputs["input_ids"]
        outputs = plain.infer(detector, inputs)
        size = (image.height, image.width)
        theirs = plain.post_process(
            detector.processor, outputs, size, 0.0, as_meta=detector.as_meta
        )
        assert_equal(ours(image, prompt="circle !<", threshold=0.0), theirs, image)


def test_masks_of_meta_s_way_are_upsampled_logits_in_every_pixel(weights: Path) -> None:
    """24 texts on as many scenes, each mask beside torch's own upsampling of the same logits."""
    segmenter = Segmenter(Checkpoint.open(weights), CPU, reference=META)
    compared = 0
    for seed in range(24):
        image, objects = scene(seed)
        features = segmenter.encode(segmenter.prepare(np.array(image), segmenter.side(100)))
        request = Find((objects[0].name if objects else "circle",), THRESHOLD)
        with torch.inference_mode():
            outputs = segmenter._heads[Find]._forward(features, request.concepts, request)
            full = F.interpolate(outputs.pred_masks, features.size, mode="bilinear")[0] > 0
            scores = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0]
        found = segmenter.segment(features, request)
        kept = np.flatnonzero(scores > THRESHOLD)
        order = kept[np.argsort(-scores[kept].numpy(), kind="stable")]
        assert len(found) == len(order)
        for mask, index in zip(found.masks(), order, strict=True):
            np.testing.assert_array_equal(mask.full(), full[index].numpy())
            compared += mask.area
    assert compared > 100_000


@pytest.mark.parametrize("text", [None, "circle"])
@pytest.mark.parametrize("labels", [[1], [1, 0]])
def test_exemplar_boxes(
    ours: Callable[..., Detections], detector: plain.Plain, text: str | None, labels: list[int]
) -> None:
    differing = compared = 0
    for seed in FEWER:
        image, objects = scene(seed)
        if len(objects) < len(labels):
            continue
        boxes = [list(drawn.box) for drawn in objects[: len(labels)]]
        inputs = plain.preprocess(
            detector.processor, image, text=text, input_boxes=[boxes], input_boxes_labels=[labels]
        )
        size = (image.height, image.width)
        outputs = plain.infer(detector, inputs)
        theirs = plain.post_process(
            detector.processor, outputs, size, THRESHOLD, as_meta=detector.as_meta
        )
        fields = {"prompt": text} if text else {}
        mine = ours(image, boxes=str(boxes), box_labels=str(labels), threshold=THRESHOLD, **fields)
        assert set(mine.concepts) <= {text or "example"}
        differing += assert_equal(mine, theirs, image)
        compared += theirs["masks"].numel()
    assert compared > 500_000
    assert differing <= compared * PIXELS


def test_a_text_alone_is_answered_the_same_to_the_last_digits(
    ours: Callable[..., Detections], detector: plain.Plain, reference: Compatibility
) -> None:
    """Without boxes transformers' way passes none on; Meta's has the CLS token in their place."""
    image, _ = scene(3)
    before = ours(image, prompt="circle", threshold=0.0)
    inputs = plain.preprocess(detector.processor, image, text="circle")
    outputs = plain.infer(detector, inputs)
    scores = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0]
    # Plain transformers computes the CLS token beside a box that is masked out, and ours alone.
    last = 0 if reference is TRANSFORMERS else 1e-6
    np.testing.assert_allclose(
        before.scores, scores.sort(descending=True).values, rtol=0, atol=last
    )


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kind", ["points", "box", "both"])
def test_pick(
    ours: Callable[..., Detections],
    tracker: tuple[Any, Any],
    reference: Compatibility,
    kind: str,
    multimask: bool,
) -> None:
    processor, model = tracker
    differing = compared = 0
    for seed in FEWER:
        image, objects = scene(seed)
        if not objects:
            continue
        box = list(objects[-1].box)
        points, labels = [[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], [1.0, 2.0]], [1, 0]
        prompts: dict[str, Any] = {}
        fields: dict[str, str] = {}
        if kind != "box":
            prompts |= {"input_points": [[points]], "input_labels": [[labels]]}
            fields |= {"points": str(points), "point_labels": str(labels)}
        if kind != "points":
            prompts |= {"input_boxes": [[box]]}
            fields |= {"boxes": str([box])}
        inputs = processor(images=image, return_tensors="pt", **prompts)
        if reference is META:
            inputs["image_embeddings"] = image_embeddings(model, inputs.pop("pixel_values"))
        with torch.inference_mode():
            outputs = model(**inputs, multimask_output=multimask)
        logits = fill_holes(outputs.pred_masks) if reference is META else outputs.pred_masks
        masks = processor.post_process_masks(logits, inputs["original_sizes"])[0][0]
        scores = outputs.iou_scores[0, 0]
        order = scores.argsort(descending=True, stable=True)
        mine = ours(image, task="visual", multimask_output=multimask, **fields)
        assert len(mine) == (3 if multimask else 1)
        np.testing.assert_allclose(mine.scores, scores[order].numpy(), atol=NUMBERS)
        for theirs, ours_mask in zip(masks[order].numpy(), mine.masks(), strict=True):
            differing += int((ours_mask.full() != theirs).sum())
            compared += theirs.size
    assert compared > 500_000
    assert differing <= compared * PIXELS
