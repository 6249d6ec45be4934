"""Prompts of a trace: random words with the lengths of recorded requests, and their shared prefixes."""

from __future__ import annotations

import hashlib

import numpy as np

from fairshare_locust.profile.workloads import TraceWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.trace import BLOCK_TOKENS, TenantRows
from fairshare_locust.workload.source import PromptRequest, PromptSource
from fairshare_locust.workload.tokenizer import Tokenizer
from fairshare_locust.workload.words import Words, check_lengths, shortened

__all__ = ["TraceSource"]

_SEQUENCE = 2**17  # words
_LEADING = 4
_CHECKED = 64
_CHECKED_TOKENS = 400_000


class TraceSource(PromptSource):
    """A request for each row, in their order, and again from the first one after the last.

    Texts are put together when they are asked for, as a trace may have millions of rows and prompts of 100,000
    tokens. A hash id stands for the same `BLOCK_TOKENS` words wherever it occurs in the trace, whoever sends it; what
    goes beyond a row's blocks is the request's own. A row of 0 tokens is sent with 1. With `overhead_tokens`, what a
    chat template adds, texts are shorter by it.
    """

    def __init__(
        self,
        workload: TraceWorkload,
        rows: TenantRows,
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer | None,
        words: Words,
        expected: int,
        overhead_tokens: int = 0,
    ) -> None:
        self._rows = rows
        self._most_input_tokens = workload.max_input_tokens
        self._most_output_tokens = workload.max_output_tokens
        self._overhead_tokens = overhead_tokens
        self._block_key = f"{seed}/{workload.trace}/block/"
        self._own_key = f"{seed}/{tenant_id}/own/"
        self._sequence = _Sequence(words, random_stream(seed, workload.trace, "words"))
        self._check(tokenizer, tenant_id, min(expected, len(rows)))

    def _check(self, tokenizer: Tokenizer | None, tenant_id: str, expected: int) -> None:
        """Some prompts, spread over those that are expected, have the tokens that they were made of."""
        texts: list[str] = []
        lengths: list[int] = []
        for index in np.unique(np.linspace(0, max(0, expected - 1), _CHECKED).astype(int)).tolist():
            length = self._text_tokens(index)
            if texts and sum(lengths) + length > _CHECKED_TOKENS:
                continue
            texts.append(self._text(index, length))
            lengths.append(length)
        check_lengths(tokenizer, tenant_id, texts, lengths)

    def _text_tokens(self, row: int) -> int:
        recorded = int(self._rows.input_tokens[row])
        return shortened(min(recorded, self._most_input_tokens or recorded), self._overhead_tokens)

    def _text(self, index: int, length: int) -> str:
        parts = []
        left = length
        for hash_id in self._rows.hash_blocks(index % len(self._rows)):
            if not left:
                break
            count = min(left, BLOCK_TOKENS)
            parts.append(self._sequence.stretch(f"{self._block_key}{hash_id}", count))
            left -= count
        if left:
            parts.append(self._sequence.stretch(f"{self._own_key}{index}", left))
        return " ".join(parts)

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        row = index % len(self._rows)
        length = self._text_tokens(row)
        output_tokens = int(self._rows.output_tokens[row])
        return PromptRequest(
            messages=None,
            prompt=self._text(index, length),
            input_tokens=length + self._overhead_tokens,
            output_tokens=min(output_tokens, self._most_output_tokens or output_tokens),
        )


class _Sequence:
    """A long text of words, of which stretches are cut; each behind a few words of its own.

    Cutting costs next to nothing while the load runs; the first words keep stretches apart, so that a prefix cache
    takes none for another.
    """

    def __init__(self, words: Words, stream: np.random.Generator) -> None:
        self._words = words
        sequence = [words.inner[i] for i in stream.integers(len(words.inner), size=_SEQUENCE).tolist()]
        self._text = " ".join(sequence)
        # Where each word begins, and where one more would.
        self._starts = np.cumsum([0, *(len(word) + 1 for word in sequence)]).tolist()

    def stretch(self, key: str, count: int) -> str:
        """`count` words, at least 1; the same for the same key, and as a shorter one begins so does a longer one."""
        digest = hashlib.sha256(key.encode()).digest()
        first, inner = self._words.first, self._words.inner
        numbers = [int.from_bytes(digest[4 * i : 4 * i + 4], "big") for i in range(_LEADING)]
        parts = [first[numbers[0] % len(first)], *(inner[number % len(inner)] for number in numbers[1:])][:count]
        left = count - len(parts)
        place = int.from_bytes(digest[4 * _LEADING : 4 * _LEADING + 8], "big") % _SEQUENCE
        while left:
            taken = min(left, _SEQUENCE - place)
            parts.append(self._text[self._starts[place] : self._starts[place + taken] - 1])
            left -= taken
            place = 0
        return " ".join(parts)
