"""`setup()` that cannot work fails within seconds, each time with its own message."""

from __future__ import annotations

import json
import re
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sam3_image
from sam3_image.batch.machine import plan_workers
from sam3_image.errors import UserError
from sam3_image.model import missing_gpu
from sam3_image.settings import Settings
from tests.helpers.cog_server import REPOSITORY, CogServer

SECONDS = 10  # of work, so that other work on the same cores does not count
WEIGHTS = "model.safetensors"

Break = Callable[[Path], None]


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def no_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def only_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "sam3.pt")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[: len(text) // 2])


def another_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "hidden_size": 64}))


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    state = load_file(folder / WEIGHTS)
    assert name in state
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    save_file(state, folder / WEIGHTS, {"format": "pt"})


FINDER = "detector_model.dot_product_scoring.query_proj.weight"
PICKER = "tracker_model.mask_decoder.iou_token.weight"


def finder_tensor_missing(folder: Path) -> None:
    change(folder, FINDER, None)


def picker_tensor_missing(folder: Path) -> None:
    change(folder, PICKER, None)


def other_shape(folder: Path) -> None:
    change(folder, FINDER, torch.zeros(3, 5))


def not_finite(folder: Path) -> None:
    tensor = load_file(folder / WEIGHTS)[FINDER]
    tensor[0, 0] = float("nan")
    change(folder, FINDER, tensor)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (truncated, [WEIGHTS, "bytes", "incomplete"]),
        (no_header, [WEIGHTS, "not a safetensors"]),
        (only_a_pickle, ["no .safetensors", "never loaded", "script/convert-weights"]),
        (no_config, ["config.json", "facebook/sam3"]),
        (broken_config, ["config.json", "JSON"]),
        (another_model, ["'clip'", "not SAM 3"]),
        (no_tokenizer, ["tokenizer"]),
        (finder_tensor_missing, ["missing", FINDER.partition(".")[2]]),
        (picker_tensor_missing, ["missing", PICKER.partition(".")[2]]),
        (other_shape, ["shape", "query_proj", "(3, 5)"]),
        (not_finite, ["not finite", "query_proj"]),
    ],
)
def test_broken_checkpoint(
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Break,
    words: list[str],
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(tiny_weights, folder)
    broken(folder)
    message, seconds = failure(monkeypatch, SAM3_WEIGHTS=str(folder))
    assert all(word in message for word in words), message
    assert str(folder) in message
    assert seconds < SECONDS


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SAM3_WEIGHTS": "/no/such/folder"}, ["'/no/such/folder'", "facebook/sam3"]),
        (
            {"SAM3_WEIGHTS": str(REPOSITORY / "weights" / "demo" / "model.safetensors")},
            ["model.safetensors', a file", "script/convert-weights"],
        ),
        ({"SAM3_DTYPE": "int4"}, ["'int4'", "bfloat16", "float32", "int8 on a CPU"]),
        ({"SAM3_DEVICE": "toaster"}, ["'toaster'", "cuda", "cpu"]),
        ({"SAM3_DEVICE": "cuda:99"}, ["'cuda:99'", "SAM3_DEVICE=cpu"]),
    ],
)
def test_environment_that_cannot_be(
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: list[str],
) -> None:
    message, _ = failure(monkeypatch, **{"SAM3_WEIGHTS": str(tiny_weights), **environment})
    assert all(word in message for word in words), message


OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU "
    "driver by downloading and installing a new version."
)


@pytest.fixture
def cuda_without_gpu(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that was built for CUDA 12.8 over a driver that is too old for it."""

    def init() -> None:
        raise RuntimeError(OLD_DRIVER)

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("SAM3_WEIGHTS", str(tiny_weights))
    monkeypatch.setenv("SAM3_DEVICE", "")


@pytest.mark.usefixtures("cuda_without_gpu")
def test_no_silent_cpu_under_cog(monkeypatch: pytest.MonkeyPatch) -> None:
    message, _ = failure(monkeypatch, SAM3_DEVICE="")
    for words in ("too old (found version 12040)", "525 series", "--gpus all", "SAM3_DEVICE=cpu"):
        assert words in message, message


@pytest.mark.usefixtures("cuda_without_gpu")
def test_no_silent_cpu_elsewhere(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(RuntimeWarning, match=r"too old .* SAM3_DEVICE=cpu"):
        sam3_image.load(str(tiny_weights))
    with pytest.warns(RuntimeWarning, match=r"too old .* SAM3_DEVICE=cpu"):
        plan_workers({}, tmp_path, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert missing_gpu(Settings(device="cpu")) is None
        monkeypatch.setattr(torch.version, "cuda", None)
        assert missing_gpu(Settings()) is None, "a torch that has no CUDA"


def test_whole_checkpoint_is_accepted(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests of this file break this folder: unbroken it must work."""
    monkeypatch.setenv("SAM3_WEIGHTS", str(tiny_weights))
    monkeypatch.setenv("SAM3_DEVICE", "cpu")
    setup()


def test_no_weights_over_http_and_the_demo_is_not_taken(tiny_weights: Path, tmp_path: Path) -> None:
    """A tree with the demo in it but neither weights/sam3 nor a token, under Cog's own server."""
    tree = tmp_path / "tree"
    shutil.copytree(REPOSITORY / "sam3_image", tree / "sam3_image")
    shutil.copy(REPOSITORY / "predict.py", tree)
    shutil.copytree(REPOSITORY / "script", tree / "script")
    shutil.copytree(tiny_weights, tree / "weights" / "demo")
    nowhere = {
        "SAM3_WEIGHTS": "",
        "HF_TOKEN": "",
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "HF_HOME": str(tmp_path / "no-hub"),
    }
    with CogServer(tmp_path / "server", nowhere, repository=tree) as server:
        answer = server.wait_for("READY", "SETUP_FAILED")
        assert answer["status"] == "SETUP_FAILED"
        log = answer["setup"]["logs"] + server.log()
    for way in ("There are no weights", "script/download-weights", "HF_TOKEN", "SAM3_WEIGHTS"):
        assert way in log


def failure(monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[str, float]:
    """What the predictor's own setup() raises in that environment, and after how long."""
    monkeypatch.setenv("SAM3_DEVICE", "cpu")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    import predict  # noqa: F401 - its imports are not part of the time

    start = time.process_time()
    with pytest.raises(UserError) as caught:
        setup()
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"[.;:] \S", message), f"says what is wrong but not what to do: {message}"
    return message, time.process_time() - start


def setup() -> None:
    from predict import Predictor

    Predictor().setup()
