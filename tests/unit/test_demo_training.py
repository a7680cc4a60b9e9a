"""The path from nothing to a demo checkpoint is alive, and trains what transformers runs."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Sam3Model, Sam3TrackerModel

from tools.demo_checkpoint.concept_model import Words, answer, prompt_tensors
from tools.demo_checkpoint.config import IMAGE_SIZE
from tools.demo_checkpoint.losses import box_to_xyxy, generalised_iou, mask_error
from tools.demo_checkpoint.matching import match
from tools.demo_checkpoint.prompts import Prompt, PromptMix, lookalikes, sample_prompt
from tools.demo_checkpoint.scenes import SceneOptions, label_map, random_scene
from tools.demo_checkpoint.tokenizer import build_tokenizer
from tools.demo_checkpoint.training import _positions, new_detector, pyramid
from tools.demo_checkpoint.unknown import held_out_words, training_words
from tools.demo_checkpoint.vocabulary import known_words

ROOT = Path(__file__).resolve().parents[2]


def test_training_computes_what_transformers_computes() -> None:
    """Taking `Sam3Model` apart must not change it, with a box and with one that is masked out."""
    torch.manual_seed(0)
    model = new_detector(None).eval()
    # At its start the box head says "no change", which would hide an error in the boxes.
    torch.nn.init.normal_(model.detr_decoder.box_head.layer3.weight, std=0.05)
    words = Words(build_tokenizer())
    pixels = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    boxes = torch.tensor([[[0.2, 0.2, 0.5, 0.6]]])
    asked = [[Prompt("two words here", (), ()), Prompt("visual", ((0, True),), (0,))]]
    prompts = prompt_tensors(asked, boxes, words, torch.device("cpu"))
    with torch.inference_mode():
        levels = pyramid(model.vision_encoder, pixels)
        ours = answer(model, tuple(levels), _positions(model, torch.device("cpu")), prompts)
        for row in range(2):
            theirs = model(
                pixel_values=pixels,
                input_ids=prompts.ids[row : row + 1],
                attention_mask=prompts.text_mask[row : row + 1],
                input_boxes=prompts.boxes[row : row + 1],
                input_boxes_labels=prompts.labels[row : row + 1],
            )
            close = {"atol": 1e-4, "rtol": 1e-4}
            torch.testing.assert_close(ours.logits[-1, row], theirs.pred_logits[0], **close)
            torch.testing.assert_close(
                box_to_xyxy(ours.boxes[-1, row]), theirs.pred_boxes[0], **close
            )
            torch.testing.assert_close(
                ours.presence[-1, row], theirs.presence_logits[0, 0], **close
            )


def test_every_known_word_is_one_token_and_any_text_encodes() -> None:
    tokenizer = build_tokenizer()
    for word in known_words():
        assert len(tokenizer(word)["input_ids"]) == 3, word
    for text in ("yellow school bus", "красный круг", "赤い円", "\x00\x7f", "🙂", ""):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id


def test_words_of_evaluation_are_never_trained() -> None:
    assert not set(held_out_words()) & set(training_words())
    assert not (set(held_out_words()) | set(training_words())) & set(known_words())


def test_scenes_are_seeded_and_their_labels_are_what_is_seen() -> None:
    options = SceneOptions(objects=(5, 8))
    first, again = random_scene((3, 1), options), random_scene((3, 1), options)
    labels = label_map(first, 200, 150)
    assert np.array_equal(labels, label_map(again, 200, 150))
    assert set(np.unique(labels)) == set(range(len(first.items) + 1))


def test_prompts_answer_what_they_ask() -> None:
    kinds = [("circle", "red", "solid"), ("circle", "blue", "dotted"), ("star", "red", "solid")]
    rng = np.random.default_rng(0)
    negatives = 0
    for _ in range(400):
        prompt = sample_prompt(kinds, PromptMix(), rng)
        assert set(prompt.answer) <= {0, 1, 2}
        for index, positive in prompt.boxes:
            if not positive:
                negatives += 1
                assert not lookalikes(kinds, index) & set(prompt.answer)
    assert negatives > 20


def test_matching_gives_each_object_its_own_query() -> None:
    boxes = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.22, 0.2, 0.1, 0.1], [0.8, 0.8, 0.2, 0.2]]])
    targets = torch.tensor([[[0.15, 0.15, 0.25, 0.25], [0.7, 0.7, 0.9, 0.9], [0, 0, 1, 1.0]]])
    wanted = torch.tensor([[True, True, False]])
    found = match(torch.zeros(1, 3), boxes, boxes[0, :, :2], targets, wanted, near=0.0)
    assert found.tolist() == [[0, 2, -1]]
    assert generalised_iou(targets[0, 1], box_to_xyxy(boxes[0, 2])) == pytest.approx(1)


def test_a_mask_pays_for_a_far_lookalike_as_for_its_surroundings() -> None:
    target, others = torch.zeros(1, 40, 40), torch.zeros(1, 40, 40)
    target[:, 2:8, 2:8] = 1
    others[:, 30:36, 30:36] = 1
    boxes = torch.tensor([[2, 2, 8, 8]]) / 40
    alone = 20 * (target - 0.5)
    both = 20 * (target + others - 0.5)
    assert mask_error(alone, target, boxes, others) < 0.01
    beside = 20 * (target + target.roll(6, dims=2) - 0.5)  # as much too much, but next to it
    assert mask_error(both, target, boxes, others) >= mask_error(beside, target, boxes, others)
    assert mask_error(both, target, boxes) < mask_error(beside, target, boxes)


def test_a_minute_of_training_makes_a_folder_that_loads(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    command = [sys.executable, "-m", "tools.demo_checkpoint.train", "--budget", "0.001"]
    command += ["--output", str(output), "--work", str(tmp_path / "work"), "--device", "cpu"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    for model_class in (Sam3Model, Sam3TrackerModel):
        _, info = model_class.from_pretrained(output, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["mismatched_keys"]
    with (tmp_path / "work" / "concept" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert float(rows[-1]["loss"]) > 0
