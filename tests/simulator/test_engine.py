"""The modelled GPU: steps worked out by hand, then what must hold for any load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.engine import Engine, Sequence

# 10 ms a step, 1 ms per decoding sequence, 0.1 ms per prompt token.
ROUND = SimulatorOptions(
    step_base_ms=10,
    step_per_sequence_us=1000,
    prefill_per_token_us=100,
    kv_capacity_tokens=1000,
    max_num_seqs=4,
    max_num_batched_tokens=64,
    max_model_len=1000,
)


def configured(**changes: Any) -> SimulatorOptions:
    return replace(ROUND, **changes)


class Bench:
    """Runs an engine and writes down, in milliseconds, when which sequence got a token."""

    def __init__(self, config: SimulatorOptions = ROUND) -> None:
        self.engine = Engine(config)
        self.names: dict[Sequence, str] = {}
        self.now_ms = 0.0

    def submit(self, name: str, prompt: int, answer: int, stop_after: int | None = None, priority: int = 0) -> Sequence:
        sequence = Sequence(prompt, answer, stop_after, priority)
        self.names[sequence] = name
        self.engine.submit(sequence)
        return sequence

    def step(self) -> tuple[float, str]:
        """One step: when it ended, and the names of those that got a token (capital: their last)."""
        step = self.engine.begin_step()
        assert step is not None
        self.now_ms += step.duration_s * 1e3
        got = [
            self.names[sequence].upper() if reason else self.names[sequence]
            for sequence, reason in self.engine.end_step()
        ]
        return round(self.now_ms, 6), "".join(got)

    def run(self) -> list[tuple[float, str]]:
        steps = []
        while self.engine.waiting or self.engine.running:
            steps.append(self.step())
        return steps


def test_first_token_comes_with_the_step_that_ends_the_prefill_then_one_per_step() -> None:
    bench = Bench()
    bench.submit("a", prompt=100, answer=3)
    # 64 prompt tokens: 10 + 6.4; the other 36: 10 + 3.6; then twice 10 + 1.
    assert bench.run() == [(16.4, ""), (30.0, "a"), (41.0, "a"), (52.0, "A")]
    assert bench.engine.begin_step() is None


def test_two_sequences_share_steps() -> None:
    bench = Bench()
    bench.submit("a", prompt=10, answer=3)
    bench.submit("b", prompt=20, answer=2)
    # 30 prompt tokens: 13; both decode: 12; a alone: 11.
    assert bench.run() == [(13.0, "ab"), (25.0, "aB"), (36.0, "A")]


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
    step = bench.engine.begin_step()
    assert step is not None
    assert [(bench.names[s], tokens) for s, tokens in step.prefills] == [("a", 6), ("b", 4)]
    assert [bench.names[s] for s in step.admitted] == ["a", "b"]
    assert step.duration_s == pytest.approx(0.011)


def test_full_kv_cache_makes_the_third_wait_and_nobody_overtakes_it() -> None:
    bench = Bench(configured(kv_capacity_tokens=100, max_model_len=100, max_num_batched_tokens=200))
    bench.submit("a", prompt=38, answer=2)
    bench.submit("b", prompt=50, answer=5)
    bench.submit("c", prompt=13, answer=1)  # does not fit into the 12 that are left
    bench.submit("d", prompt=1, answer=1)  # would
    # 88 prompt tokens: 18.8; both decode, 10 are left, and a ends: 12.
    assert bench.step() == (18.8, "ab")
    assert bench.engine.kv_used_tokens == 88
    assert bench.step() == (30.8, "Ab")
    assert bench.engine.kv_used_tokens == 51
    # b decodes, c and d enter with 14 prompt tokens: 10 + 1 + 1.4.
    assert bench.step() == (43.2, "bCD")


def test_without_kv_tokens_the_last_is_preempted_and_computes_prompt_and_answer_again() -> None:
    bench = Bench(configured(kv_capacity_tokens=20, max_model_len=20))
    bench.submit("a", prompt=8, answer=6)
    b = bench.submit("b", prompt=8, answer=4)
    bench.submit("c", prompt=1, answer=1)
    # 17 prompt tokens: 11.7, and c ends; two decode, twice: 12 each. Both then hold 8 + 2 = 10 of the 20.
    assert [bench.step() for _ in range(3)] == [(11.7, "abC"), (23.7, "ab"), (35.7, "ab")]
    assert (bench.engine.kv_used_tokens, bench.engine.preemptions) == (20, 0)
    # a needs one more: b gives up its 10, and needs 8 + 3 = 11 to come back. a alone: 11 each.
    assert bench.step() == (46.7, "a")
    assert (bench.engine.kv_used_tokens, bench.engine.preemptions, b.preemptions) == (11, 1, 1)
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    # a: 12, then 13, and its end; then b: 11 tokens of prefill, 10 + 1.1, and its fourth token.
    assert bench.run() == [(57.7, "a"), (68.7, "A"), (79.8, "B")]
    assert bench.engine.kv_used_tokens == 0


def test_nobody_is_admitted_in_a_step_that_preempts() -> None:
    bench = Bench(configured(kv_capacity_tokens=20, max_model_len=20))
    bench.submit("a", prompt=8, answer=6)
    bench.submit("b", prompt=8, answer=4)
    for _ in range(3):
        bench.step()
    late = bench.submit("c", prompt=1, answer=1)
    step = bench.engine.begin_step()
    assert step is not None
    assert [bench.names[s] for s in step.preempted] == ["b"]
    assert step.admitted == ()
    bench.engine.end_step()
    # And b, who came before, goes before c, though only c would fit: 11 + 1 + 11 > 20.
    step = bench.engine.begin_step()
    assert step is not None
    assert late not in step.admitted


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("fcfs", [(22.0, "A"), (33.0, "B"), (44.0, "C"), (55.0, "D"), (66.0, "E")]),
        ("priority", [(22.0, "A"), (33.0, "E"), (44.0, "C"), (55.0, "D"), (66.0, "B")]),
    ],
)
def test_the_queue_is_by_arrival_or_by_priority_and_then_arrival(policy: str, order: list[tuple[float, str]]) -> None:
    bench = Bench(configured(max_num_seqs=1, scheduling_policy=policy))
    bench.submit("a", prompt=10, answer=2)
    assert bench.step() == (11.0, "a")
    for name, priority in [("b", 5), ("c", 1), ("d", 1), ("e", -1)]:
        bench.submit(name, prompt=10, answer=1, priority=priority)
    # e is before a, but a runs.
    assert bench.run() == order


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        # b, the last to arrive, gives way: its 8 + 2 tokens come again when a has ended.
        ("fcfs", [(45.6, "a"), (56.6, "a"), (67.6, "A"), (78.6, "b"), (89.6, "B")]),
        # a, the last in priority, gives way, though it had its place in the step already: 8 + 3 come again.
        ("priority", [(45.6, "b"), (56.6, "B"), (67.7, "a"), (78.7, "a"), (89.7, "A")]),
    ],
)
def test_who_is_preempted(policy: str, steps: list[tuple[float, str]]) -> None:
    bench = Bench(configured(kv_capacity_tokens=20, max_model_len=20, scheduling_policy=policy))
    bench.submit("a", prompt=8, answer=6, priority=1)
    # 8 prompt tokens: 10.8. Then a decodes and b enters: 10 + 1 + 0.8. Both decode: 12; they hold 10 + 9 of the 20.
    assert bench.step() == (10.8, "a")
    bench.submit("b", prompt=8, answer=4, priority=0)
    assert [bench.step(), bench.step()] == [(22.6, "ab"), (34.6, "ab")]
    assert bench.engine.kv_used_tokens == 19
    # There is one left for two.
    assert bench.run() == steps
    assert bench.engine.preemptions == 1


def test_a_full_batch_makes_the_next_wait() -> None:
    bench = Bench(configured(max_num_seqs=1))
    bench.submit("a", prompt=10, answer=2)
    bench.submit("b", prompt=10, answer=1)
    assert bench.step() == (11.0, "a")
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    assert bench.run() == [(22.0, "A"), (33.0, "B")]


def test_cancelling_frees_the_kv_cache_for_the_next_step() -> None:
    bench = Bench(configured(kv_capacity_tokens=100, max_model_len=100))
    a = bench.submit("a", prompt=60, answer=40)
    bench.submit("b", prompt=50, answer=1)
    assert bench.step() == (16.0, "a")
    assert bench.engine.kv_used_tokens == 60
    bench.engine.cancel(a)
    assert bench.engine.kv_used_tokens == 0
    assert bench.run() == [(31.0, "B")]


def test_cancelling_during_a_step_drops_the_token_but_not_the_time() -> None:
    bench = Bench()
    a = bench.submit("a", prompt=10, answer=5)
    bench.submit("b", prompt=10, answer=5)
    step = bench.engine.begin_step()
    assert step is not None
    assert step.duration_s == pytest.approx(0.012)
    bench.engine.cancel(a)
    assert [bench.names[s] for s, _ in bench.engine.end_step()] == ["b"]


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


@pytest.mark.parametrize(("prompt", "answer"), [(0, 1), (1, 0), (900, 101)])
def test_a_sequence_that_could_never_run_is_refused(prompt: int, answer: int) -> None:
    with pytest.raises(ServingError, match="allowed"):
        Engine(ROUND).submit(Sequence(prompt, answer))


SEQUENCE = st.tuples(st.integers(1, 60), st.integers(1, 30), st.none() | st.integers(1, 30), st.integers(-1, 1))
SUBMIT = SEQUENCE.map(lambda numbers: ("submit", numbers))
STEP = st.just(("step", None))
CANCEL = st.integers(0, 50).map(lambda index: ("cancel", index))
SMALL = st.builds(
    lambda seqs, extra, kv, policy: configured(
        max_num_seqs=seqs,
        max_num_batched_tokens=seqs + extra,
        kv_capacity_tokens=kv,
        max_model_len=90,
        scheduling_policy=policy,
    ),
    st.integers(1, 5),
    st.integers(0, 30),
    st.integers(90, 200),
    st.sampled_from(["fcfs", "priority"]),
)


@given(config=SMALL, actions=st.lists(SUBMIT | STEP | CANCEL, max_size=60))
def test_what_holds_for_any_load(config: SimulatorOptions, actions: list[tuple[str, object]]) -> None:
    engine = Engine(config)
    submitted: list[Sequence] = []
    cancelled: set[Sequence] = set()
    waiting: set[Sequence] = set()
    held: dict[Sequence, int] = {}  # KV tokens of each in the batch
    tokens: dict[Sequence, list[str | None]] = {}

    def rank(sequence: Sequence) -> tuple[int, int]:
        return (sequence.priority if config.scheduling_policy == "priority" else 0, submitted.index(sequence))

    def step() -> bool:
        step = engine.begin_step()
        if step is None:
            assert engine.running == engine.waiting == 0
            return False
        prompt_tokens = sum(count for _, count in step.prefills)
        assert len(step.decoding) + prompt_tokens <= config.max_num_batched_tokens
        expected_ms = 10 + len(step.decoding) + 0.1 * prompt_tokens
        assert step.duration_s * 1e3 == pytest.approx(expected_ms)
        for sequence in step.preempted:
            del held[sequence]
            waiting.add(sequence)
        assert all(rank(left) < rank(victim) for victim in step.preempted for left in held)
        waiting.difference_update(step.admitted)
        held.update(dict.fromkeys(step.admitted, 0))
        assert not (step.preempted and step.admitted)
        assert all(rank(first) < rank(other) for first in step.admitted for other in waiting)
        for sequence, count in [*step.prefills, *((s, 1) for s in step.decoding)]:
            held[sequence] += count
        assert sum(held.values()) == engine.kv_used_tokens <= config.kv_capacity_tokens
        for sequence, reason in engine.end_step():
            got = tokens.setdefault(sequence, [])
            assert held[sequence] == sequence.prompt_tokens + len(got)
            got.append(reason)
            if reason is not None:
                del held[sequence]
        return True

    def check() -> None:
        assert (engine.running, engine.waiting) == (len(held), len(waiting))
        assert engine.running <= config.max_num_seqs
        assert engine.kv_used_tokens == sum(held.values())

    for name, argument in actions:
        if name == "submit":
            assert isinstance(argument, tuple)
            submitted.append(Sequence(*argument))
            waiting.add(submitted[-1])
            engine.submit(submitted[-1])
        elif name == "cancel":
            assert isinstance(argument, int)
            if argument < len(submitted):
                engine.cancel(submitted[argument])
                cancelled.add(submitted[argument])
                waiting.discard(submitted[argument])
                held.pop(submitted[argument], None)
        else:
            step()
        check()
    while step():
        check()

    for sequence in submitted:
        length = min(sequence.max_tokens, sequence.stop_after_tokens or sequence.max_tokens)
        reasons = tokens.get(sequence, [])
        if sequence not in cancelled:
            assert len(reasons) == length
        assert None not in reasons[length - 1 :]
        assert all(reason is None for reason in reasons[: length - 1])
