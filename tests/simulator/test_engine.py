"""The modelled GPU: steps worked out by hand, then what must hold for any load."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.costs import StepCosts
from fairshare_locust.simulator.engine import Engine, Sequence, Step

# 10 ms a step, 0.1 ms per prompt token, and 1 ms per decoding sequence: 0.9 of its own, and 0.1 for its token.
ROUND = SimulatorOptions(
    step_base_ms=10,
    step_per_sequence_us=900,
    compute_per_token_us=100,
    kv_capacity_tokens=1000,
    max_num_seqs=4,
    max_num_batched_tokens=64,
    max_model_len=1000,
)

# All that a step costs. Reading the weights hides the computing of 200 tokens.
WHOLE = SimulatorOptions(
    step_base_ms=5,
    weights_ms=50,
    compute_per_token_us=250,
    kv_read_per_token_ns=500,
    step_per_sequence_us=100,
    max_num_batched_tokens=512,
)


def configured(**changes: Any) -> SimulatorOptions:
    return replace(ROUND, **changes)


class Bench:
    """Runs an engine and writes down, in milliseconds, when which sequence got a token."""

    def __init__(self, config: SimulatorOptions = ROUND) -> None:
        self.engine = Engine(config)
        self.names: dict[Sequence, str] = {}
        self.now_ms = 0.0

    def submit(self, name: str, prompt: int, answer: int, stop_after: int | None = None, **more: Any) -> Sequence:
        sequence = Sequence(prompt, answer, stop_after, **more)
        self.names[sequence] = name
        self.engine.submit(sequence)
        return sequence

    def begin(self) -> Step:
        step = self.engine.begin_step()
        assert step is not None
        self.now_ms += step.duration_s * 1e3
        return step

    def end(self) -> tuple[float, str]:
        """When the step ended, and the names of those that got a token (capital: their last)."""
        got = [
            self.names[sequence].upper() if reason else self.names[sequence]
            for sequence, reason in self.engine.end_step()
        ]
        return round(self.now_ms, 6), "".join(got)

    def step(self) -> tuple[float, str]:
        self.begin()
        return self.end()

    def run(self) -> list[tuple[float, str]]:
        steps = []
        while self.engine.waiting or self.engine.running:
            steps.append(self.step())
        return steps


def test_one_request() -> None:
    bench = Bench(WHOLE)
    bench.submit("a", prompt=400, answer=3)
    # 400 tokens take longer than the weights: 5 + 400 · 0.25. That is the time to the first token.
    # Then 5 + 0.1 + 50, and what the context takes to read: 401 · 0.0005, 402 · 0.0005.
    assert bench.run() == [(105.0, "a"), (160.3005, "a"), (215.6015, "A")]


def test_two_requests_that_batch() -> None:
    bench = Bench(WHOLE)
    bench.submit("a", prompt=400, answer=3)
    bench.begin()
    bench.submit("b", prompt=100, answer=2)
    assert bench.end() == (105.0, "a")
    # 101 tokens hide behind the weights: 5 + 0.1 + 50 + 401 · 0.0005.
    assert bench.step() == (160.3005, "ab")
    # Both decode: 5 + 2 · 0.1 + 50 + (402 + 101) · 0.0005.
    assert bench.step() == (215.752, "AB")


def test_what_a_step_takes_of_the_gpu() -> None:
    bench = Bench(WHOLE)
    bench.submit("a", prompt=400, answer=3)
    bench.step()
    bench.submit("b", prompt=300, answer=3)
    step = bench.begin()
    assert step.work == pytest.approx((0.0051, 0.050, 301 * 0.00025, 401 * 0.0000005))
    assert step.duration_s == step.work.alone_s == pytest.approx(0.0051 + 0.07525 + 0.0002005)


def test_costs_and_kv_cache_of_a_part_of_the_gpu() -> None:
    engine = Engine(WHOLE, StepCosts(0.001, 0.002, 0, 0, 0), kv_capacity_tokens=100)
    assert engine.kv_capacity_tokens == 96
    engine.submit(Sequence(90, 6))
    step = engine.begin_step()
    assert step is not None
    assert step.duration_s == pytest.approx(0.003)
    with pytest.raises(ServingError, match="at most 96"):
        engine.submit(Sequence(91, 6))


def test_first_token_comes_with_the_step_that_ends_the_prefill_then_one_per_step() -> None:
    bench = Bench()
    bench.submit("a", prompt=100, answer=3)
    # 64 prompt tokens: 10 + 6.4; the other 36: 10 + 3.6; then twice 10 + 1.
    assert bench.run() == [(16.4, ""), (30.0, "a"), (41.0, "a"), (52.0, "A")]
    assert bench.engine.begin_step() is None


def test_prefill_of_one_delays_the_next_token_of_another() -> None:
    bench = Bench()
    bench.submit("a", prompt=10, answer=3)
    assert bench.step() == (11.0, "a")
    bench.submit("b", prompt=20, answer=1)
    # One decodes, 20 prompt tokens: 10 + 1 + 2 = 13; then a alone: 11.
    assert bench.run() == [(24.0, "aB"), (35.0, "A")]


def test_prompts_are_chunked_into_what_decoding_leaves_of_the_token_budget() -> None:
    bench = Bench(configured(max_num_batched_tokens=8))
    bench.submit("a", prompt=8, answer=5)
    assert bench.step() == (10.8, "a")
    bench.submit("b", prompt=20, answer=2)
    # 7 + 7 + 6 prompt tokens beside one decoding sequence: 11.7, 11.7, 11.6; then both decode: 12.
    assert bench.run() == [(22.5, "a"), (34.2, "a"), (45.8, "ab"), (57.8, "AB")]


def test_budget_left_by_one_prompt_goes_to_the_next_in_the_queue() -> None:
    bench = Bench(configured(max_num_batched_tokens=10))
    bench.submit("a", prompt=6, answer=2)
    bench.submit("b", prompt=6, answer=1)
    step = bench.begin()
    assert [(bench.names[s], tokens) for s, tokens in step.prefills] == [("a", 6), ("b", 4)]
    assert [bench.names[s] for s in step.admitted] == ["a", "b"]
    assert step.duration_s == pytest.approx(0.011)


def test_full_kv_cache_makes_the_third_wait_and_nobody_overtakes_it() -> None:
    bench = Bench(configured(kv_capacity_tokens=112, max_model_len=112, max_num_batched_tokens=200))
    bench.submit("a", prompt=30, answer=2)  # two blocks of the seven
    bench.submit("b", prompt=50, answer=5)  # four
    bench.submit("c", prompt=17, answer=1)  # two
    bench.submit("d", prompt=1, answer=1)  # would fit
    # 80 prompt tokens: 18; both decode, and a ends: 12.
    assert bench.step() == (18.0, "ab")
    assert bench.engine.kv_used_tokens == 6 * 16
    assert bench.step() == (30.0, "Ab")
    assert bench.engine.kv_used_tokens == 4 * 16
    # b decodes, c and d enter with 18 prompt tokens: 10 + 1 + 1.8.
    assert bench.step() == (42.8, "bCD")


def cramped(**changes: Any) -> Bench:
    """Four blocks."""
    return Bench(configured(kv_capacity_tokens=64, max_model_len=64, **changes))


def test_without_kv_blocks_the_last_is_preempted_and_computes_prompt_and_answer_again() -> None:
    bench = cramped()
    bench.submit("a", prompt=17, answer=20)
    b = bench.submit("b", prompt=16, answer=30)
    # 33 prompt tokens: 13.3. Three blocks; b's second comes with its 17th token.
    assert bench.step() == (13.3, "ab")
    assert bench.engine.kv_used_tokens == 48
    # Fifteen times both decode, 12 each: a has 17 + 15 of the 32 tokens of its two blocks, b 16 + 15 of its.
    assert [bench.step() for _ in range(15)][-1] == (193.3, "ab")
    assert (bench.engine.kv_used_tokens, bench.engine.preemptions) == (64, 0)
    # a needs a third: b gives up its two, and needs as many to come back for 16 + 16 tokens. a alone: 11.
    assert bench.step() == (204.3, "a")
    assert (bench.engine.kv_used_tokens, bench.engine.preemptions, b.preemptions) == (48, 1, 1)
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    # a to its twentieth, 11 each; then b: 32 tokens of prefill, 10 + 3.2, and its seventeenth; thirteen times 11.
    rest = bench.run()
    assert rest[:4] == [(215.3, "a"), (226.3, "a"), (237.3, "A"), (250.5, "b")]
    assert (len(rest), rest[-1]) == (17, (393.5, "B"))
    assert bench.engine.kv_used_tokens == 0


def test_nobody_is_admitted_in_a_step_that_preempts() -> None:
    bench = cramped(scheduling_policy="priority")
    bench.submit("a", prompt=17, answer=20)
    bench.submit("b", prompt=16, answer=30)
    for _ in range(16):
        bench.step()
    first = bench.submit("c", prompt=1, answer=1, priority=-1)
    # b gives up two blocks for one that a needs; c would fit into the other.
    step = bench.begin()
    assert [bench.names[s] for s in step.preempted] == ["b"]
    assert step.admitted == ()
    bench.end()
    assert bench.begin().admitted == (first,)


def test_who_came_after_a_preempted_one_waits_for_it() -> None:
    bench = cramped()
    bench.submit("a", prompt=17, answer=20)
    bench.submit("b", prompt=16, answer=30)
    for _ in range(17):
        bench.step()
    bench.submit("c", prompt=1, answer=1)
    # One block is free: c would fit, but b needs two.
    assert (bench.engine.preemptions, bench.engine.kv_used_tokens) == (1, 48)
    assert bench.begin().admitted == ()


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("fcfs", [(22.0, "A"), (33.0, "B"), (44.0, "C"), (55.0, "D"), (66.0, "E")]),
        ("priority", [(22.0, "A"), (33.0, "E"), (44.0, "C"), (55.0, "D"), (66.0, "B")]),
        # y is lifted to x's 10 + 2. Then x has 14: d, which makes 24 of y's 12; b makes 26 of 14; e; c.
        ("vtc", [(22.0, "A"), (33.0, "D"), (44.0, "B"), (55.0, "E"), (66.0, "C")]),
        # x has a quantum of 1,024, and that isn't used up.
        ("drr", [(22.0, "A"), (33.0, "B"), (44.0, "C"), (55.0, "D"), (66.0, "E")]),
    ],
)
def test_the_queue_is_by_policy(policy: str, order: list[tuple[float, str]]) -> None:
    bench = Bench(configured(max_num_seqs=1, scheduling_policy=policy))
    bench.submit("a", prompt=10, answer=2, tenant="x")
    assert bench.step() == (11.0, "a")
    for name, priority, tenant in [("b", 5, "x"), ("c", 1, "x"), ("d", 1, "y"), ("e", -1, "y")]:
        bench.submit(name, prompt=10, answer=1, priority=priority, tenant=tenant)
    # e is before a, but a runs.
    assert bench.run() == order


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        # b, the last to arrive, gives way: its 18 + 15 tokens come again when a has ended.
        ("fcfs", [(203.4, "a"), (214.4, "a"), (225.4, "A"), (238.7, "b"), (249.7, "B")]),
        # a, the last in priority, gives way, though it had its place in the step already: 16 + 16 come again.
        ("priority", [(203.4, "b"), (214.4, "B"), (227.6, "a"), (238.6, "a"), (249.6, "A")]),
        # As first come, first served: b was admitted last.
        ("vtc", [(203.4, "a"), (214.4, "a"), (225.4, "A"), (238.7, "b"), (249.7, "B")]),
        ("drr", [(203.4, "a"), (214.4, "a"), (225.4, "A"), (238.7, "b"), (249.7, "B")]),
    ],
)
def test_who_is_preempted(policy: str, steps: list[tuple[float, str]]) -> None:
    bench = cramped(scheduling_policy=policy)
    bench.submit("a", prompt=16, answer=19, priority=1)
    # 16 prompt tokens: 11.6. Then a decodes and b enters: 10 + 1 + 1.8. Fourteen times both decode, 12 each.
    assert bench.step() == (11.6, "a")
    bench.submit("b", prompt=18, answer=17, priority=0)
    assert bench.step() == (24.4, "ab")
    assert [bench.step() for _ in range(14)][-1] == (192.4, "ab")
    # b needs a third block for its 33rd token; a has 32.
    assert bench.engine.kv_used_tokens == 64
    assert bench.run() == steps
    assert bench.engine.preemptions == 1


def test_a_full_batch_makes_the_next_wait() -> None:
    bench = Bench(configured(max_num_seqs=1))
    bench.submit("a", prompt=10, answer=2)
    bench.submit("b", prompt=10, answer=1)
    assert bench.step() == (11.0, "a")
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    assert bench.run() == [(22.0, "A"), (33.0, "B")]


def test_a_prompt_that_begins_like_one_before_computes_only_the_rest() -> None:
    bench = Bench(configured(kv_read_per_token_ns=10_000))
    bench.submit("a", prompt=40, answer=1, blocks=("x", "y"))
    assert bench.step() == (14.0, "A")
    assert bench.engine.kv_used_tokens == 0
    b = bench.submit("b", prompt=40, answer=2, blocks=("x", "y"))
    # 8 tokens: 10.8. What was found is read all the same: 11 + 41 · 0.01.
    assert bench.run() == [(24.8, "b"), (36.21, "B")]
    assert b.cached_tokens == 32
    assert (bench.engine.prefix_queries_tokens, bench.engine.prefix_hits_tokens) == (80, 32)


def test_a_prompt_shares_the_blocks_of_one_that_runs_and_of_one_in_the_same_step() -> None:
    bench = Bench()
    bench.submit("a", prompt=40, answer=3, blocks=("x", "y"))
    bench.submit("b", prompt=40, answer=3, blocks=("x", "z"))
    # 40 + 24 tokens: 10 + 6.4. Three blocks, and two.
    assert bench.step() == (16.4, "ab")
    assert bench.engine.kv_used_tokens == 80
    bench.submit("c", prompt=40, answer=1, blocks=("x", "z"))
    # Two decode, 8 tokens: 10 + 2 + 0.8; c's own block is gone with it.
    assert bench.step() == (29.2, "abC")
    assert bench.engine.kv_used_tokens == 80
    assert bench.engine.prefix_hits_tokens == 16 + 32


@pytest.mark.parametrize(("prompt", "cached"), [(16, 0), (17, 16), (32, 16), (33, 32)])
def test_the_last_prompt_token_is_always_computed(prompt: int, cached: int) -> None:
    bench = Bench()
    for name in "ab":
        sequence = bench.submit(name, prompt, answer=1, blocks=("x", "y")[: prompt // 16])
        bench.run()
    assert sequence.cached_tokens == cached


def test_a_block_of_a_prompt_is_shared_when_it_is_computed_and_not_before() -> None:
    bench = Bench(configured(max_num_batched_tokens=20))
    bench.submit("a", prompt=40, answer=1, blocks=("x", "y"))
    bench.step()  # 20 tokens: the first block, and a part of the second
    bench.submit("b", prompt=40, answer=1, blocks=("x", "y"))
    bench.step()  # the other 20
    assert bench.engine.prefix_hits_tokens == 0
    step = bench.begin()
    assert [tokens for _, tokens in step.prefills] == [8]


def test_a_preempted_one_finds_its_own_prompt_again_and_counts_it_once() -> None:
    bench = cramped()
    bench.submit("a", prompt=17, answer=18)
    b = bench.submit("b", prompt=18, answer=17, blocks=("x",))
    # b needs its third block first, for its 33rd token, and is the last.
    assert [bench.step() for _ in range(15)][-1] == (13.5 + 14 * 12, "ab")
    step = bench.begin()
    assert step.preempted == (b,)
    bench.end()
    # a needs its third; it has its eighteenth token after two more, 11 each. Then b: 18 + 15 tokens without 16.
    assert bench.run() == [(203.5, "a"), (214.5, "A"), (226.2, "b"), (237.2, "B")]
    assert b.cached_tokens == 0
    assert (bench.engine.prefix_queries_tokens, bench.engine.prefix_hits_tokens) == (35, 0)
    assert bench.engine.services == {"": 17 + 18 + 2 * (18 + 17)}


def test_without_prefix_caching_nothing_is_shared() -> None:
    bench = Bench(configured(prefix_caching=False))
    for name in "ab":
        bench.submit(name, prompt=32, answer=1, blocks=("x", "y"))
    # 64 tokens: 10 + 6.4.
    assert bench.run() == [(16.4, "AB")]
    assert bench.engine.prefix_queries_tokens == 0


def test_cancelling_frees_the_kv_cache_for_the_next_step() -> None:
    bench = Bench(configured(kv_capacity_tokens=100, max_model_len=100))
    a = bench.submit("a", prompt=60, answer=30)
    bench.submit("b", prompt=50, answer=1)
    assert bench.step() == (16.0, "a")
    assert bench.engine.kv_used_tokens == 64
    bench.engine.cancel(a)
    assert bench.engine.kv_used_tokens == 0
    assert bench.run() == [(31.0, "B")]


def test_cancelling_during_a_step_drops_the_token_but_not_the_time() -> None:
    bench = Bench()
    a = bench.submit("a", prompt=10, answer=5)
    bench.submit("b", prompt=10, answer=5)
    step = bench.begin()
    assert step.duration_s == pytest.approx(0.012)
    bench.engine.cancel(a)
    assert bench.end() == (12.0, "b")
    # The same of one that decodes, and needs another block next.
    c = bench.submit("c", prompt=15, answer=5)
    assert bench.step() == (24.5, "bc")
    bench.begin()
    bench.engine.cancel(c)
    assert bench.end() == (36.5, "b")
    assert bench.step() == (47.5, "b")


def test_cancelling_in_the_queue_and_after_the_end() -> None:
    bench = Bench(configured(max_num_seqs=1))
    a = bench.submit("a", prompt=10, answer=1)
    b = bench.submit("b", prompt=10, answer=1)
    bench.engine.cancel(b)
    assert bench.run() == [(11.0, "A")]
    bench.engine.cancel(a)
    assert (bench.engine.running, bench.engine.waiting, bench.engine.kv_used_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("stop_after", "tokens", "reason"), [(None, 4, "length"), (2, 2, "stop"), (4, 4, "length"), (9, 4, "length")]
)
def test_an_answer_ends_by_itself_or_at_its_cap(stop_after: int | None, tokens: int, reason: str) -> None:
    engine = Engine(ROUND)
    engine.submit(Sequence(10, 4, stop_after))
    reasons = []
    while engine.begin_step() is not None:
        reasons += [emission.finish_reason for emission in engine.end_step()]
    assert reasons == [None] * (tokens - 1) + [reason]


def test_steps_can_not_be_begun_or_ended_twice() -> None:
    bench = Bench()
    bench.submit("a", prompt=10, answer=1)
    bench.engine.begin_step()
    with pytest.raises(RuntimeError, match="begin_step before end_step"):
        bench.engine.begin_step()
    bench.engine.end_step()
    with pytest.raises(RuntimeError, match="end_step without begin_step"):
        bench.engine.end_step()


@pytest.mark.parametrize(
    ("prompt", "answer", "why"),
    [(0, 1, "at least 1"), (1, 0, "at least 1"), (900, 101, "1000 .max_model_len"), (900, 93, "992 .the KV cache")],
)
def test_a_sequence_that_could_never_run_is_refused(prompt: int, answer: int, why: str) -> None:
    with pytest.raises(ServingError, match=f"allowed.* {why}"):
        Engine(ROUND).submit(Sequence(prompt, answer))


def durations_s(engine: Engine, answer: int) -> list[float]:
    engine.submit(Sequence(1, answer))
    durations = []
    while (step := engine.begin_step()) is not None:
        durations.append(step.duration_s)
        engine.end_step()
    return durations


def test_jitter_is_a_factor_of_mean_1_that_the_seed_decides() -> None:
    config = replace(WHOLE, jitter=0.3, kv_read_per_token_ns=0, step_per_sequence_us=0)
    factors = [duration_s / 0.055 for duration_s in durations_s(Engine(config, seed=1), 8000)]
    mean = sum(factors) / len(factors)
    assert mean == pytest.approx(1, abs=0.01)  # three times the standard error, 0.3 / √8000
    logarithms = [math.log(factor) for factor in factors]
    centre = sum(logarithms) / len(logarithms)
    sigma = math.sqrt(sum((value - centre) ** 2 for value in logarithms) / len(logarithms))
    assert sigma == pytest.approx(0.3, abs=0.01)
    again, other = Engine(config, seed=1), Engine(config, seed=2)
    assert durations_s(again, 5) == pytest.approx([factor * 0.055 for factor in factors[:5]])
    assert durations_s(other, 5) != durations_s(Engine(config, seed=1), 5)


def test_jitter_is_on_all_parts_of_the_work_alike() -> None:
    works = []
    for jitter in (0.0, 0.3):
        engine = Engine(replace(WHOLE, jitter=jitter), seed=7)
        engine.submit(Sequence(400, 3))
        engine.begin_step()
        engine.end_step()
        step = engine.begin_step()
        assert step is not None
        works.append(step.work)
    factors = [jittered / plain for plain, jittered in zip(*works, strict=True)]
    assert factors[0] != 1
    assert factors == pytest.approx([factors[0]] * 4)


SEQUENCE = st.tuples(
    st.integers(1, 60),
    st.integers(1, 30),
    st.none() | st.integers(1, 30),
    st.integers(-1, 1),
    st.sampled_from("xyz"),
    st.none() | st.integers(0, 2),
)
SUBMIT = SEQUENCE.map(lambda numbers: ("submit", numbers))
STEP = st.just(("step", None))
CANCEL = st.integers(0, 50).map(lambda index: ("cancel", index))
CANCEL_IN_STEP = st.integers(0, 50).map(lambda index: ("cancel in step", index))
SMALL = st.builds(
    lambda seqs, extra, kv, policy: configured(
        max_num_seqs=seqs,
        max_num_batched_tokens=seqs + extra,
        kv_capacity_tokens=kv,
        kv_read_per_token_ns=1000,
        max_model_len=90,
        scheduling_policy=policy,
    ),
    st.integers(1, 5),
    st.integers(0, 30),
    st.integers(96, 200),
    st.sampled_from(["fcfs", "priority", "vtc", "drr"]),
)


def blocks_of_family(family: int | None, prompt: int) -> tuple[tuple[int, int], ...]:
    return () if family is None else tuple((family, place) for place in range(prompt // 16))


class Account:
    """Drives an engine, and keeps its books once more, as slowly and plainly as can be."""

    def __init__(self, config: SimulatorOptions) -> None:
        self.config = config
        self.engine = Engine(config)
        self.submitted: list[Sequence] = []
        self.cancelled: set[Sequence] = set()
        self.waiting: set[Sequence] = set()
        self.held: dict[Sequence, int] = {}  # KV tokens of each in the batch
        self.tokens: dict[Sequence, list[str | None]] = {}
        self.first_admitted: list[Sequence] = []
        self.services: dict[str, int] = {}

    def submit(self, sequence: Sequence) -> None:
        self.submitted.append(sequence)
        self.waiting.add(sequence)
        self.engine.submit(sequence)

    def cancel(self, index: int) -> None:
        if index < len(self.submitted):
            sequence = self.submitted[index]
            self.engine.cancel(sequence)
            self.cancelled.add(sequence)
            self.waiting.discard(sequence)
            self.held.pop(sequence, None)

    def rank(self, sequence: Sequence) -> tuple[int, int]:
        return (sequence.priority if self.config.scheduling_policy == "priority" else 0, sequence.arrival)

    def step(self, cancel_meanwhile: int | None = None) -> bool:
        step = self.engine.begin_step()
        if step is None:
            assert self.engine.running == self.engine.waiting == 0
            return False
        self.check_admission(step)
        self.check_work(step)
        for sequence, count in [*step.prefills, *((s, 1) for s in step.decoding)]:
            self.held[sequence] += count
        self.check_kv()
        if cancel_meanwhile is not None:
            self.cancel(cancel_meanwhile)
        for sequence, reason in self.engine.end_step():
            assert sequence not in self.cancelled
            got = self.tokens.setdefault(sequence, [])
            assert self.held[sequence] == sequence.prompt_tokens + len(got)
            got.append(reason)
            assert len(got) == sequence.generated_tokens
            self.services[sequence.tenant] += 2
            if reason is not None:
                del self.held[sequence]
        return True

    def check_admission(self, step: Step) -> None:
        for sequence in step.preempted:
            del self.held[sequence]
            self.waiting.add(sequence)
        assert not (step.preempted and step.admitted)
        self.waiting.difference_update(step.admitted)
        if self.config.scheduling_policy in ("fcfs", "priority"):
            assert all(self.rank(left) < self.rank(victim) for victim in step.preempted for left in self.held)
            assert all(self.rank(first) < self.rank(other) for first in step.admitted for other in self.waiting)
        for sequence in step.admitted:
            found = sequence.computed_tokens - dict(step.prefills)[sequence]
            assert found % 16 == 0
            assert 0 <= found < sequence.prefill_tokens
            self.held[sequence] = found
            if not sequence.preemptions:
                assert sequence.cached_tokens == found
                self.first_admitted.append(sequence)
                self.services[sequence.tenant] = self.services.get(sequence.tenant, 0) + sequence.prompt_tokens

    def check_work(self, step: Step) -> None:
        prompt_tokens = sum(count for _, count in step.prefills)
        decoding = len(step.decoding)
        assert decoding + prompt_tokens <= self.config.max_num_batched_tokens
        context = sum(sequence.prompt_tokens + sequence.generated_tokens for sequence in step.decoding)
        expected_ms = 10 + 0.9 * decoding + 0.1 * (decoding + prompt_tokens) + 0.001 * context
        assert step.duration_s * 1e3 == pytest.approx(expected_ms)

    def check_kv(self) -> None:
        """Each holds the blocks of its tokens; those with a common name count once at the least."""
        used = self.engine.kv_used_tokens
        assert used <= self.engine.kv_capacity_tokens <= self.config.kv_capacity_tokens
        alone = {sequence: -(-tokens // 16) for sequence, tokens in self.held.items()}
        named = [name for sequence in self.held for name in sequence.blocks[: self.held[sequence] // 16]]
        assert sum(alone.values()) - (len(named) - len(set(named))) <= used // 16 <= sum(alone.values())

    def check(self) -> None:
        assert (self.engine.running, self.engine.waiting) == (len(self.held), len(self.waiting))
        assert self.engine.running <= self.config.max_num_seqs
        assert self.engine.prefix_hits_tokens == sum(s.cached_tokens for s in self.first_admitted)
        assert self.engine.prefix_queries_tokens == sum(s.prompt_tokens for s in self.first_admitted)
        assert self.engine.services == self.services
        self.check_kv()


@given(
    config=SMALL,
    actions=st.lists(SUBMIT | SUBMIT | STEP | STEP | CANCEL | CANCEL_IN_STEP, max_size=60),
)
def test_what_holds_for_any_load(config: SimulatorOptions, actions: list[tuple[str, Any]]) -> None:
    account = Account(config)
    for name, argument in actions:
        if name == "submit":
            prompt, answer, stop_after, priority, tenant, family = argument
            blocks = blocks_of_family(family, prompt)
            account.submit(Sequence(prompt, answer, stop_after, priority, tenant, blocks))
        elif name == "cancel":
            account.cancel(argument)
        else:
            account.step(argument)
        account.check()
    while account.step():
        account.check()
    assert account.engine.kv_used_tokens == 0

    if config.scheduling_policy == "fcfs":
        assert account.first_admitted == sorted(account.first_admitted, key=lambda sequence: sequence.arrival)
    for sequence in account.submitted:
        length = min(sequence.max_tokens, sequence.stop_after_tokens or sequence.max_tokens)
        reasons = account.tokens.get(sequence, [])
        if sequence not in account.cancelled:
            assert len(reasons) == length
        assert None not in reasons[length - 1 :]
        assert all(reason is None for reason in reasons[: length - 1])
