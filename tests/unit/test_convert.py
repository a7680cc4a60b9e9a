"""script/convert-weights: Meta's layouts become folders that load, or are refused by name."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer, Sam3VideoConfig, Sam3VideoModel

from sam3_image.cli import main
from sam3_image.errors import CheckpointError
from sam3_image.model import Find, Pick, Placement, Segmenter, Target
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.model.weights.convert import convert
from sam3_image.model.weights.meta_layout import SAM3, SAM31, layout_of
from tests.helpers.meta_checkpoint import as_sam31, random_state, write_pairs
from tests.helpers.meta_modules import State, meta_state

CPU = Placement(torch.device("cpu"), torch.float32)
QUERY = "detector.dot_prod_scoring.hs_proj.weight"
TOKENS = 514  # of the tiny tokenizer, which has no pairs


@pytest.fixture(scope="module")
def config(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sizes, with four levels in the neck and three in the tracker as SAM 3 has them."""
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_bytes((tiny_weights / "config.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def ours(config: Path) -> State:
    return random_state(Sam3VideoConfig.from_pretrained(config))


@pytest.fixture
def run(config: Path, tmp_path: Path) -> Callable[..., Path]:
    """Converts tensors by Meta's names; returns the folder."""
    pairs = write_pairs(tmp_path / "pairs.txt.gz", [])

    def run(tensors: Any, **changed: Any) -> Path:
        torch.save(tensors, tmp_path / "sam3.pt")
        convert(
            tmp_path / "sam3.pt",
            tmp_path / "converted",
            **{"tokenizer": str(pairs), "config": config, **changed},
        )
        return tmp_path / "converted"

    return run


def answers(folder: Path, pick: bool = True) -> list[np.ndarray]:
    """Boxes and scores of a find, and scores and candidates of a pick, on one noisy image."""
    segmenter = Segmenter(Checkpoint.open(folder), CPU)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    features = segmenter.encode(segmenter.prepare(pixels, segmenter.side(100)))
    found = segmenter.segment(features, Find(("circle",), 0.0))
    given = [found.boxes, found.scores]
    if pick:
        picked = segmenter.segment(features, Pick((Target(box=(5, 5, 40, 40)),), True))
        given += [picked.scores, picked.candidates]
    return given


@pytest.mark.parametrize("wrapped", [True, False])
def test_every_weight_is_the_one_it_was_made_from(ours: State, run: Any, wrapped: bool) -> None:
    meta = meta_state(ours)
    folder = run({"model": meta} if wrapped else meta)
    found = load_file(folder / "model.safetensors")
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in ours.items())
    _, report = Sam3VideoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert all(len(given) for given in answers(folder))


def test_dtypes_of_the_file_are_kept(ours: State, run: Any) -> None:
    meta = {n: t if t.is_complex() else t.bfloat16() for n, t in meta_state(ours).items()}
    found = load_file(run(meta) / "model.safetensors")
    assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in ours.items())


def test_safetensors_with_the_names_of_meta_are_converted_too(
    ours: State, config: Path, tmp_path: Path
) -> None:
    state = {n: t.contiguous().clone() for n, t in meta_state(ours).items() if not t.is_complex()}
    save_file(state, tmp_path / "sam3.safetensors")
    pairs = write_pairs(tmp_path / "pairs.txt.gz", [])
    convert(tmp_path / "sam3.safetensors", tmp_path / "converted", str(pairs), config)
    found = load_file(tmp_path / "converted" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in ours.items())


@pytest.fixture(scope="module")
def wanted() -> State:
    """Every weight of SAM 3 at full size, without values."""
    with torch.device("meta"):
        return Sam3VideoModel(Sam3VideoConfig()).state_dict()


