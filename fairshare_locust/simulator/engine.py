"""Continuous batching on a modelled GPU: which sequences take part in a step, and how long it lasts.

The engine has no clock, no sockets and no randomness: `begin_step` says what runs next and for how long,
`end_step` says which tokens came out of it. Whoever drives it decides what a second is.

One step holds one token of every decoding sequence, and prompt tokens of sequences still in prefill up to
`max_num_batched_tokens` (chunked prefill), in order of admission:

    duration = step_base + step_per_sequence · decoding sequences + prefill_per_token · prompt tokens

The first token of a sequence comes out of the step that ends its prefill, then one out of every step.
Admission is first come, first served: the head of the queue enters once its prompt and its longest possible
answer fit into the free KV tokens and `max_num_seqs` allows; nobody overtakes it. Because the whole answer
is reserved, a running sequence is never preempted.
"""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from fairshare_locust.errors import ServingError

__all__ = ["Emission", "Engine", "EngineConfig", "FinishReason", "Sequence", "Step"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The modelled GPU and its scheduler.

    Attributes:
        step_base_ms: cost of any step (weights read once, host overhead).
        step_per_sequence_us: added by each decoding sequence.
        prefill_per_token_us: added by each prompt token in the step.
        kv_capacity_tokens: tokens the KV cache holds, prompts and answers together.
        max_num_seqs: sequences in the batch at once.
        max_num_batched_tokens: tokens, decoded and prefilled, in one step.
        max_model_len: longest prompt and answer together.

    Raises:
        ServingError: a value that is not allowed.
    """

    step_base_ms: float = 8.0
    step_per_sequence_us: float = 100.0
    prefill_per_token_us: float = 60.0
    kv_capacity_tokens: int = 65536
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192

    def __post_init__(self) -> None:
        self._check_number("step_base_ms", above_zero=True)
        self._check_number("step_per_sequence_us")
        self._check_number("prefill_per_token_us")
        for name in ("kv_capacity_tokens", "max_num_seqs", "max_num_batched_tokens", "max_model_len"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ServingError(f"simulator: {name} is {value!r}; allowed is a whole number of at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ServingError(
                f"simulator: max_num_batched_tokens is {self.max_num_batched_tokens}; allowed is at least "
                f"max_num_seqs ({self.max_num_seqs}), or a full batch could not decode"
            )
        if self.max_model_len > self.kv_capacity_tokens:
            raise ServingError(
                f"simulator: max_model_len is {self.max_model_len}; allowed is at most kv_capacity_tokens "
                f"({self.kv_capacity_tokens}), or the longest request could never run"
            )

    def _check_number(self, name: str, *, above_zero: bool = False) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (above_zero and value == 0):
            bound = "above 0" if above_zero else "of at least 0"
            raise ServingError(f"simulator: {name} is {value!r}; allowed is a number {bound}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> EngineConfig:
        """Build from `{field: value}`; what is left out keeps its default.

        Raises:
            ServingError: an option that does not exist, or a value that is not allowed.
        """
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ServingError(f"simulator: no option {name!r}; {hint}allowed are {', '.join(names)}")
        return cls(**options)

    def step_duration_s(self, decoding: int, prefill_tokens: int) -> float:
        """Seconds that a step with so many decoding sequences and prompt tokens lasts."""
        return (
            self.step_base_ms * 1e-3
            + self.step_per_sequence_us * 1e-6 * decoding
            + self.prefill_per_token_us * 1e-6 * prefill_tokens
        )


@dataclass(eq=False, slots=True)
class Sequence:
    """One answer in the making. Compared by identity; the engine counts its tokens.

    Attributes:
        prompt_tokens: at least 1.
        max_tokens: cap of the answer, at least 1; reserved in the KV cache from admission on.
        stop_after_tokens: length at which the answer ends by itself; None: never (`ignore_eos`).
    """

    prompt_tokens: int
    max_tokens: int
    stop_after_tokens: int | None = None
    prefilled_tokens: int = 0
    generated_tokens: int = 0

    @property
    def reserved_tokens(self) -> int:
        """KV tokens held while running."""
        return self.prompt_tokens + self.max_tokens

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


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass over the batch holds.

    Attributes:
        duration_s: how long it lasts.
        decoding: sequences that get their next token.
        prefills: sequences with the number of their prompt tokens in this step.
        admitted: sequences that left the queue for this step.
    """

    duration_s: float
    decoding: tuple[Sequence, ...]
    prefills: tuple[tuple[Sequence, int], ...]
    admitted: tuple[Sequence, ...]


class Engine:
    """The batch, the queue in front of it, and the KV cache they share."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._waiting: OrderedDict[Sequence, None] = OrderedDict()
        self._running: dict[Sequence, None] = {}  # in order of admission
        self._kv_reserved_tokens = 0
        self._step: Step | None = None

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def kv_reserved_tokens(self) -> int:
        """KV tokens held by the batch."""
        return self._kv_reserved_tokens

    def submit(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the queue.

        Raises:
            ServingError: one that could never run.
        """
        if sequence.prompt_tokens < 1 or sequence.max_tokens < 1:
            raise ServingError(
                f"simulator: a sequence of {sequence.prompt_tokens} prompt tokens and at most "
                f"{sequence.max_tokens} answer tokens; allowed is at least 1 of each"
            )
        if sequence.reserved_tokens > self.config.max_model_len:
            raise ServingError(
                f"simulator: a sequence of {sequence.prompt_tokens} + {sequence.max_tokens} tokens; allowed "
                f"are at most {self.config.max_model_len} (max_model_len)"
            )
        self._waiting[sequence] = None

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence wherever it stands; one that has ended already is left alone.

        Its KV tokens are free at once. A step that has begun keeps its duration, without this one's token.
        """
        if sequence in self._waiting:
            del self._waiting[sequence]
        elif sequence in self._running:
            self._release(sequence)

    def begin_step(self) -> Step | None:
        """Choose what runs next; None when there is nothing to do.

        Raises:
            RuntimeError: the step before has not been ended.
        """
        if self._step is not None:
            raise RuntimeError("begin_step before end_step of the step before")
        decoding = tuple(s for s in self._running if s.prefilled_tokens == s.prompt_tokens)
        budget = self.config.max_num_batched_tokens - len(decoding)
        prefills: list[tuple[Sequence, int]] = []
        for sequence in self._running:
            left = sequence.prompt_tokens - sequence.prefilled_tokens
            if left and budget:
                prefills.append((sequence, min(left, budget)))
                budget -= prefills[-1][1]
        admitted = []
        while budget and (admissible := self._admit()) is not None:
            admitted.append(admissible)
            prefills.append((admissible, min(admissible.prompt_tokens, budget)))
            budget -= prefills[-1][1]
        if not decoding and not prefills:
            return None
        duration_s = self.config.step_duration_s(len(decoding), sum(tokens for _, tokens in prefills))
        self._step = Step(duration_s, decoding, tuple(prefills), tuple(admitted))
        return self._step

    def end_step(self) -> list[Emission]:
        """End the step: its tokens, decoding sequences first, each group in order of admission.

        Raises:
            RuntimeError: no step has begun.
        """
        if self._step is None:
            raise RuntimeError("end_step without begin_step")
        step, self._step = self._step, None
        emissions = [self._emit(sequence) for sequence in step.decoding if sequence in self._running]
        for sequence, tokens in step.prefills:
            if sequence not in self._running:
                continue
            sequence.prefilled_tokens += tokens
            if sequence.prefilled_tokens == sequence.prompt_tokens:
                emissions.append(self._emit(sequence))
        return emissions

    def _admit(self) -> Sequence | None:
        """Move the head of the queue into the batch if there is room for it."""
        if not self._waiting or len(self._running) >= self.config.max_num_seqs:
            return None
        head = next(iter(self._waiting))
        if self._kv_reserved_tokens + head.reserved_tokens > self.config.kv_capacity_tokens:
            return None
        del self._waiting[head]
        self._running[head] = None
        self._kv_reserved_tokens += head.reserved_tokens
        return head

    def _emit(self, sequence: Sequence) -> Emission:
        sequence.generated_tokens += 1
        reason = sequence.finish_reason
        if reason is not None:
            self._release(sequence)
        return Emission(sequence, reason)

    def _release(self, sequence: Sequence) -> None:
        del self._running[sequence]
        self._kv_reserved_tokens -= sequence.reserved_tokens
