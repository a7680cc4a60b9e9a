"""Checkpoints of the family not laid out as facebook/sam3: they load, and say what they are.

Folders of `save_pretrained`, in one file and in several, the detector alone, and a lite text
encoder that reads 16 tokens: through transformers' own answers, the command line and the server.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    Sam3LiteTextConfig,
    Sam3LiteTextModel,
    Sam3Model,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from sam3_image.cli import main
from sam3_image.errors import CheckpointError, InputError
from sam3_image.model import Find, Pick, Placement, Segmenter, Target
from sam3_image.model.compatibility import TRANSFORMERS
from sam3_image.model.transfer import pixel_values
from sam3_image.model.weights.checkpoint import Checkpoint
from tests.helpers.cog_server import REPOSITORY, CogServer

CPU = Placement(torch.device("cpu"), torch.float32)
EXAMPLE = REPOSITORY / "examples" / "shapes.png"
LITE_TOKENS = 16
SHARD = "400KB"


def with_tokenizer(tiny: Path, folder: Path, tokens: int = 32) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        shutil.copy(tiny / name, folder)
    described = json.loads((folder / "tokenizer_config.json").read_text())
    described["model_max_length"] = tokens
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="module")
def detector(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `Sam3Model.save_pretrained` writes."""
    folder = tmp_path_factory.mktemp("detector")
    Sam3Model.from_pretrained(tiny_weights).save_pretrained(folder)
    return with_tokenizer(tiny_weights, folder)


