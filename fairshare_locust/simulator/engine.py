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

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import SimulatorOptions

__all__ = ["Emission", "Engine", "FinishReason", "Sequence", "Step", "step_duration_s"]

FinishReason = Literal["stop", "length"]


def step_duration_s(options: SimulatorOptions, decoding: int, prefill_tokens: int) -> float:
    """Seconds that a step with so many decoding sequences and prompt tokens lasts."""
    return (
        options.step_base_ms * 1e-3
        + options.step_per_sequence_us * 1e-6 * decoding
        + options.prefill_per_token_us * 1e-6 * prefill_tokens
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

    def __init__(self, config: SimulatorOptions) -> None:
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
        duration_s = step_duration_s(self.config, len(decoding), sum(tokens for _, tokens in prefills))
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
