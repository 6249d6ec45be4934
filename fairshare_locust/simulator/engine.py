"""Continuous batching on a modelled GPU: which sequences take part in a step, and how much work it is.

The engine has no clock and no sockets, and no randomness but a seeded jitter: `begin_step` says what runs next and how
much work that is, `end_step` says which tokens came out of it. Whoever drives it decides what a second is.

One step holds one token of every decoding sequence, and prompt tokens of sequences still in prefill up to
`max_num_batched_tokens` (chunked prefill), in order of admission. `costs` has the formula of its time; a decoding
sequence reads the KV tokens of its whole context, prompt and answer so far, wherever it has them from.

The first token of a sequence comes out of the step that ends its prefill, then one out of every step. The first of the
queue (`scheduler`) enters once its whole prompt fits into the free KV blocks and `max_num_seqs` allows; nobody
overtakes it. What the prefix cache has of its prompt needs no computing. A sequence takes blocks as its tokens are
computed. When there are none left, one of the batch is preempted (the last in rank; where the policy is fair by tenant,
the last admitted): it gives up all of its own and goes back to the queue, to compute its prompt and its answer so far
again; nobody is admitted in such a step. So a sequence that arrives never takes the place of one that runs.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.blocks import BLOCK_TOKENS, BlockPool, blocks_of
from fairshare_locust.simulator.costs import StepCosts, Work
from fairshare_locust.simulator.scheduler import OUTPUT_WEIGHT, scheduler_of
from fairshare_locust.simulator.sequence import Emission, FinishReason, Sequence

__all__ = ["Emission", "Engine", "FinishReason", "Sequence", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass over the batch holds.

    Attributes:
        work: what it takes of the GPU.
        decoding: sequences that get their next token.
        prefills: sequences with the number of their prompt tokens in this step.
        admitted: sequences that left the queue for this step.
        preempted: sequences that went back to the queue before it.
    """

    work: Work
    decoding: tuple[Sequence, ...]
    prefills: tuple[tuple[Sequence, int], ...]
    admitted: tuple[Sequence, ...]
    preempted: tuple[Sequence, ...]

    @property
    def duration_s(self) -> float:
        """How long it lasts if nothing else runs on the GPU."""
        return self.work.alone_s


