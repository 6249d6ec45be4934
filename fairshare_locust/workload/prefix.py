"""Prompts behind shared prefixes: what a server's prefix cache can find again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fairshare_locust.profile.workloads import PrefixWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.choices import Choices
from fairshare_locust.workload.length import draw_length
from fairshare_locust.workload.source import PromptRequest, PromptSource
from fairshare_locust.workload.synthetic import SyntheticSource
from fairshare_locust.workload.tokenizer import Tokenizer
from fairshare_locust.workload.words import Words, check_lengths

__all__ = ["PrefixSource"]

_EVERYBODY = "*"  # no tenant's id
_CHECKED = 16
_CACHED = 256


class PrefixSource(PromptSource):
    """Random words behind the prefix of a group, drawn by Zipf's law: group k, from 1, in proportion to 1 / k^zipf.

    A prefix is a pure function of seed, tenant (of none when it is shared) and group. With `overhead_tokens`, what
    a chat template adds, the words after the prefix are fewer by it; the prefixes stay as they are.
    """

    def __init__(
        self,
        workload: PrefixWorkload,
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer | None,
        words: Words,
        expected: int,
        overhead_tokens: int = 0,
    ) -> None:
        owner = _EVERYBODY if workload.share_prefix else tenant_id

        @lru_cache(_CACHED)
        def prefix(group: int) -> tuple[str, int]:
            length = draw_length(workload.prefix_tokens, seed, owner, f"prefix_tokens/{group}")
            return words.text(random_stream(seed, owner, f"prefix/{group}"), length), length

        self._prefix = prefix
        weights = np.arange(1, workload.groups + 1, dtype=np.float64) ** -workload.zipf
        self._groups = Choices(weights, random_stream(seed, tenant_id, "group"))
        self._rest = SyntheticSource(workload, seed, tenant_id, tokenizer, words, expected, overhead_tokens)
        sample = [self.request(index) for index in range(_CHECKED)]
        check_lengths(
            tokenizer,
            tenant_id,
            [request.prompt for request in sample],
            [request.input_tokens - overhead_tokens for request in sample],
        )

    def group(self, index: int) -> int:
        """The group, from 0, that the request with this index belongs to."""
        return self._groups.at(index)[0]

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        rest = self._rest.request(index)
        prefix, tokens = self._prefix(self.group(index))
        return PromptRequest(None, f"{prefix} {rest.prompt}", tokens + rest.input_tokens, rest.output_tokens)
