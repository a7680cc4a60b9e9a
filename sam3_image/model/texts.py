"""Texts → embeddings: cleaned up, tokenized, encoded, and cached within a budget."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ftfy
import torch
from cachetools import LRUCache
from transformers import CLIPTokenizer, Sam3Model

from sam3_image.errors import InputError, shown
from sam3_image.model.cache import TensorCache
from sam3_image.model.compatibility import Compatibility

# How many texts' tokens are cached: a request first checks its texts and then encodes them.
KEPT_TEXTS = 256


@dataclass
class Texts:
    """The text encoder of a detector.

    cache: embeddings and masks by cleaned text.
    limit: number of tokens that the encoder reads, start and end included (32 for SAM 3).
    """

    detector: Sam3Model
    tokenizer: CLIPTokenizer
    device: torch.device
    cache: TensorCache
    limit: int
    reference: Compatibility
    _tokens: LRUCache[str, Any] = field(default_factory=lambda: LRUCache(KEPT_TEXTS))
    # A tokenizer stores its padding options as state: two threads at once make it raise.
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def check_texts(self, concepts: Sequence[str]) -> None:
        """Raise InputError for a text with too many tokens for the text encoder, or with none."""
        for text in concepts:
            self._read(text)

    def embeddings(self, concepts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (B, limit, C) of B texts, and which to read: bool (B, limit)."""
        embeddings, masks = [], []
        for text in concepts:
            key = clean(text) if self.reference.clean_text else text
            embedding, mask = self.cache.get_or_make(key, partial(self._encode, text))
            embeddings.append(embedding)
            masks.append(mask)
        return torch.cat(embeddings), torch.cat(masks)

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self._read(text)
        mask = tokens.attention_mask.to(self.device, torch.bool)
        output = self.detector.get_text_features(
            input_ids=tokens.input_ids.to(self.device), attention_mask=mask, return_dict=True
        )
        if self.reference.mask_token_0:
            # Meta pads with 0 and takes every 0 for padding, but only after the text encoder. It is
            # also the id of an "!" that another mark follows with which it does not merge ("!<").
            mask = mask & (tokens.input_ids != 0).to(self.device)
        return output.pooler_output, mask

    def _read(self, text: str) -> Any:
        """Return the padded tokens (1, limit) of a text, on the host; raises InputError."""
        with self._one_at_a_time:
            known = self._tokens.get(text)
            if known is not None:
                return known
            cleaned = clean(text) if self.reference.clean_text else text
            if not cleaned:
                raise InputError(
                    f"The prompt {shown(text)} is blank once entities and control characters are "
                    "resolved; name what to find, e.g. 'person'."
                )
            tokens = self.tokenizer(
                cleaned, padding="max_length", max_length=self.limit, return_tensors="pt"
            )
            count = tokens.input_ids.shape[1]
            if count > self.limit:
                raise InputError(
                    f"The prompt {shown(text)} has {count} tokens with its start and end marks; "
                    f"these weights read at most {self.limit}. Shorten it."
                )
            self._tokens[text] = tokens
            return tokens


def clean(text: str) -> str:
    """Return `text` as Meta's tokenizer prepares it, which transformers' does only in part.

    ftfy resolves mojibake, ligatures and curly quotes; HTML entities are resolved twice (for
    "&amp;eacute;"); each run of white space becomes one space; lower case is Python's, which ends
    a Greek word in ς where the tokenizer's own makes it σ.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
