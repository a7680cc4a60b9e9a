"""A tiny checkpoint in Meta's layout, and what Meta's own SAM 3 answered with it.

`tests/data/meta/README.md` says what the files are. Here they become a folder that we load, the
requests that our side is asked, and our answers under the names of `expected.npz`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPTokenizer

from sam3_image.model.encoder import Features
from sam3_image.model.prompts import Find, Pick, Target
from sam3_image.model.segmenter import Segmenter
from tools.demo_checkpoint.tokenizer import END, START, WORD_END, learn_merges

DATA = Path(__file__).parents[1] / "data" / "meta"
CASES = json.loads((DATA / "cases.json").read_text())
EXPECTED: dict[str, np.ndarray] = dict(np.load(DATA / "expected.npz"))
INPUTS: dict[str, np.ndarray] = dict(np.load(DATA / "inputs.npz"))
SIZE = 49_408  # entries of CLIP's vocabulary
# A mask as prompt is not among our inputs.
PICKS = CASES["tracker"]


def tokenizer() -> CLIPTokenizer:
    """One that gives the words of the texts Meta's ids, and all others some id."""
    known = {}
    for text, ids in zip(INPUTS["texts"], INPUTS["token_ids"], strict=True):
        words = re.findall(r"[a-z]+|-", str(text))
        known |= {
            word: int(number) for word, number in zip(words, ids[1 : len(words) + 1], strict=True)
        }
    merges = learn_merges(dict.fromkeys(known, 1), 500)
    vocabulary = _bytes() | {"".join(pair): 40_000 + n for n, pair in enumerate(merges)}
    vocabulary |= {word + WORD_END: number for word, number in known.items()}
    vocabulary |= {START: SIZE - 2, END: SIZE - 1}
    unused = set(range(SIZE)) - set(vocabulary.values())
    vocabulary |= {f"<unused {number}>": number for number in unused}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=32)


def _bytes() -> dict[str, int]:
    """CLIP's ids of single bytes: printable ones first, then each again as the end of a word."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    signs = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(hidden))]
    return {sign: n for n, sign in enumerate(signs)} | {
        sign + WORD_END: 256 + n for n, sign in enumerate(signs)
    }


def answers(segmenter: Segmenter) -> dict[str, np.ndarray]:
    """Ours, under the names of Meta's."""
    found = _intermediate(segmenter)
    for name, case in CASES["detector"].items():
        found |= {f"{name}.{what}": value for what, value in _find(segmenter, case).items()}
    for name, case in PICKS.items():
        found |= {f"tracker.{name}.{what}": value for what, value in _pick(segmenter, case).items()}
    return found


def differences(segmenter: Segmenter) -> dict[str, float]:
    """The largest absolute difference to Meta's answers, by name."""
    found = answers(segmenter)
    return {name: float(np.abs(found[name] - EXPECTED[name]).max()) for name in found}


@torch.inference_mode()
def _features(segmenter: Segmenter, picture: int) -> Features:
    return segmenter.encode(segmenter.prepare(INPUTS[f"picture{picture}"], segmenter.side(100)))


def _text(text: str) -> str:
    """As somebody may type it: with an entity, which Meta's tokenizer resolves."""
    return text if text == "visual" else text.replace("a", "&#97;", 1)


def _intermediate(segmenter: Segmenter) -> dict[str, np.ndarray]:
    finder, picker = segmenter._heads[Find], segmenter._heads[Pick]
    assert picker is not None
    features = _features(segmenter, 0)
    necks = {
        "fpn_1x": ("find", finder.detector.vision_encoder.neck),
        "sam2_fpn_1x": ("pick", picker.tracker.vision_encoder.neck),
    }
    with torch.inference_mode():
        texts, _ = finder.texts.embeddings([_text(str(text)) for text in INPUTS["texts"]])
        levels = {
            name: segmenter._encoder.levels(features, *neck)[-1] for name, neck in necks.items()
        }
    found = {"vit_last": features.hidden, **levels}
    # Beyond the end of a text Meta's tokens are padding of another kind, which nothing reads.
    valid = torch.from_numpy(INPUTS["token_ids"] != 0)[..., None]
    expected = torch.from_numpy(EXPECTED["text_features"])
    found["text_features"] = torch.where(valid, texts, expected)
    return {name: value.numpy() for name, value in found.items()}


def _find(segmenter: Segmenter, case: dict[str, Any]) -> dict[str, np.ndarray]:
    """One picture at a time; texts about the same one, with the same boxes, together."""
    rows: list[dict[str, np.ndarray]] = []
    pictures, boxes = case["pictures"], case["boxes_cxcywh"]
    together = len(set(pictures)) == 1 and not any(boxes)
    groups = [range(len(pictures))] if together else [[row] for row in range(len(pictures))]
    for group in groups:
        features = _features(segmenter, pictures[group[0]])
        request = Find(
            tuple(_text(case["texts"][row]) for row in group),
            threshold=0.0,
            boxes=_pixels(boxes[group[0]], features.size),
            labels=tuple(case["box_labels"][group[0]]),
        )
        with torch.inference_mode():
            out = segmenter._heads[Find]._forward(features, request.concepts, request)
        rows.append(
            {
                "pred_logits": out.pred_logits.numpy(),
                "presence_logit": out.presence_logits.numpy(),
                "boxes_xyxy": out.pred_boxes.numpy(),
                "scores": (out.pred_logits.sigmoid() * out.presence_logits.sigmoid()).numpy(),
                "mask_logits": out.pred_masks.numpy(),
                "semantic_logits": out.semantic_seg.numpy(),
            }
        )
    found = {what: np.concatenate([row[what] for row in rows]) for what in rows[0]}
    if not case["masks_stored"]:
        found["mask_logits_query0"] = found.pop("mask_logits")[:, :1]
        del found["semantic_logits"]
    return found


def _pixels(
    boxes: list[list[float]], size: tuple[int, int]
) -> tuple[tuple[float, float, float, float], ...]:
    """cxcywh in 0–1 → xyxy in pixels of the picture."""
    height, width = size
    return tuple(
        ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        for x, y, w, h in boxes
    )


def target(case: dict[str, Any]) -> Target:
    """The object that a case of the tracker picks."""
    return Target(
        points=tuple((x, y) for x, y in case.get("point_coords", ())),
        labels=tuple(case.get("point_labels", ())),
        box=tuple(case["box"]) if "box" in case else None,
        mask=EXPECTED[f"tracker.{case['mask_input']}"][0, 0] if "mask_input" in case else None,
    )


def _pick(segmenter: Segmenter, case: dict[str, Any]) -> dict[str, np.ndarray]:
    assert segmenter._heads[Pick] is not None
    features = _features(segmenter, case["picture"])
    with torch.inference_mode():
        logits, scores, presence = segmenter._heads[Pick]._forward(
            features, [target(case)], case["multimask_output"]
        )
    return {
        "low_res_logits": logits,
        "iou": scores,
        "object_score_logit": np.log(presence / (1 - presence))[None],
    }
