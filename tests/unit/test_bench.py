"""The benchmark compares like with like, and its arithmetic is right."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import around, device, measure, table
from benchmarks.around import KINDS, SIDES, STAGES, Case, Inputs
from benchmarks.measure import Spread
from benchmarks.table import Row
from benchmarks.whole import Setup
from sam3_image.model import encoder, finder, transfer

CASE = Case((300, 400), 4)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Side → kind → the file that it wrote for the same picture and the same outputs."""
    inputs = Inputs.of(CASE, tmp_path_factory.mktemp("inputs"))
    results: dict[str, dict[str, bytes]] = {}
    for name, side in SIDES.items():
        run = side(inputs)
        results[name] = {}
        for kind in KINDS:
            folder = tmp_path_factory.mktemp("results")
            seconds = run([kind], folder)
            assert list(seconds) == [*STAGES, kind]
            assert all(value > 0 for value in seconds.values())
            results[name][kind] = (folder / KINDS[kind].file).read_bytes()
    return results


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data))).astype(np.int16)


@pytest.mark.parametrize("kind", ["ZIP", "ZIP + overlay"])
def test_both_sides_write_the_same_masks(written, kind):
    archives = {name: zipfile.ZipFile(io.BytesIO(files[kind])) for name, files in written.items()}
    names = [f"mask_{index:03}.png" for index in range(CASE.count)]
    extra = ["overlay.png"] if "overlay" in kind else []
    for archive in archives.values():
        assert archive.namelist() == names + extra
    for name in names:
        ours, plain = (pixels(archives[side].read(name)) for side in ("ours", "plain"))
        assert ours.shape == CASE.size
        assert 0 < (ours > 0).mean() < 1
        np.testing.assert_array_equal(ours, plain)


def test_both_sides_tint_the_same_pixels(written):
    difference = np.abs(
        pixels(written["ours"]["overlay PNG"]) - pixels(written["plain"]["overlay PNG"])
    )
    assert difference.max() <= 1  # halves may round either way
    ours, plain = (pixels(written[side]["overlay JPEG"]) for side in ("ours", "plain"))
    assert np.abs(ours - plain).mean() < 10  # of different quality; a missing tint makes it 20


def test_both_sides_annotate_the_same_masks(written):
    ours, plain = (json.loads(written[side]["annotations"]) for side in ("ours", "plain"))
    for one, other in zip(ours["annotations"], plain["annotations"], strict=True):
        assert one["segmentation"] == other["segmentation"]
        assert one["bbox"] == other["bbox"]


def test_sides_take_turns_in_going_first():
    order: list[str] = []

    def side(name: str):
        def run() -> dict[str, float]:
            order.append(name)
            return {"work": 1.0}

        return run

    found = measure.interleaved({"plain": side("plain"), "ours": side("ours")}, rounds=3)
    assert order == ["plain", "ours", "ours", "plain", "plain", "ours"]
    assert {name: len(runs) for name, runs in found.items()} == {"plain": 3, "ours": 3}


def test_total_is_the_stages_and_the_one_result():
    seconds = {"decode": 1.0, "preprocess": 2.0, "post-process": 4.0, "ZIP": 8.0, "overlay PNG": 16}
    assert around.total(seconds, "ZIP") == 15


def test_ratios_are_of_medians_and_more_is_better_for_rates():
    plain, ours = Spread((9.0, 10.0, 50.0)), Spread((1.0, 2.0, 3.0))
    assert Row("s", "c", plain, ours).ratio == 5
    assert Row("s", "c", plain, ours, unit="/s").ratio == pytest.approx(0.2)
    assert Row("s", "c", None, ours).ratio is None


def test_report_names_command_and_machine_and_keeps_raw_figures(tmp_path: Path):
    rows = [
        Row("Speed", "small", Spread((2.0, 4.0)), Spread((1.0,))),
        Row("Memory", "x", None, None),
    ]
    text = table.save(rows, {"cores": 2}, "script/bench --quick", tmp_path)
    assert "script/bench --quick" in text
    assert "cores 2" in text
    assert "**3.0×**" in text
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["rows"][0]["plain"] == {"median": 3.0, "least": 2.0, "most": 4.0, "rounds": 2}
    assert document["rows"][1]["ours"] is None


def test_only_the_model_is_timed_as_model_alone(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not our resize and hash, nor the copies of results, none of which the other side has."""
    setup = Setup(weights, torch.device("cpu"))
    service = setup.service()
    timed: list[bool] = []

    def event_seconds(work: Callable[[], Any], _: torch.device) -> float:
        with monkeypatch.context() as patch:
            for owner, name in ((transfer, "resize"), (encoder, "resize"), (encoder, "digest")):
                patch.setattr(owner, name, None)
            patch.setattr(finder, "to_host", None)
            work()
        timed.append(True)
        return 1.0

    monkeypatch.setattr(device, "event_seconds", event_seconds)
    (row,) = device._model_alone(setup, service, setup.plain(), rounds=1)
    service.close()
    assert len(timed) == 2 * (device.WARM_UP + 1)
    assert len(row.ours.values) == len(row.plain.values) == 1


def test_peak_of_a_process_of_its_own(tmp_path: Path):
    inputs = Inputs.of(CASE, tmp_path)
    found = measure.in_own_process(
        "benchmarks.one", "ours", str(inputs.photo), str(inputs.outputs), "ZIP"
    )
    assert 50e6 < found["ready"] <= found["peak"] < 8e9
    with pytest.raises(RuntimeError, match=r"benchmarks\.one"):
        measure.in_own_process("benchmarks.one", "nobody", "x", "y", "ZIP")
