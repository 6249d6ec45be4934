"""Synthetic prompts: random words, exactly as many tokens as asked."""

from __future__ import annotations

import hashlib

import numpy as np

from fairshare_locust.profile.workloads import PrefixWorkload, SyntheticWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.length import draw_lengths
from fairshare_locust.workload.source import PromptRequest, PromptSource
from fairshare_locust.workload.tokenizer import Tokenizer
from fairshare_locust.workload.words import Words, check_lengths, shortened

__all__ = ["POOL", "SyntheticSource"]

# So many prompts are made; later requests use them again behind other first words, so that no prefix repeats.
POOL = 2048
# Fewer of long prompts: to make and to count more tokens than these would keep the user waiting.
_POOL_TOKENS = 1_000_000
_POOL_LEAST = 128
_LEADING = 4


class SyntheticSource(PromptSource):
    """Random words; as many prompts as are `expected` are prepared, though more may be asked for.

    With `overhead_tokens`, what a chat template adds, texts are shorter by it.
    """

    def __init__(
        self,
        workload: SyntheticWorkload | PrefixWorkload,
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer | None,
        words: Words,
        expected: int,
        overhead_tokens: int = 0,
    ) -> None:
        drawn = draw_lengths(workload.input_tokens, random_stream(seed, tenant_id, "input_tokens"), POOL)
        few_enough = max(_POOL_LEAST, int(np.searchsorted(np.cumsum(drawn), _POOL_TOKENS)))
        count = max(1, min(few_enough, expected, POOL))
        drawn = drawn[:count]
        stream = random_stream(seed, tenant_id, "output_tokens")
        lengths = [shortened(length, overhead_tokens) for length in drawn.tolist()]
        self._words = words
        self._seed = seed
        self._tenant_id = tenant_id
        self._output_tokens = draw_lengths(workload.output_tokens, stream, count).tolist()
        self._input_tokens = [length + overhead_tokens for length in lengths]
        self._lengths = lengths
        self._pool: list[str | None] = [None] * count
        if tokenizer is not None:  # they are made, and counted, before the load begins; else when they are asked for
            texts = [self._text(place) for place in range(count)]
            check_lengths(tokenizer, tenant_id, texts, lengths)

    def _text(self, place: int) -> str:
        """A prompt of the pool; made once."""
        text = self._pool[place]
        if text is None:
            stream = random_stream(self._seed, self._tenant_id, f"prompt/{place}")
            text = self._pool[place] = self._words.text(stream, self._lengths[place])
        return text

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
        text = self._text(place)
        if index != place:
            text = self._fresh_start(text, index)
        return PromptRequest(None, text, self._input_tokens[place], self._output_tokens[place])
