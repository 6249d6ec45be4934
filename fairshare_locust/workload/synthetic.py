"""Synthetic prompts: random words, exactly as many tokens as asked."""

from __future__ import annotations

import hashlib

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.workloads import SyntheticWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.length import draw_lengths
from fairshare_locust.workload.source import PromptRequest
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["POOL", "SyntheticSource", "Words"]

# So many prompts are made; later requests use them again behind other first words, so that no prefix repeats.
POOL = 2048
_LEADING = 4
_WORDS = 2048
_ANCHOR = "the"


class Words:
    """Words that are one token each, at the start of a text (`first`) and after a space (`inner`)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        candidates = []
        for token in tokenizer.vocabulary():
            word = token.lstrip("Ġ▁ ")
            if 2 <= len(word) <= 12 and word.isascii() and word.isalpha() and word.islower():
                candidates.append(word)
        candidates = list(dict.fromkeys(candidates))
        alone = tokenizer.counts(candidates)
        self.first = [word for word, count in zip(candidates, alone, strict=True) if count == 1][:_WORDS]
        # In the middle of a text: two anchors with the word between them, against two anchors.
        base = tokenizer.count(f"{_ANCHOR} {_ANCHOR}")
        between = tokenizer.counts([f"{_ANCHOR} {word} {_ANCHOR}" for word in candidates])
        self.inner = [word for word, count in zip(candidates, between, strict=True) if count == base + 1][:_WORDS]
        usable = len(self.inner)
        if len(self.first) < 2 or usable < 64:
            raise WorkloadError(
                f"model.tokenizer: only {usable} words are one token in it, too few for synthetic prompts of an "
                "exact length; use a jsonl or text workload, or another tokenizer"
            )


class SyntheticSource:
    """Prompts of a synthetic workload; as many as are `expected` are prepared, though more may be asked for."""

    def __init__(
        self,
        workload: SyntheticWorkload,
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer,
        words: Words,
        expected: int,
    ) -> None:
        count = max(1, min(POOL, expected))
        self._words = words
        self._input_tokens = draw_lengths(
            workload.input_tokens, random_stream(seed, tenant_id, "input_tokens"), count
        ).tolist()
        self._output_tokens = draw_lengths(
            workload.output_tokens, random_stream(seed, tenant_id, "output_tokens"), count
        ).tolist()
        self._pool = [self._text(seed, tenant_id, i, length) for i, length in enumerate(self._input_tokens)]
        self._seed = seed
        self._tenant_id = tenant_id
        for i, (found, wanted) in enumerate(zip(tokenizer.counts(self._pool), self._input_tokens, strict=True)):
            if found != wanted:
                raise WorkloadError(
                    f"model.tokenizer: a prompt made of {wanted} tokens came out at {found} (tenant {tenant_id!r}, "
                    f"index {i}): this tokenizer joins words; use a jsonl or text workload, or another tokenizer"
                )

    def _text(self, seed: int, tenant_id: str, index: int, length: int) -> str:
        stream = random_stream(seed, tenant_id, f"prompt/{index}")
        first = self._words.first[int(stream.integers(len(self._words.first)))]
        inner = self._words.inner
        return " ".join([first, *(inner[i] for i in stream.integers(len(inner), size=length - 1))])

    def _fresh_start(self, text: str, index: int) -> str:
        """The text behind other first words, as many; straight from a digest, as this is done while the load runs."""
        parts = text.split(" ", _LEADING)
        count = min(_LEADING, len(parts))
        digest = hashlib.sha256(f"{self._seed}/{self._tenant_id}/start/{index}".encode()).digest()
        numbers = [int.from_bytes(digest[4 * i : 4 * i + 4], "big") for i in range(count)]
        first, inner = self._words.first, self._words.inner
        leading = [first[numbers[0] % len(first)], *(inner[number % len(inner)] for number in numbers[1:])]
        return " ".join(leading + parts[count:])

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        place = index % len(self._pool)
        text = self._pool[place]
        if index != place:
            text = self._fresh_start(text, index)
        return PromptRequest(None, text, self._input_tokens[place], self._output_tokens[place])
