"""The tokenizer: CLIP's byte-level pairs, learnt so that each known word is one token.

Every other text falls into pieces, down to single bytes, so that any text in any script encodes
and the model sees at once that it holds something unknown.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from tools.demo_checkpoint.config import TEXT_TOKENS
from tools.demo_checkpoint.unknown import COMMON_WORDS
from tools.demo_checkpoint.vocabulary import known_words

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 500
WORD_END = "</w>"


def build_tokenizer() -> CLIPTokenizer:
    """Learn the pairs and return the tokenizer, the same one every time."""
    # Known words dominate the counts, so that each is merged completely before any other word
    # is; the common words then shorten unknown texts, which have 32 tokens to fit in.
    counts = Counter(dict.fromkeys(COMMON_WORDS, 1)) + Counter(dict.fromkeys(known_words(), 1000))
    merges = learn_merges(counts, MERGES)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    symbols += [left + right for left, right in merges]
    vocabulary = {symbol: index for index, symbol in enumerate(dict.fromkeys(symbols))}
    for special in (START, END):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=TEXT_TOKENS,
    )


def learn_merges(counts: Counter[str], most: int) -> list[tuple[str, str]]:
    """Return the `most` commonest pairs, one after another, as byte-pair encoding learns them.

    Ties go to the pair that sorts first. The trainer of the tokenizers library breaks them
    differently from run to run, and a resumed training would then meet other token ids.
    """
    words = [([*word[:-1], word[-1] + WORD_END], count) for word, count in sorted(counts.items())]
    merges: list[tuple[str, str]] = []
    for _ in range(most):
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, count in words:
            for pair in pairwise(parts):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts, _ in words:
            index = 0
            while index < len(parts) - 1:
                if (parts[index], parts[index + 1]) == best:
                    parts[index : index + 2] = [best[0] + best[1]]
                index += 1
    return merges
