"""Continuous batching on a modelled GPU: which sequences take part in a step, and how long it lasts.

The engine has no clock, no sockets and no randomness: `begin_step` says what runs next and for how long,
`end_step` says which tokens came out of it. Whoever drives it decides what a second is.

One step holds one token of every decoding sequence, and prompt tokens of sequences still in prefill up to
`max_num_batched_tokens` (chunked prefill), in order of admission:

    duration = step_base + step_per_sequence · decoding sequences + prefill_per_token · prompt tokens

The first token of a sequence comes out of the step that ends its prefill, then one out of every step.
Sequences are ranked by arrival, under `scheduling_policy: priority` by (priority, arrival), lower first. The first
of the queue enters once its whole prompt fits into the free KV tokens and `max_num_seqs` allows; nobody overtakes
it. A sequence takes KV tokens as they are computed. When there are none left, the last in rank of the batch is
preempted: it gives up all of its own and goes back to the queue, to compute its prompt and its answer so far again;
nobody is admitted in such a step. So a sequence that arrives never takes the place of one that runs.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
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
    """One answer in the making. Compared by identity; the engine keeps its account.

    Attributes:
        prompt_tokens: at least 1.
        max_tokens: cap of the answer, at least 1.
        stop_after_tokens: length at which the answer ends by itself; None: never (`ignore_eos`).
        priority: lower goes first, where the engine schedules by priority.
        arrival: its place among all that were submitted.
        prefill_tokens: to be computed before its next token; after a preemption the answer so far, too.
        computed_tokens: KV tokens held while running.
        preemptions: how often it had to give them up.
    """

    prompt_tokens: int
    max_tokens: int
    stop_after_tokens: int | None = None
    priority: int = 0
    arrival: int = 0
    prefill_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0

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
        preempted: sequences that went back to the queue before it.
    """

    duration_s: float
    decoding: tuple[Sequence, ...]
    prefills: tuple[tuple[Sequence, int], ...]
    admitted: tuple[Sequence, ...]
    preempted: tuple[Sequence, ...]


class Engine:
    """The batch, the queue in front of it, and the KV cache they share."""

    def __init__(self, config: SimulatorOptions) -> None:
        self.config = config
        self._by_priority = config.scheduling_policy == "priority"
        self._arrivals = itertools.count()
        self._waiting: list[Sequence] = []  # by rank
        self._running: dict[Sequence, None] = {}  # in order of admission
        self._kv_used_tokens = 0
        self._preemptions = 0
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
    def kv_used_tokens(self) -> int:
        """KV tokens held by the batch."""
        return self._kv_used_tokens

    @property
    def preemptions(self) -> int:
        """How often a sequence had to give up its KV tokens, so far."""
        return self._preemptions

    def submit(self, sequence: Sequence) -> None:
        """Put a sequence into the queue.

        Raises:
            ServingError: one that could never run.
        """
        if sequence.prompt_tokens < 1 or sequence.max_tokens < 1:
            raise ServingError(
                f"simulator: a sequence of {sequence.prompt_tokens} prompt tokens and at most "
                f"{sequence.max_tokens} answer tokens; allowed is at least 1 of each"
            )
        if sequence.prompt_tokens + sequence.max_tokens > self.config.max_model_len:
            raise ServingError(
                f"simulator: a sequence of {sequence.prompt_tokens} + {sequence.max_tokens} tokens; allowed "
                f"are at most {self.config.max_model_len} (max_model_len)"
            )
        sequence.arrival = next(self._arrivals)
        sequence.prefill_tokens = sequence.prompt_tokens
        insort(self._waiting, sequence, key=self._rank)

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence wherever it stands; one that has ended already is left alone.

        Its KV tokens are free at once. A step that has begun keeps its duration, without this one's token.
        """
        if sequence in self._running:
            self._release(sequence)
            return
        place = bisect_left(self._waiting, self._rank(sequence), key=self._rank)
        if place < len(self._waiting) and self._waiting[place] is sequence:
            del self._waiting[place]

    def begin_step(self) -> Step | None:
        """Choose what runs next; None when there is nothing to do.

        Raises:
            RuntimeError: the step before has not been ended.
        """
        if self._step is not None:
            raise RuntimeError("begin_step before end_step of the step before")
        chunks, preempted = self._serve_running()
        admitted = [] if preempted else self._serve_waiting(chunks)
        if not chunks:
            return None
        decoding = []
        prefills = []
        for sequence, tokens in chunks.items():
            if sequence.computed_tokens > sequence.prefill_tokens:
                decoding.append(sequence)
            else:
                prefills.append((sequence, tokens))
        duration_s = step_duration_s(self.config, len(decoding), sum(tokens for _, tokens in prefills))
        self._step = Step(duration_s, tuple(decoding), tuple(prefills), tuple(admitted), tuple(preempted))
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
        for sequence, _ in step.prefills:
            if sequence in self._running and sequence.computed_tokens == sequence.prefill_tokens:
                emissions.append(self._emit(sequence))
        return emissions

    def _rank(self, sequence: Sequence) -> tuple[int, int]:
        return (sequence.priority if self._by_priority else 0, sequence.arrival)

    def _serve_running(self) -> tuple[dict[Sequence, int], list[Sequence]]:
        """Tokens in the next step of each in the batch, and those that were preempted for want of KV tokens.

        Whoever decodes was admitted before whoever is in prefill: a prompt that is not done had taken all that was
        left of the budget. So in order of admission nobody's next token is crowded out by a prompt.
        """
        budget, capacity = self.config.max_num_batched_tokens, self.config.kv_capacity_tokens
        chunks: dict[Sequence, int] = {}
        preempted: list[Sequence] = []
        for sequence in tuple(self._running):
            if preempted and sequence not in self._running:
                continue
            left = sequence.prefill_tokens - sequence.computed_tokens
            tokens = 1 if left <= 0 else min(left, budget)
            while self._kv_used_tokens + tokens > capacity:
                victim = max(self._running, key=self._rank)
                budget += chunks.pop(victim, 0)
                self._preempt(victim)
                preempted.append(victim)
                if victim is sequence:
                    break
            else:
                chunks[sequence] = tokens
                sequence.computed_tokens += tokens
                self._kv_used_tokens += tokens
                budget -= tokens
        return chunks, preempted

    def _serve_waiting(self, chunks: dict[Sequence, int]) -> list[Sequence]:
        """Move the first of the queue into the batch while there is room; adds their tokens to `chunks`."""
        budget = self.config.max_num_batched_tokens - sum(chunks.values())
        admitted: list[Sequence] = []
        while budget and self._waiting and len(self._running) < self.config.max_num_seqs:
            first = self._waiting[0]
            if self._kv_used_tokens + first.prefill_tokens > self.config.kv_capacity_tokens:
                break
            del self._waiting[0]
            self._running[first] = None
            tokens = min(first.prefill_tokens, budget)
            chunks[first] = first.computed_tokens = tokens
            self._kv_used_tokens += tokens
            budget -= tokens
            admitted.append(first)
        return admitted

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.prefill_tokens = sequence.prompt_tokens + sequence.generated_tokens
        sequence.preemptions += 1
        self._preemptions += 1
        insort(self._waiting, sequence, key=self._rank)

    def _emit(self, sequence: Sequence) -> Emission:
        sequence.generated_tokens += 1
        reason = sequence.finish_reason
        if reason is not None:
            self._release(sequence)
        return Emission(sequence, reason)

    def _release(self, sequence: Sequence) -> None:
        del self._running[sequence]
        self._kv_used_tokens -= sequence.computed_tokens
        sequence.computed_tokens = 0
