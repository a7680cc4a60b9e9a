"""SAM3_REFERENCE: Meta's answers by default, transformers' on request; texts as Meta reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

import sam3_image
from sam3_image.errors import InputError, UserError
from sam3_image.model.cache import TensorCache
from sam3_image.model.compatibility import META, TRANSFORMERS, Compatibility
from sam3_image.model.device import Placement
from sam3_image.model.prompts import Find
from sam3_image.model.segmenter import Segmenter
from sam3_image.model.texts import clean
from sam3_image.model.weights.checkpoint import Checkpoint
from sam3_image.serving import Service
from sam3_image.settings import Settings

CPU = Placement(torch.device("cpu"), torch.float32)
# As typed → as read. ftfy and HTML act on the first ones and leave the others alone.
TEXTS = {
    "caf&eacute;": "café",
    "salt &amp; pepper": "salt & pepper",
    "r&amp;eacute;d": "réd",
    "“red” circle": '"red" circle',
    "it’s": "it's",
    "ﬁsh": "fish",
    "schÃ¶n": "schön",
    "naÃ¯ve âœ”": "naïve ✔",
    "ｒｅｄ circle": "red circle",
    "ΑΣ ΣΑ": "ας σα",
    "  red \t\n circle\u2028": "red circle",
    "red circle": "red circle",
    "a yellow school-bus, near the road!": "a yellow school-bus, near the road!",
    "a < b > c": "a < b > c",
    "красный круг": "красный круг",
    "赤い円 🙂": "赤い円 🙂",
}


@pytest.fixture(scope="module", params=[META, TRANSFORMERS], ids=lambda mode: mode.name)
def segmenter(tiny_weights: Path, request: pytest.FixtureRequest) -> Segmenter:
    return Segmenter(Checkpoint.open(tiny_weights), CPU, reference=request.param)


@pytest.mark.parametrize("typed", TEXTS)
def test_a_text_is_read_as_meta_reads_it(weights: Path, typed: str) -> None:
    assert clean(typed) == TEXTS[typed]
    tokenizer = CLIPTokenizer.from_pretrained(weights)
    assert tokenizer(clean(typed)).input_ids == tokenizer(TEXTS[typed]).input_ids
    plain = tokenizer(typed).input_ids == tokenizer(TEXTS[typed]).input_ids
    assert plain == (typed.split() == TEXTS[typed].split())


def test_only_meta_s_way_cleans_a_text_up(segmenter: Segmenter) -> None:
    """What is cached and answered is the text as it was read; what is shown, as it was typed."""
    features = segmenter.encode(
        segmenter.prepare(np.zeros((40, 50, 3), dtype=np.uint8), segmenter.side(100))
    )
    texts = segmenter._texts
    one, other = (segmenter.segment(features, Find((text,), 0.0)) for text in ("ﬁsh", "fish"))
    assert set(one.concepts) == {"ﬁsh"}
    assert np.array_equal(one.scores, other.scores) == texts.reference.clean_text
    kept = {text for text in ("ﬁsh", "fish") if texts.cache.get(text)}
    assert kept == ({"fish"} if texts.reference is META else {"ﬁsh", "fish"})


@pytest.mark.parametrize("text", ["!< circle", "a !^", "wow!", "a ! b", "!"])
def test_token_0_is_hidden_from_the_detector_alone(
    weights: Path, text: str, segmenter: Segmenter
) -> None:
    """Meta's way: not from the text encoder, whose embeddings stay what they are."""
    plain = Segmenter(Checkpoint.open(weights), CPU, reference=TRANSFORMERS)._texts
    texts = replace(plain, reference=segmenter._texts.reference, cache=TensorCache(1 << 20))
    with torch.inference_mode():
        (expected, mask), (embeddings, read) = plain.embeddings([text]), texts.embeddings([text])
    assert torch.equal(embeddings, expected)
    hidden = plain.tokenizer(text).input_ids.index(0) if "!<" in text or "!^" in text else None
    assert bool((mask != read).any()) == (hidden is not None and texts.reference is META)
    if texts.reference is META and hidden is not None:
        assert (mask != read).nonzero().tolist() == [[0, hidden]]


def test_tokens_are_counted_after_the_clean_up(segmenter: Segmenter) -> None:
    """In the tiny checkpoint each letter is a token, so the entities alone would be too many."""
    if segmenter._texts.reference is META:
        segmenter.check_texts(["&eacute;" * 5])
    else:
        with pytest.raises(InputError, match="tokens"):
            segmenter.check_texts(["&eacute;" * 5])


@pytest.mark.parametrize("text", ["&nbsp;", "\x07", "&#32;&Tab;"])
def test_a_text_that_the_clean_up_empties_is_refused(tiny_weights: Path, text: str) -> None:
    segmenter = Segmenter(Checkpoint.open(tiny_weights), CPU, reference=META)
    with pytest.raises(InputError, match="blank") as caught:
        segmenter.check_texts(["red circle", text])
    assert repr(text) in str(caught.value)


def test_the_token_of_a_picture_is_computed_once_for_all_texts(tiny_weights: Path) -> None:
    segmenter = Segmenter(Checkpoint.open(tiny_weights), CPU, reference=META)
    runs = []
    segmenter._heads[Find].detector.geometry_encoder.register_forward_hook(
        lambda *_: runs.append(1)
    )
    features = segmenter.encode(
        segmenter.prepare(np.zeros((40, 50, 3), dtype=np.uint8), segmenter.side(100))
    )
    for texts in ("abcdef", "gh"):  # more than one chunk, and another request
        segmenter.segment(features, Find(tuple(texts), 0.0))
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, META), ("  ", META), ("meta", META), ("transformers", TRANSFORMERS)],
)
def test_the_environment_chooses(value: str | None, expected: Compatibility) -> None:
    environment = {} if value is None else {"SAM3_REFERENCE": value}
    assert Compatibility.of(Settings.from_environment(environment)) is expected


@pytest.mark.parametrize("name", ["Meta", "hf", "1"])
def test_any_other_name_is_refused_in_one_line(weights: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"meta .* and transformers ") as caught:
        sam3_image.load(weights, reference=name)
    assert str(caught.value).startswith(f"reference is {name!r}; ")
    assert "\n" not in str(caught.value)


def test_python_programs_choose_as_the_environment_does(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument goes before the variable, and each mode answers otherwise."""
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)

    def scores(reference: str | None = None) -> list[float]:
        sam = sam3_image.load(tiny_weights, device="cpu", reference=reference)
        return list(sam.find(image, "ab", threshold=0.0).scores)

    meta = scores("meta")
    monkeypatch.setenv("SAM3_REFERENCE", "transformers")
    assert scores() == scores("transformers") != meta
    assert scores("meta") == meta


@pytest.mark.parametrize(("name", "title"), [("meta", "Meta's"), ("transformers", "transformers'")])
def test_the_first_line_of_the_log_says_which(tiny_weights: Path, name: str, title: str) -> None:
    said: list[str] = []
    environment = {"SAM3_WEIGHTS": str(tiny_weights), "SAM3_DEVICE": "cpu", "SAM3_REFERENCE": name}
    Service(Settings.from_environment(environment), say=said.append)
    assert said[0].endswith(f", answering as {title} SAM 3")