class Engine:
    """The batch, the queue in front of it, and the KV cache they share.

    Args:
        config: the policy, and the limits of a batch.
        costs: of a step; without them those of the whole card.
        kv_capacity_tokens: of its KV cache, rounded down to whole blocks; without it that of the whole card.
        seed: of the jitter.
    """

    def __init__(
        self,
        config: SimulatorOptions,
        costs: StepCosts | None = None,
        kv_capacity_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config
        self._costs = StepCosts.of(config) if costs is None else costs
        capacity_tokens = config.kv_capacity_tokens if kv_capacity_tokens is None else kv_capacity_tokens
        self._pool = BlockPool(capacity_tokens // BLOCK_TOKENS, config.prefix_caching)
        self._queue = scheduler_of(config.scheduling_policy)
        self._jitter = random.Random(seed)
        self._arrivals = itertools.count()
        # The batch in order of admission. Whoever decodes was admitted before whoever is in prefill: a prompt that is
        # not done has taken all that was left of the budget, so nobody came in after it.
        self._decoding: list[Sequence] = []
        self._prefilling: list[Sequence] = []
        self._tokens: list[Emission] = []  # of those decoding, for a step in which nobody ends
        self._context_tokens = 0  # of those decoding
        self._decoding_of: dict[str, int] = {}  # how many, by tenant
        self._short: list[Sequence] = []  # those decoding whose next token needs another block
        self._preemptions = 0
        self._step: Step | None = None

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._decoding) + len(self._prefilling)

    @property
    def kv_capacity_tokens(self) -> int:
        """KV tokens that all blocks hold."""
        return self._pool.capacity * BLOCK_TOKENS

    @property
    def kv_used_tokens(self) -> int:
        """KV tokens of the blocks that the batch holds, full or not; blocks that are shared count once."""
        return self._pool.used * BLOCK_TOKENS

    @property
    def preemptions(self) -> int:
        """How often a sequence had to give up its KV tokens, so far."""
        return self._preemptions

    @property
    def prefix_queries_tokens(self) -> int:
        """Prompt tokens looked for in the prefix cache, so far: of each prompt once, when it is first admitted."""
        return self._pool.queried_tokens

    @property
    def prefix_hits_tokens(self) -> int:
        """Those of them that were there."""
        return self._pool.hit_tokens

    @property
    def services(self) -> dict[str, int]:
        """What each tenant was served so far, in weighted tokens."""
        return dict(self._queue.services)

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
        tokens = sequence.prompt_tokens + sequence.max_tokens
        for allowed, name in (
            (self.config.max_model_len, "max_model_len"),
            (self.kv_capacity_tokens, f"the KV cache, in whole blocks of {BLOCK_TOKENS}"),
        ):
            if tokens > allowed:
                raise ServingError(
                    f"simulator: a sequence of {sequence.prompt_tokens} + {sequence.max_tokens} tokens; allowed "
                    f"are at most {allowed} ({name})"
                )
        stop_after = sequence.stop_after_tokens
        sequence.ends_at = sequence.max_tokens if stop_after is None else max(1, min(stop_after, sequence.max_tokens))
        sequence.arrival = next(self._arrivals)
        sequence.prefill_tokens = sequence.prompt_tokens
        self._queue.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence wherever it stands; one that has ended already is left alone.

        Its KV blocks are free at once. A step that has begun keeps its work, without this one's token.
        """
        if sequence.table is not None:
            self._remove(sequence)
        else:
            self._queue.remove(sequence)

    def begin_step(self) -> Step | None:
        """Choose what runs next; None when there is nothing to do.

        Raises:
            RuntimeError: the step before has not been ended.
        """
        if self._step is not None:
            raise RuntimeError("begin_step before end_step of the step before")
        preempted = self._grow_decoding() if self._short else []
        budget = self.config.max_num_batched_tokens
        prefills = self._continue_prefill(budget, preempted) if self._prefilling else []
        admitted: list[Sequence] = []
        if not preempted and len(self._queue):
            admitted = self._admit(budget, prefills)
        decoding = len(self._decoding)
        if not decoding and not prefills:
            return None
        tokens = decoding + sum([tokens for _, tokens in prefills])
        work = self._jittered(self._costs.work(decoding, tokens, self._context_tokens))
        self._step = Step(work, tuple(self._decoding), tuple(prefills), tuple(admitted), tuple(preempted))
        return self._step

    def end_step(self) -> list[Emission]:
        """End the step: its tokens, decoding sequences first, each group in order of admission.

        Raises:
            RuntimeError: no step has begun.
        """
        if self._step is None:
            raise RuntimeError("end_step without begin_step")
        step, self._step = self._step, None
        emissions = self._decode()
        if step.prefills:
            ended = [s for s, _ in step.prefills if s.computed_tokens == s.prefill_tokens]  # of one cancelled: 0
            self._prefilling = [s for s in self._prefilling if s.computed_tokens < s.prefill_tokens]
            emissions += [self._first_token(sequence) for sequence in ended]
        return emissions

    def _jittered(self, work: Work) -> Work:
        sigma = self.config.jitter
        if not sigma:
            return work
        factor = math.exp(self._jitter.gauss(-sigma * sigma / 2, sigma))  # of mean 1
        return Work(*(part_s * factor for part_s in work))

    def _grow_decoding(self) -> list[Sequence]:
        """One more block for each that needs one; those that were preempted for it."""
        preempted: list[Sequence] = []
        for sequence in self._short:
            if self._grow(sequence, sequence.context_tokens, preempted):
                self._set_due(sequence)
        self._short.clear()
        return preempted

    def _continue_prefill(self, budget: int, preempted: list[Sequence]) -> list[tuple[Sequence, int]]:
        """The next prompt tokens of those in prefill: never more than one, see `__init__`."""
        prefills: list[tuple[Sequence, int]] = []
        for sequence in tuple(self._prefilling):
            left = sequence.prefill_tokens - sequence.computed_tokens
            tokens = min(left, budget - len(self._decoding))
            if tokens > 0 and self._grow(sequence, sequence.computed_tokens + tokens, preempted):
                prefills.append((sequence, tokens))
                self._compute(sequence, tokens)
        return prefills

    def _admit(self, budget: int, prefills: list[tuple[Sequence, int]]) -> list[Sequence]:
        """Move the first of the queue into the batch while there is room; adds their tokens to `prefills`."""
        pool, queue = self._pool, self._queue
        budget -= len(self._decoding) + sum([tokens for _, tokens in prefills])
        admitted: list[Sequence] = []
        while budget > 0 and self.running < self.config.max_num_seqs:
            first = queue.first()
            if first is None:
                break
            found = first.blocks[: pool.found(first.blocks, first.prefill_tokens)]
            if not pool.has_room(blocks_of(first.prefill_tokens), found):
                break
            queue.take()
            if not first.preemptions:
                pool.account(first.prompt_tokens, len(found))
                first.cached_tokens = len(found) * BLOCK_TOKENS
            first.table = pool.open(found)
            first.computed_tokens = len(found) * BLOCK_TOKENS
            tokens = min(first.prefill_tokens - first.computed_tokens, budget)
            pool.grow(first.table, blocks_of(first.computed_tokens + tokens))
            self._compute(first, tokens)
            self._prefilling.append(first)
            prefills.append((first, tokens))
            admitted.append(first)
            budget -= tokens
        return admitted

    def _compute(self, sequence: Sequence, tokens: int) -> None:
        """Count prompt tokens as computed, and share their blocks: from here on, the step will have written them."""
        assert sequence.table is not None
        sequence.computed_tokens += tokens
        self._pool.name(sequence.table, sequence.blocks, sequence.computed_tokens // BLOCK_TOKENS)

    def _grow(self, sequence: Sequence, tokens: int, preempted: list[Sequence]) -> bool:
        """Blocks for so many tokens of one in the batch, preempting for them; False if it is preempted itself."""
        blocks = blocks_of(tokens)
        while sequence.table is not None and not self._pool.grow(sequence.table, blocks):
            victim = self._queue.victim([*self._decoding, *self._prefilling])
            self._remove(victim)
            victim.prefill_tokens = victim.context_tokens
            victim.preemptions += 1
            self._preemptions += 1
            self._queue.put_back(victim)
            preempted.append(victim)
        return sequence.table is not None

    def _decode(self) -> list[Emission]:
        """The next token of all that decode. The engine's inner loop: only who is due is looked at any closer."""
        decoding, emissions = self._decoding, self._tokens.copy()
        due: list[int] = []
        for place, sequence in enumerate(decoding):
            sequence.generated_tokens = generated = sequence.generated_tokens + 1
            if generated == sequence.due_at:
                due.append(place)
        self._context_tokens += len(decoding)
        for tenant, count in self._decoding_of.items():
            self._queue.charge(tenant, OUTPUT_WEIGHT * count)
        ended: list[int] = []
        for place in due:
            sequence = decoding[place]
            if sequence.generated_tokens < sequence.ends_at:
                self._short.append(sequence)
            else:
                emissions[place] = Emission(sequence, sequence.finish_reason)
                ended.append(place)
        for place in reversed(ended):  # from the end, so that places stay where they are
            sequence = decoding[place]
            self._leave_decoding(place)
            self._release(sequence)
        return emissions

    def _first_token(self, sequence: Sequence) -> Emission:
        """The token of a step that ended a prefill: the first, or the first after a preemption."""
        sequence.generated_tokens += 1
        self._queue.charge(sequence.tenant, OUTPUT_WEIGHT)
        emission = Emission(sequence, sequence.finish_reason)
        if emission.finish_reason is not None:
            self._release(sequence)
            return emission
        self._decoding.append(sequence)
        self._tokens.append(emission)
        self._context_tokens += sequence.context_tokens
        self._decoding_of[sequence.tenant] = self._decoding_of.get(sequence.tenant, 0) + 1
        assert sequence.table is not None
        if blocks_of(sequence.context_tokens) > sequence.table.count:
            self._short.append(sequence)
        else:
            self._set_due(sequence)
        return emission

    def _set_due(self, sequence: Sequence) -> None:
        assert sequence.table is not None
        full_at = sequence.table.count * BLOCK_TOKENS - sequence.prompt_tokens
        sequence.due_at = min(sequence.ends_at, full_at + 1)

    def _remove(self, sequence: Sequence) -> None:
        """Take one out of the batch."""
        if sequence in self._prefilling:
            self._prefilling.remove(sequence)
        else:
            self._leave_decoding(self._decoding.index(sequence))
        self._release(sequence)

    def _leave_decoding(self, place: int) -> None:
        sequence = self._decoding[place]
        del self._decoding[place], self._tokens[place]
        self._context_tokens -= sequence.context_tokens
        self._decoding_of[sequence.tenant] -= 1
        if not self._decoding_of[sequence.tenant]:
            del self._decoding_of[sequence.tenant]

    def _release(self, sequence: Sequence) -> None:
        assert sequence.table is not None
        self._pool.release(sequence.table)
        sequence.table = None
        sequence.computed_tokens = 0
