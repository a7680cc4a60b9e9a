"""CLIP's tokenizer: from a folder, from the hub, or built from Meta's file of byte pairs."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from sam3_image.errors import CheckpointError, shown
from sam3_image.model.weights.source import fetch, is_repository, token_of
from sam3_image.shipped import command

# Any of these says that a folder holds a tokenizer.
FILES = ("tokenizer.json", "vocab.json")
HUB_FILES = ("*.json", "*.txt")
# The same tokens as SAM 3's; not gated.
CLIP = "openai/clip-vit-base-patch32"
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
# Of the pairs in the file CLIP uses so many: with two symbols for each byte and the two marks they
# make its 49,408 tokens.
MERGES = 48_894


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer of a checkpoint's folder; raises CheckpointError."""
    # Without its files transformers makes a tokenizer that knows no word, and says nothing.
    if not any((folder / name).is_file() for name in FILES):
        raise CheckpointError(
            f"There is no tokenizer in {folder} ({' or '.join(FILES)}). Copy the tokenizer files "
            f"of facebook/sam3 or of {CLIP} into it, or fetch the weights again with "
            f"{command('download-weights')}."
        )
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"The tokenizer in {folder} cannot be loaded ({first_line(error)}). "
            f"Fetch the weights again with {command('download-weights')}."
        ) from None


def find_tokenizer(named: str, tokens: int) -> CLIPTokenizer:
    """Load the tokenizer that `named` means; raises CheckpointError.

    named: a folder, a file of byte pairs such as Meta's `bpe_simple_vocab_16e6.txt.gz`, or a
    repository on the hub. tokens: the most that the text encoder reads, start and end included.
    """
    path = Path(os.path.expanduser(named))  # pathlib's own fails where there is no home
    if path.is_file():
        return _from_pairs(path, tokens)
    if not path.is_dir() and not is_repository(named):
        raise CheckpointError(
            f"The tokenizer {shown(named)} is neither a file nor a folder here. Name a folder that "
            f"has {' or '.join(FILES)}, Meta's bpe_simple_vocab_16e6.txt.gz, or a repository on "
            f"the hub such as {CLIP} with --tokenizer."
        )
    # Not by transformers, which makes an empty tokenizer of what it cannot fetch.
    tokenizer = read_tokenizer(path if path.is_dir() else _fetched(named))
    tokenizer.model_max_length = tokens
    return tokenizer


def _fetched(repository: str) -> Path:
    try:
        return fetch(repository, token_of(os.environ), patterns=HUB_FILES)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Instead, --tokenizer takes a folder that has {' or '.join(FILES)}, or Meta's "
            "bpe_simple_vocab_16e6.txt.gz."
        ) from None


def _from_pairs(path: Path, tokens: int) -> CLIPTokenizer:
    """Build the tokenizer from a gzipped text: a line about its version, then one pair a line."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")[1 : MERGES + 1]
        merges = [(left, right) for left, right in (line.split() for line in lines if line)]
    except (OSError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a gzipped list of byte pairs ({first_line(error)}). Give "
            "--tokenizer Meta's bpe_simple_vocab_16e6.txt.gz."
        ) from None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    words += [left + right for left, right in merges] + [START, END]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=merges,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=tokens,
    )


def first_line(error: BaseException) -> str:
    """Say what an error of a library says first, for use inside messages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
