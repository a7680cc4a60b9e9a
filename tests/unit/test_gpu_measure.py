"""What is carried to a lent GPU: everything but CUDA itself runs here first, in the same order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from sam3_image.model import finder
from tests.helpers.cog_server import REPOSITORY
from tools.gpu import blobs, device, pack
from tools.gpu.sections import SECTIONS, Bench


def test_the_rehearsal_goes_through_every_section(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    interval = sys.getswitchinterval()
    Bench.prepare(tmp_path, minutes=10, rehearse=True, weights=None).run()
    sys.setswitchinterval(interval)
    document = json.loads((tmp_path / "measure.json").read_text())
    assert document["failures"] == []
    figures = document["figures"]
    assert list(dict.fromkeys(one["section"] for one in figures)) == list(SECTIONS)
    assert all(one["value"] > 0 for one in figures if one["unit"] in ("ms", "MB", "requests/s"))
    stages = [one for one in figures if one["section"] == "b stages"]
    assert all(one["floor"] > 0 for one in stages if one["floor"] is not None)
    cases = " ".join(one["case"] for one in figures)
    for part in ("ViT", "DETR encoder", "DETR decoder", "mask decoder"):
        assert f"{part} compiled" in cases
    assert not [one for one in figures if "OTHER" in one["note"]]
    printed = capfd.readouterr().out
    assert printed.count("\n| ") == len(figures) + 2  # one table, with a head of two lines


def test_a_section_that_fails_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def broken(bench: Bench) -> None:
        raise RuntimeError("no kernel image")

    def late(bench: Bench) -> None:
        bench.end = 0.0
        ran.append(bench.section)

    bench = Bench.prepare(tmp_path, minutes=10, rehearse=True, weights=None)
    sections = {"first": broken, "second": late, "third": late}
    with mock.patch.dict(SECTIONS, sections, clear=True):
        bench.run()
    assert ran == ["second"]
    out = capsys.readouterr().out
    assert "[third] skipped: the time is over" in out
    assert "FAILED first: RuntimeError: no kernel image" in out


def test_cuda_is_asked_as_torch_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only code that a CPU cannot run, against torch's own signatures."""
    cuda = mock.create_autospec(torch.cuda)
    event = cuda.Event.return_value
    event.elapsed_time.return_value = 2.0
    cuda.memory_allocated.return_value = 10
    cuda.max_memory_allocated.return_value = 30
    cuda.get_device_capability.return_value = (9, 0)
    monkeypatch.setattr(torch, "cuda", cuda)
    found = device.Cuda()
    assert device.milliseconds(found, lambda: None, rounds=2) == 2.0
    assert found.memory() == 10
    with found.peak() as peak:
        pass
    assert peak == [30]
    assert "sm_90" in found.describe()
    assert not found.load() >= 0  # NaN: nobody says it here
    assert cuda.synchronize.called


def test_what_the_machine_brings_is_not_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "torch==2.11.0\nnvidia-cublas==13.1\ntransformers==5.23.0\nhttpx==0.28.1\nNumPy==2.4.6\n"
    )
    wanted: list[str] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        wanted.append(Path(next(part for part in command if part.endswith(".in"))).read_text())
        return SimpleNamespace(stdout=lines)

    monkeypatch.setattr(subprocess, "run", run)
    carried = [name for name in pack.resolved() if not pack.is_present(name)]
    assert carried == ["transformers==5.23.0", "httpx==0.28.1"]
    for line in (REPOSITORY / "requirements.txt").read_text().splitlines():
        assert line in wanted[0]
    assert "httpx==" in wanted[0]


def test_blobs_go_the_way_of_the_models_maps() -> None:
    """As many maps, in the same dtype; only what they show is another thing."""
    real = SimpleNamespace(pred_masks=torch.randn(2, 7, 96, 96, dtype=torch.bfloat16))
    run_heads = "sam3_image.model.transformers_adapter.run_heads"
    with mock.patch(run_heads, return_value=real), blobs.instead_of_noise(3):
        maps = finder.run_heads().pred_masks
    assert maps.shape == (2, 7, 288, 288)
    assert maps.dtype == torch.bfloat16
    assert torch.equal(maps[0, 0], maps[0, 3])
    assert 0.01 < (maps[0, 0] > 0).float().mean() < 0.6