def test_names_at_full_size_are_as_many_as_in_the_released_file(wanted: State) -> None:
    """1,465 tensors, of which 38 have no place in transformers."""
    names = {part for name in wanted for part in SAM3.source(name).names}
    assert len(names) == 1465 - 38
    modules = Counter(".".join(name.split(".")[:2]) for name in names)
    assert modules["detector.backbone"] == 420 - 32 + 22 + 22 + 295
    assert modules["detector.geometry_encoder"] == 76 - 6
    assert modules["detector.transformer"] == 108 + 175
    assert modules["detector.segmentation_head"] == 28
    assert modules["detector.dot_prod_scoring"] == 10
    assert modules["tracker.sam_mask_decoder"] == 131
    assert modules["tracker.sam_prompt_encoder"] == 17
    assert modules["tracker.transformer"] == 106
    assert modules["tracker.maskmem_backbone"] == 40


def test_every_tensor_of_sam31_is_used_or_known(wanted: State) -> None:
    """All 1,623, with the eight that are called interactive and that only video needs."""
    names = as_sam31(meta_state(wanted)).keys()
    assert len(names) == 1623
    assert Counter(name.split(".")[0] for name in names) == {"detector": 1166, "tracker": 457}
    assert layout_of(names) is SAM31
    read = {part for name in wanted for part in SAM31.source(name).names}
    assert {name for name in names if name not in read and not SAM31.drops(name)} == set()
    kept = {name for name in names if name.startswith("tracker.") and not SAM31.drops(name)}
    assert len(kept) == 131 + 17 + 1
    assert kept <= read


def renamed(meta: State) -> None:
    meta["detector.dot_prod_scoring.hs_projection.weight"] = meta.pop(QUERY)


def missing(meta: State) -> None:
    del meta[QUERY]


def extra(meta: State) -> None:
    meta["detector.dot_prod_scoring.bias_of_mine"] = torch.zeros(3)


def doubled(meta: State) -> None:
    meta[QUERY.removeprefix("detector.")] = meta[QUERY] + 1


def misshapen(meta: State) -> None:
    meta[QUERY] = torch.zeros(2, 5)


def without_dimensions(meta: State) -> None:
    meta["detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"] = torch.tensor(1.0)


def not_a_tensor(meta: State) -> None:
    meta["epoch"] = 3  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (renamed, [f"missing: {QUERY}", "unknown: detector.dot_prod_scoring.hs_projection.weight"]),
        (missing, [f"missing: {QUERY}"]),
        (extra, ["unknown: detector.dot_prod_scoring.bias_of_mine"]),
        (doubled, [f"unknown: {QUERY.removeprefix('detector.')}"]),
        (misshapen, [f"of an unexpected shape: {QUERY} (2, 5)"]),
        (without_dimensions, ["of an unexpected shape", "blocks.0.attn.qkv.weight ()"]),
        (not_a_tensor, ["more than tensors: epoch"]),
    ],
)
def test_a_tensor_at_fault_is_named_in_one_line(
    ours: State,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[State], None],
    words: list[str],
) -> None:
    meta = meta_state(ours)
    fault(meta)
    torch.save({"model": meta}, tmp_path / "sam3.pt")
    pairs = write_pairs(tmp_path / "pairs.txt.gz", [])
    arguments = ["convert-weights", str(tmp_path / "sam3.pt"), str(tmp_path / "converted")]
    status = main([*arguments, "--tokenizer", str(pairs), "--config", str(config)])
    said = capsys.readouterr().err
    assert status == 2
    assert len(said.splitlines()) == 1
    assert all(word in said for word in words), said
    assert not (tmp_path / "converted").exists()


def test_a_checkpoint_of_the_detector_alone(ours: State, run: Any) -> None:
    meta = {n: t for n, t in meta_state(ours).items() if n.startswith("detector.")}
    necks = ".sam2_convs."
    folder = run({name: tensor for name, tensor in meta.items() if necks not in name})
    assert json.loads((folder / "config.json").read_text())["model_type"] == "sam3"
    found = load_file(folder / "model.safetensors")
    detector = {n.removeprefix("detector_model."): t for n, t in ours.items()}
    assert all(torch.equal(tensor, detector[name]) for name, tensor in found.items())
    assert len(answers(folder, pick=False)[0])


def as_trained(meta: State) -> State:
    """The names that Meta's training code saves."""
    words = {"detector.": "", "tracker.": "inst_interactive_predictor.model."}
    return prefixed(meta, words)


