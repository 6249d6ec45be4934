"""Words: texts of an exact number of tokens, made of words that are one token each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fairshare_locust.errors import WorkloadError
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["Words", "check_lengths", "shortened", "words_of"]

_WORDS = 2048
_ANCHOR = "the"


class Words:
    """Words that are one token each: `inner` after a space, `first` there and at the start of a text as well."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        candidates = []
        for token in tokenizer.vocabulary():
            word = token.lstrip("Ġ▁ ")
            if 2 <= len(word) <= 12 and word.isascii() and word.isalpha() and word.islower():
                candidates.append(word)
        candidates = list(dict.fromkeys(candidates))
        # In the middle of a text: two anchors with the word between them, against two anchors.
        base = tokenizer.count(f"{_ANCHOR} {_ANCHOR}")
        between = tokenizer.counts([f"{_ANCHOR} {word} {_ANCHOR}" for word in candidates])
        inner = [word for word, count in zip(candidates, between, strict=True) if count == base + 1]
        alone = tokenizer.counts(inner)
        self.first = [word for word, count in zip(inner, alone, strict=True) if count == 1][:_WORDS]
        self.inner = inner[:_WORDS]
        usable = len(self.inner)
        if len(self.first) < 2 or usable < 64:
            raise WorkloadError(
                f"model.tokenizer: only {usable} words are one token in it ({len(self.first)} at the start of a text), "
                "too few for synthetic prompts of an exact length; use a jsonl or text workload, or another tokenizer"
            )

    def text(self, stream: np.random.Generator, length: int) -> str:
        """`length` random words, at least 1. Behind a space it goes on from another text without losing a token."""
        first = self.first[int(stream.integers(len(self.first)))]
        inner = self.inner
        return " ".join([first, *(inner[i] for i in stream.integers(len(inner), size=length - 1).tolist())])


@lru_cache(maxsize=1)
def words_of(tokenizer: Tokenizer) -> Words:
    """Those of a tokenizer; a process that makes run after run finds them once. Raises WorkloadError as `Words`."""
    return Words(tokenizer)


def shortened(length: int, overhead_tokens: int) -> int:
    """Tokens of a text that are `length` with what the chat template adds; never below 1."""
    return max(1, length - overhead_tokens)


def check_lengths(tokenizer: Tokenizer | None, tenant_id: str, texts: Sequence[str], lengths: Sequence[int]) -> None:
    """Raise WorkloadError for the first of these texts that does not have the tokens it was made of.

    Without a tokenizer they are believed to have them.
    """
    if tokenizer is None:
        return
    for i, (found, wanted) in enumerate(zip(tokenizer.counts(texts), lengths, strict=True)):
        if found != wanted:
            raise WorkloadError(
                f"model.tokenizer: a prompt made of {wanted} tokens came out at {found} (tenant {tenant_id!r}, "
                f"index {i}): this tokenizer joins words; use a jsonl or text workload, or another tokenizer"
            )
