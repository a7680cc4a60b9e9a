"""Texts of every kind through the whole of a prediction, and weights that would run code."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3_image.errors import CheckpointError
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.settings import Settings
from tests.helpers.cog_server import CogServer, png

IMAGE = png(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))

TEXTS = {
    "latin with marks": "žlutý kůň",
    "chinese": "红色的圆圈",
    "japanese": "赤い丸",
    "korean": "빨간 원",
    "cyrillic": "красный круг",
    "devanagari": "लाल गोला",
    "arabic, right to left": "دائرة حمراء",
    "hebrew, right to left": "עיגול אדום",
    "thai": "วงกลมสีแดง",
    "emoji": "🔴 ⭐",
    "emoji joined": "👩‍👩‍👧‍👦",
    "combining marks": "e\u0301\u0302\u0303\u0304",
    "zalgo": "r\u0335\u0322e\u0337\u0328d\u0336\u0321",
    "right-to-left override": "\u202egniht\u202c",
    "zero width": "re\u200bd \u2060circle\ufeff",
    "control characters": "red\x01\x02\x7f circle",
    "nul": "red\0circle",
    "line breaks": "red\r\ncircle\u2028star\u0085",
    "ansi escape": "\x1b[31mred\x1b[0m",
    "html": "<script>alert(1)</script>",
    "path": "../../etc/passwd",
    "format strings": "%s {0} ${HOME} $(id)",
    "special tokens": "<|startoftext|> red <|endoftext|>",
    "private use": "\ue000\U0010ffff",
    "astral": "𝓻𝓮𝓭",
    "spaces around": "  red circle\t",
    "quotes": "\"'`\\",
    "one letter": "x",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(server: CogServer, name: str) -> None:
    """Found or not, the answer is whole, its names are ours, and it goes through JSON unchanged."""
    text = TEXTS[name]
    result = server.predict(
        image=IMAGE,
        prompt=text,
        threshold=0.0,
        max_instances=2,
        save_overlay=True,
        show_labels=True,
        annotation_format="coco",
    )
    assert result.status == "succeeded", result.error
    files = result.files()
    masks = [name for name in files if name.startswith("mask_")]
    assert masks == [f"mask_{index:03}.png" for index in range(len(masks))]
    assert set(files) - set(masks) == {"overlay.png", "annotations.json"}
    categories = json.loads(files["annotations.json"])["categories"]
    assert [category["name"] for category in categories] == [text]


@pytest.mark.parametrize("name", ["line breaks", "ansi escape", "right-to-left override"])
def test_a_text_cannot_forge_the_log(server: CogServer, name: str) -> None:
    logs = server.predict(image=IMAGE, prompt=TEXTS[name]).logs
    (line,) = [line for line in logs.splitlines() if line.startswith("Prompt:")]
    assert line.isprintable()
    assert line.endswith("threshold 0.5")


def test_token_limit_exactly(server: CogServer) -> None:
    """32 tokens with the marks at both ends: 30 words pass, 31 are counted and refused."""
    assert server.predict(image=IMAGE, prompt="cat " * 30).status == "succeeded"
    refused = server.predict(image=IMAGE, prompt="cat " * 31)
    assert refused.status == "failed"
    assert "33 tokens" in refused.error
    assert "32" in refused.error


def test_few_characters_may_be_many_tokens(server: CogServer) -> None:
    refused = server.predict(image=IMAGE, prompt="👩‍👩‍👧‍👦" * 12)
    assert refused.status == "failed"
    assert "tokens" in refused.error
    assert "\n" not in refused.error.strip()


@pytest.mark.parametrize("text", ["", " ", "\n\t\r", "\u3000", "\u2003\u00a0", "x" * 501])
def test_blank_and_too_long(server: CogServer, text: str) -> None:
    result = server.predict(image=IMAGE, prompt=text)
    assert result.status in ("failed", "invalid")
    assert "prompt" in result.error


@pytest.mark.parametrize(
    "body", ['{"input": {"prompt": "\\ud800"}}', "[" * 100_000, '{"input": 5}']
)
def test_broken_json(server: CogServer, body: str) -> None:
    answer = server.http.post(
        "/predictions", content=body, headers={"Content-Type": "application/json"}
    )
    assert 400 <= answer.status_code < 500
    assert server.predict(image=IMAGE, prompt="star").status == "succeeded"


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["sam3.pt", "pytorch_model.bin", "model.safetensors"])
def test_no_pickle_is_loaded(tiny_weights: Path, tmp_path: Path, name: str) -> None:
    """A checkpoint that has only a pickle, under whatever name, is refused and runs nothing."""
    from sam3_image.model.device import Placement
    from sam3_image.model.segmenter import Segmenter

    folder, trace = tmp_path / "weights", tmp_path / "trace"
    folder.mkdir()
    for file in tiny_weights.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / name).write_bytes(pickle.dumps(_Bomb(trace)))
    placement = Placement.of(Settings.from_environment({"SAM3_DEVICE": "cpu"}))
    with pytest.raises(CheckpointError) as caught:
        Segmenter(Checkpoint.open(folder), placement)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_health_check_is_prompt(server: CogServer) -> None:
    server.wait_for("READY")
    started = time.monotonic()
    assert server.health()["status"] == "READY"
    assert time.monotonic() - started < 5
