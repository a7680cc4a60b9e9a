"""The tokenizer: CLIP's byte-level pairs, learnt so that each known word is one token.

Every other text falls into pieces, down to single bytes, so that any text in any script encodes
and the model sees at once that it holds something unknown.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from demo_checkpoint.config import TEXT_TOKENS
from demo_checkpoint.unknown import COMMON_WORDS
from demo_checkpoint.vocabulary import known_words

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY_SIZE = 900


def build_tokenizer() -> CLIPTokenizer:
    """Learn the pairs and return the tokenizer; takes well under a second."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Known words dominate the counts, so that each is merged completely before any other word
    # is; the common words then shorten unknown texts, which have 32 tokens to fit in.
    corpus = [" ".join(known_words())] * 1000 + [" ".join(COMMON_WORDS)]
    learner.train_from_iterator(corpus, trainer)
    vocabulary, merges = _model_parts(learner.model)
    for symbol in (*alphabet, *(letter + "</w>" for letter in alphabet), START, END):
        vocabulary.setdefault(symbol, len(vocabulary))
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=TEXT_TOKENS,
    )


def _model_parts(model: models.BPE) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a trained model, which only its files give away."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        vocabulary = json.loads((Path(folder) / "vocab.json").read_text("utf-8"))
        lines = (Path(folder) / "merges.txt").read_text("utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if not line.startswith("#version")]
    return vocabulary, [(left, right) for left, right in merges]
