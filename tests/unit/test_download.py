"""script/download-weights against a hub on this machine: what it stores, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sam3_image.model.compatibility import META
from sam3_image.model.device import Placement
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.loading import WeightsLoader
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.hub import TOKEN, Hub

CPU = Placement(torch.device("cpu"), torch.float32)


def download(
    url: str, target: Path, home: Path, token: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": token}
    return subprocess.run(
        [sys.executable, "-m", "sam3_image", "download-weights", "--output", str(target)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def repository(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as `facebook/sam3` has it: with parts for video, a pickle, a licence."""
    folder = tmp_path_factory.mktemp("repository")
    for file in tiny_weights.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["tracker_model.memory_encoder.projection.weight"] = torch.ones(4, 4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "sam3.pt").write_bytes(b"a pickle that nobody may open")
    (folder / "LICENSE").write_text("SAM License")
    return folder


def test_stores_what_images_use_in_bfloat16_with_the_licence(
    repository: Path, tmp_path: Path
) -> None:
    target = tmp_path / "sam3"
    with Hub(repository, gated=True) as hub:
        done = download(hub.url, target, tmp_path, TOKEN)
    assert done.returncode == 0, done.stderr
    assert "is ready" in done.stdout
    assert "%" in done.stderr, "no progress bar"
    assert (target / "LICENSE").read_text() == "SAM License"
    assert not list(target.glob("*.pt"))
    assert sorted(path.name for path in tmp_path.iterdir() if "sam3" in path.name) == ["sam3"]
    full = load_file(repository / "model.safetensors")
    stored = load_file(target / "model.safetensors")
    assert set(full) - set(stored) == {"tracker_model.memory_encoder.projection.weight"}
    exact = {name for name, tensor in stored.items() if tensor.dtype == torch.float32}
    assert exact, "the prompt encoder keeps its float32"
    assert all("prompt_encoder" in name or "shared_image_embedding" in name for name in exact)
    assert all(torch.equal(tensor, full[name].to(tensor.dtype)) for name, tensor in stored.items())
    checkpoint = Checkpoint.open(target)
    weights = checkpoint.weights(WeightsLoader(checkpoint.files, CPU))
    checkpoint.tracker(weights, checkpoint.detector(weights, META))


def test_resumes_what_was_interrupted(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "sam3"
    with Hub(repository) as hub:
        first = download(hub.url, target, tmp_path, TOKEN)
        assert first.returncode == 0, first.stderr
        whole = len([line for line in hub.requests if line.startswith("GET /facebook")])
        # A download that stopped before the conversion: the files are there, the result is not.
        raw = tmp_path / "sam3.download"
        for file in repository.iterdir():
            if file.suffix != ".pt":
                raw.mkdir(exist_ok=True)
                (raw / file.name).write_bytes(file.read_bytes())
        hub.requests.clear()
        again = download(hub.url, target, tmp_path, TOKEN)
        fetched = [line for line in hub.requests if line.startswith("GET /facebook")]
    assert again.returncode == 0, again.stderr
    assert whole > 0
    assert fetched == []


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "no token was given"),
        ("hf_stranger", "has no access to facebook/sam3"),
        ("hf_wrong", "is not valid"),
    ],
)
def test_each_refusal_of_the_hub_has_its_own_message(
    repository: Path, tmp_path: Path, token: str, said: str
) -> None:
    with Hub(repository, gated=True) as hub:
        done = download(hub.url, tmp_path / "sam3", tmp_path, token)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not token or token not in done.stderr
    assert not (tmp_path / "sam3").exists()


def test_no_network_has_its_own_message(tmp_path: Path) -> None:
    done = download("http://127.0.0.1:9", tmp_path / "sam3", tmp_path, TOKEN)
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_stored_names_are_those_of_the_repository(repository: Path) -> None:
    with safe_open(repository / "model.safetensors", framework="pt") as weights:
        prefixes = {name.split(".")[0] for name in weights.keys()}  # noqa: SIM118
    assert prefixes == {"detector_model", "tracker_model", "tracker_neck"}