@pytest.fixture(scope="module")
def sharded(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `Sam3VideoModel.save_pretrained` writes, both halves in several files."""
    folder = tmp_path_factory.mktemp("sharded")
    torch.manual_seed(3)
    model = Sam3VideoModel(Sam3VideoConfig.from_pretrained(tiny_weights))
    model.save_pretrained(folder, max_shard_size=SHARD)
    assert len(list(folder.glob("*.safetensors"))) > 3
    return with_tokenizer(tiny_weights, folder)


@pytest.fixture(scope="module")
def lite(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with a lite text encoder, in several files."""
    described = json.loads((tiny_weights / "config.json").read_text())["detector_config"]
    described.pop("model_type")
    described["text_config"] = {
        "vocab_size": described["text_config"]["vocab_size"],
        "hidden_size": 64,
        "intermediate_size": 64,
        "projection_dim": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 2 * LITE_TOKENS,  # room for more than it was trained on
    }
    for part in ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder"):
        described[f"{part}_config"].pop("model_type", None)
    torch.manual_seed(4)
    model = Sam3LiteTextModel(Sam3LiteTextConfig(**described)).eval()
    folder = tmp_path_factory.mktemp("lite")
    model.save_pretrained(folder, max_shard_size=SHARD)
    return with_tokenizer(tiny_weights, folder, LITE_TOKENS)


@pytest.mark.parametrize(
    ("name", "kind"), [("detector", Sam3Model), ("lite", Sam3LiteTextModel), ("sharded", Sam3Model)]
)
def test_finds_what_transformers_finds(
    request: pytest.FixtureRequest, name: str, kind: type
) -> None:
    folder: Path = request.getfixturevalue(name)
    plain = kind.from_pretrained(folder)
    segmenter = Segmenter(Checkpoint.open(folder), CPU, reference=TRANSFORMERS)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    side = segmenter.side(100)
    tokens = segmenter._texts.tokenizer(
        "red", padding="max_length", max_length=segmenter.architecture.tokens, return_tensors="pt"
    )
    with torch.inference_mode():
        outputs = plain(pixel_values=pixel_values(pixels, side), **tokens)
    found = segmenter.segment(
        segmenter.encode(segmenter.prepare(pixels, side)), Find(("red",), 0.0)
    )
    scores = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
    np.testing.assert_allclose(found.scores, scores[0].sort(descending=True)[0], atol=1e-5)


def test_several_files_hold_both_halves(sharded: Path) -> None:
    segmenter = Segmenter(Checkpoint.open(sharded), CPU)
    features = segmenter.encode(
        segmenter.prepare(np.zeros((30, 40, 3), dtype=np.uint8), segmenter.side(100))
    )
    assert len(segmenter.segment(features, Pick((Target(box=(1, 1, 9, 9)),), True))) == 3


def test_what_a_checkpoint_is_comes_from_its_configuration(lite: Path, sharded: Path) -> None:
    light, whole = (Segmenter(Checkpoint.open(folder), CPU) for folder in (lite, sharded))
    assert (light.architecture.tokens, whole.architecture.tokens) == (LITE_TOKENS, 32)
    assert (light.architecture.has_tracker, whole.architecture.has_tracker) == (False, True)
    assert str(light.architecture) == (
        "Model: Sam3LiteTextModel, tasks concept only; prompts of at most 16 tokens, "
        "at most 6 instances of one; input 112×112"
    )
    light.check_texts(["x" * 14])
    with pytest.raises(InputError, match=r"17 tokens .* at most 16"):
        light.check_texts(["x" * 15])
    whole.check_texts(["x" * 30])


def lacking(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[1].unlink()


def elsewhere(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    text = index.read_text().replace("model-00001", "../model-00001")
    index.write_text(text)


def broken_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 5}')


def overlapping(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    same = [name for name in names if header[name]["shape"] == header[names[0]]["shape"]]
    header[same[1]]["data_offsets"] = header[same[0]]["data_offsets"]
    text = json.dumps(header).encode()
    text = text[:length].ljust(length) if len(text) <= length else text
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lacking, "model-00002-of-"),
        (elsewhere, "../model-00001"),
        (broken_index, "not a readable index"),
        (overlapping, "overlaps another|leaves a gap|promises"),
    ],
)
def test_files_in_parts_that_do_not_fit_are_refused(
    sharded: Path, tmp_path: Path, fault: Callable[[Path], None], words: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(sharded, folder)
    fault(folder)
    with pytest.raises(CheckpointError, match=words) as caught:
        Segmenter(Checkpoint.open(folder), CPU)
    assert str(folder) in str(caught.value)


def test_a_tensor_in_two_files_is_refused(detector: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(detector, folder)
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    Segmenter(Checkpoint.open(folder), CPU)  # any name will do
    save_file({"detr_decoder.query_embed.weight": torch.zeros(2)}, folder / "more.safetensors")
    with pytest.raises(CheckpointError, match=r"query_embed.*another file"):
        Segmenter(Checkpoint.open(folder), CPU)


@pytest.mark.parametrize("name", ["detector", "lite"])
def test_the_command_line_takes_them(
    request: pytest.FixtureRequest,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SAM3_WEIGHTS", str(request.getfixturevalue(name)))
    monkeypatch.setenv("SAM3_DEVICE", "cpu")
    found = tmp_path / "masks.zip"
    options = ["--prompt", "red", "--threshold", "0", "--output", str(found)]
    assert main(["predict", str(EXAMPLE), *options]) == 0
    assert found.stat().st_size > 1000
    assert "concept only" in capsys.readouterr().err
    assert main(["predict", str(EXAMPLE), "--task", "visual", "--points", "[[9,9]]"]) == 2
    assert "no part for task='visual'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "limit"), [("detector", 32), ("lite", LITE_TOKENS)])
def test_the_server_takes_them_and_says_their_limits(
    request: pytest.FixtureRequest,
    name: str,
    limit: int,
    start_server: Callable[..., CogServer],
) -> None:
    server = start_server(SAM3_WEIGHTS=str(request.getfixturevalue(name))).ready()
    assert f"at most {limit} tokens" in server.log()
    result = server.predict(image=EXAMPLE, prompt="red", threshold=0.0)
    assert (result.status, len(result.masks())) == ("succeeded", 6)
    refused = server.predict(image=EXAMPLE, prompt="x" * (limit - 1))
    assert f"{limit + 1} tokens" in refused.error
    assert f"at most {limit}." in refused.error
    refused = server.predict(image=EXAMPLE, task="visual", points="[[9,9]]")
    assert "no part for task='visual'" in refused.error