def prefixed(meta: State, words: dict[str, str]) -> State:
    """The same tensors with other first words."""
    return {
        next(new + name.removeprefix(old) for old, new in words.items() if name.startswith(old)): t
        for name, t in meta.items()
    }


INTERNAL = {"detector.": "sam3_model.", "tracker.": "sam2_predictor."}
FILES: dict[str, Callable[[State], Any]] = {
    "training": as_trained,
    "a trainer's file": lambda m: {"model": as_trained(m), "epoch": 3, "optimizer": {"lr": 0.1}},
    "DDP": lambda m: prefixed(m, {"": "module."}),
    "DDP of training": lambda m: {"model": prefixed(as_trained(m), {"": "module."})},
    "Lightning": lambda m: {"state_dict": prefixed(as_trained(m), {"": "model."}), "epoch": 3},
    "compiled": lambda m: {"model": {"state_dict": prefixed(m, {"": "module._orig_mod."})}},
    "internal": lambda m: prefixed(m, INTERNAL),
    "internal with model": lambda m: prefixed(m, INTERNAL | {"tracker.": "sam2_predictor.model."}),
    "copies without the first word": lambda m: m | {n.partition(".")[2]: t for n, t in m.items()},
}


@pytest.mark.parametrize("kind", FILES)
def test_files_as_other_programs_save_them(ours: State, run: Any, kind: str) -> None:
    found = load_file(run(FILES[kind](meta_state(ours))) / "model.safetensors")
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in ours.items())


def mapped(meta: State) -> State:
    """A file of a script that people pass around: every tensor again without its first words."""
    again = {n.replace("tracker.model.", "").replace("detector.", ""): t for n, t in meta.items()}
    return again | meta


FILES_OF_31: dict[str, Callable[[State], State]] = {
    "mapped": mapped,
    "internal": lambda m: prefixed(m, INTERNAL),
    "copies under SAM 3's names": lambda m: (
        m
        | {
            n.replace("model.interactive_sam_", "sam_").replace(
                "interactive_convs", "sam2_convs"
            ): t
            for n, t in m.items()
        }
    ),
}


