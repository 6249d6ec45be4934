"""A sequence: one answer in the making, with the account that an engine keeps of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fairshare_locust.simulator.blocks import BlockTable

__all__ = ["Emission", "FinishReason", "Sequence"]

FinishReason = Literal["stop", "length"]


@dataclass(eq=False, slots=True)
class Sequence:
    """One answer in the making. Compared by identity.

    Attributes:
        prompt_tokens: at least 1.
        max_tokens: cap of the answer, at least 1.
        stop_after_tokens: length at which the answer ends by itself; None: never (`ignore_eos`).
        priority: lower goes first, where the engine schedules by priority.
        tenant: whose it is, where the engine is fair by tenant.
        blocks: identity of each full block of 16 tokens of the prompt, equal only where all before it are equal; empty:
            it shares nothing.
        arrival: its place among all that were submitted.
        prefill_tokens: to be computed before its next token; after a preemption the answer so far, too.
        computed_tokens: those of them that are computed, or were found in the prefix cache.
        cached_tokens: prompt tokens found in the prefix cache when it was first admitted.
        generated_tokens: of its answer, so far.
        preemptions: how often it had to give up its KV tokens.
        table: its blocks of the KV cache; None while it doesn't run.
        ends_at: tokens that its answer will have.
        due_at: number of generated tokens at which it ends, or needs another block.
    """

    prompt_tokens: int
    max_tokens: int
    stop_after_tokens: int | None = None
    priority: int = 0
    tenant: str = ""
    blocks: tuple[Hashable, ...] = ()
    arrival: int = field(default=0, init=False)
    prefill_tokens: int = field(default=0, init=False)
    computed_tokens: int = field(default=0, init=False)
    cached_tokens: int = field(default=0, init=False)
    generated_tokens: int = field(default=0, init=False)
    preemptions: int = field(default=0, init=False)
    table: BlockTable | None = field(default=None, init=False, repr=False)
    ends_at: int = field(default=0, init=False, repr=False)
    due_at: int = field(default=0, init=False, repr=False)

    @property
    def context_tokens(self) -> int:
        """Prompt and answer so far: what its next token attends to."""
        return self.prompt_tokens + self.generated_tokens

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why no further token will come; None while more will."""
        if self.generated_tokens >= self.max_tokens:
            return "length"
        if self.stop_after_tokens is not None and self.generated_tokens >= self.stop_after_tokens:
            return "stop"
        return None


class Emission(NamedTuple):
    """One token of `sequence`; `finish_reason` is None unless it was the last."""

    sequence: Sequence
    finish_reason: FinishReason | None
