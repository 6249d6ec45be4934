"""Prompts as the modelled server sees them: how many tokens they are, which blocks of them others share, and after
how many the answer ends. Worked out without a tokenizer wherever the prompt is made of words that are a token each.
"""

from __future__ import annotations

from collections.abc import Hashable

from fairshare_locust.profile.model import SimulatorOptions, Tenant
from fairshare_locust.simulator.blocks import BLOCK_TOKENS, block_names
from fairshare_locust.simulator.text import natural_length_tokens, prompt_seed
from fairshare_locust.workload import PromptRequest, PromptSource, Tokenizer
from fairshare_locust.workload.file import FileSource
from fairshare_locust.workload.mixture import MixtureSource
from fairshare_locust.workload.sharegpt import SharegptSource
from fairshare_locust.workload.synthetic import SyntheticSource

__all__ = ["BlockNames", "Blocks", "TenantPrompts"]

Blocks = tuple[Hashable, ...]


class BlockNames:
    """Names for the full blocks of prompts. Two are equal only if the blocks, and all before them, are.

    Attributes:
        wanted: somebody caches prefixes.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self._whole: dict[Hashable, int] = {}
        self._next = 0

    def fresh(self, count: int) -> Blocks:
        """Of blocks that nobody else has."""
        self._next += count
        return tuple(range(self._next - count, self._next))

    def whole(self, prompt: Hashable, count: int) -> Blocks:
        """Of a prompt that shares its blocks with none but its equals."""
        first = self._whole.setdefault(prompt, self._next)
        if first == self._next:
            return self.fresh(count)
        return tuple(range(first, first + count))


class TenantPrompts:
    """A tenant's prompts before the modelled server. What the tokenizer puts around a whole prompt is not counted."""

    def __init__(
        self,
        tenant: Tenant,
        source: PromptSource,
        options: SimulatorOptions,
        model: str,
        names: BlockNames,
        tokenizer: Tokenizer,
    ) -> None:
        """`model` is the server's own; `names` are for all tenants."""
        self._source = source
        self._names = names
        self._tokenizer = tokenizer
        self._chat = tenant.api == "openai_chat"
        self._template_tokens = options.chat_template_tokens if self._chat else 0
        # Other adapters compute other KV tokens. TGI knows no salt.
        self._root = (
            None if tenant.api == "tgi" else tenant.cache_salt,
            None if tenant.model == model else tenant.model,
        )
        # TGI can only cap an answer.
        self._ends_by_itself = tenant.api == "tgi" or not tenant.sampling.ignore_eos

    def tokens(self, index: int, request: PromptRequest) -> int:
        """Tokens of a request's prompt; the template's are counted already where the prompt was made to measure."""
        source, _ = self._drawn(index)
        recorded = isinstance(source, FileSource | SharegptSource)
        return request.input_tokens + (self._template_tokens if recorded else 0)

    def _drawn(self, index: int) -> tuple[PromptSource, int]:
        return self._source.part(index) if isinstance(self._source, MixtureSource) else (self._source, index)

    def stop_after_tokens(self, request: PromptRequest) -> int | None:
        """The length at which its answer ends by itself; None if it is asked for exactly so many tokens."""
        if not self._ends_by_itself:
            return None
        return natural_length_tokens(prompt_seed("\n".join(self._texts(request))))

    def _texts(self, request: PromptRequest) -> list[str]:
        if self._chat and request.messages is not None:
            return [message["content"] for message in request.messages]
        return [request.prompt]

    def blocks(self, index: int, request: PromptRequest, tokens: int, sha: str, before: Blocks | None) -> Blocks:
        """The names of the full blocks of a prompt of so many tokens.

        `before` are those of the turn before in its conversation, None in the first: the prompt goes on from them
        with what nobody else has, as the answer is part of it.
        """
        names, count = self._names, tokens // BLOCK_TOKENS
        if not names.wanted:
            return ()
        if before is not None:
            return before + names.fresh(count - len(before))
        source, _ = self._drawn(index)
        if isinstance(source, SyntheticSource):  # no two begin alike
            return names.whole((self._root, sha), count)
        if isinstance(source, FileSource | SharegptSource):
            ids = [-1] * self._template_tokens
            for text in self._texts(request):
                ids += self._tokenizer.ids(text)
            return block_names(self._root, ids[:tokens])
        words = [""] * self._template_tokens + request.prompt.split(" ")
        return block_names(self._root, words[:tokens])