@pytest.mark.parametrize("kind", FILES_OF_31)
def test_files_of_sam31_as_people_have_them(
    ours: State, run: Any, tmp_path: Path, kind: str
) -> None:
    meta = as_sam31(meta_state(ours))
    plain = load_file(run(meta) / "model.safetensors")
    (tmp_path / "converted").rename(tmp_path / "plain")
    found = load_file(run(FILES_OF_31[kind](meta)) / "model.safetensors")
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["detector_model.text_projection.weight", "tracker_neck.a"], "load unconverted"),
        (["image_encoder.trunk.patch_embed.proj.weight", "no_mem_embed"], "SAM or SAM 2"),
    ],
)
def test_a_file_of_another_model_is_called_what_it_seems_to_be(
    run: Any, names: list[str], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        run({name: torch.zeros(2) for name in names})
    assert "\n" not in str(caught.value)


def test_many_tensors_at_fault_are_all_in_a_file(ours: State, run: Any, tmp_path: Path) -> None:
    meta = meta_state(ours) | {f"detector.extra.{n}.weight": torch.zeros(n) for n in range(9)}
    with pytest.raises(CheckpointError) as caught:
        run(meta)
    (path,) = tmp_path.glob("*.faults.txt")
    assert "layout of SAM 3, of which are unknown: detector.extra.0.weight" in str(caught.value)
    assert f"detector.extra.4.weight and 4 more. {path} lists all" in str(caught.value)
    assert path.read_text().splitlines() == [
        f"unknown: detector.extra.{n}.weight" for n in range(9)
    ]


def test_sam31_answers_as_sam3_with_the_same_weights(ours: State, run: Any, tmp_path: Path) -> None:
    """Its layout lacks a feature level that nothing reads.

    The two files have headers of different lengths, so their tensors lie at different alignments
    (0 and 56 mod 64 bytes). Boxes and scores are equal bit for bit all the same, on every
    processor: loading aligns the weights that MKL multiplies with a single row, which it sums in
    another order where they are unaligned (seen on AMD with AVX-512, also with oneDNN at AVX2).
    """
    meta = meta_state(ours)
    plain = answers(run(meta), pick=False)
    (tmp_path / "converted").rename(tmp_path / "sam3")
    later = answers(run(as_sam31(meta)), pick=False)
    for one, other in zip(plain, later, strict=True):
        np.testing.assert_array_equal(one, other)


def test_scores_of_a_sam31_pick_are_clipped_estimates_in_their_order(
    ours: State, run: Any, tmp_path: Path
) -> None:
    """Its estimates of IoU are those before SAM 3's sigmoid; two of these are above 1."""
    meta = meta_state(ours)
    last = "tracker.sam_mask_decoder.iou_prediction_head.layers.2"
    meta[f"{last}.weight"] *= 0.01  # else all are 0 or 1 after a sigmoid
    meta[f"{last}.bias"] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    _, _, plain, candidates = answers(run(meta))
    (tmp_path / "converted").rename(tmp_path / "sam3")
    _, _, later, same = answers(run(as_sam31(meta)))
    estimates = np.log(plain.astype(float) / (1 - plain))
    assert sorted(estimates > 1) == [False, True, True]
    assert estimates.min() < 0
    np.testing.assert_allclose(later, estimates.clip(0, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(same, candidates)


class Wicked:
    """Unpickled without care it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, config: Path, zipped: bool) -> None:
    content = {"model": {"weight": torch.zeros(2), "more": Wicked(tmp_path / "mark")}}
    if zipped:
        torch.save(content, tmp_path / "sam3.pt")
    else:
        (tmp_path / "sam3.pt").write_bytes(pickle.dumps(content["model"]["more"]))
    with pytest.raises(CheckpointError, match="tensors alone"):
        convert(tmp_path / "sam3.pt", tmp_path / "converted", None, config)
    assert not (tmp_path / "mark").exists()


def test_a_folder_that_is_there_is_not_overwritten(ours: State, run: Any, tmp_path: Path) -> None:
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "mine").write_text("keep")
    with pytest.raises(CheckpointError, match="is there already"):
        run(meta_state(ours))
    assert (tmp_path / "converted" / "mine").read_text() == "keep"


def test_byte_pairs_make_the_tokenizer_that_they_describe(
    ours: State, config: Path, run: Any, tmp_path: Path
) -> None:
    """One pair more than the text encoder has tokens for is refused; else words are merged."""
    pairs = write_pairs(tmp_path / "more.txt.gz", [("r", "e"), ("re", "d</w>")])
    with pytest.raises(CheckpointError, match="516 entries, but the text encoder knows 514"):
        run(meta_state(ours), tokenizer=str(pairs))
    wider = dict(ours)
    table = "detector_model.text_encoder.text_model.embeddings.token_embedding.weight"
    wider[table] = torch.cat([ours[table], ours[table][:2]])
    described = json.loads(config.read_text())
    described["detector_config"]["text_config"]["vocab_size"] = TOKENS + 2
    (tmp_path / "wider.json").write_text(json.dumps(described))
    folder = run(meta_state(wider), tokenizer=str(pairs), config=tmp_path / "wider.json")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert tokenizer("Red").input_ids == [TOKENS, TOKENS - 1, TOKENS + 1]
    assert tokenizer.model_max_length == 32
    assert [tokenizer.decode([token]) for token in (TOKENS - 1,)] == ["red"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("nowhere at all", "neither a file nor a folder"),
        ("config", "not a gzipped list of byte pairs"),
        ("empty", "There is no tokenizer"),
    ],
)
def test_a_tokenizer_that_is_none_is_refused(
    ours: State, run: Any, config: Path, tmp_path: Path, named: str, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"config": str(config), "empty": str(tmp_path / "empty")}.get(named, named)
    with pytest.raises(CheckpointError, match=words):
        run(meta_state(ours), tokenizer=named)
    assert not (tmp_path / "converted").exists()
