"""Who comes next: worked out by hand, then the bounds that each policy promises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.engine import Engine, Sequence
from fairshare_locust.simulator.scheduler import (
    DRR_QUANTUM,
    DeficitRoundRobin,
    Policy,
    Ranked,
    Scheduler,
    VirtualTokenCounter,
    scheduler_of,
)


class Bench:
    """Names sequences by tenant and number, and takes them out one after another."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.names: dict[Sequence, str] = {}
        self.numbers: dict[str, int] = {}

    def add(self, tenant: str, *prompts: int, priority: int = 0) -> list[Sequence]:
        added = []
        for prompt in prompts:
            sequence = Sequence(prompt, 1, priority=priority, tenant=tenant)
            sequence.arrival = len(self.names)
            self.numbers[tenant] = self.numbers.get(tenant, 0) + 1
            self.names[sequence] = f"{tenant}{self.numbers[tenant]}"
            self.scheduler.add(sequence)
            added.append(sequence)
        return added

    def take(self, count: int = 1) -> str:
        return " ".join(self.names[self.scheduler.take()] for _ in range(count))


def test_first_come_first_served() -> None:
    bench = Bench(Ranked())
    first, second, third = bench.add("a", 10, 10, 10, priority=5)
    bench.add("b", 10, priority=1)
    assert bench.take(2) == "a1 a2"
    # Preempted, they come before all that came after.
    assert bench.scheduler.victim([first, second]) is second
    bench.scheduler.put_back(second)
    bench.scheduler.put_back(first)
    bench.scheduler.remove(third)
    bench.scheduler.remove(third)
    assert len(bench.scheduler) == 3
    assert bench.take(3) == "a1 a2 b1"
    with pytest.raises(IndexError):
        bench.scheduler.take()


def test_lower_priorities_first_then_who_came_first() -> None:
    bench = Bench(Ranked(by_priority=True))
    low, _ = bench.add("a", 10, 10, priority=5)
    bench.add("b", 10, priority=1)
    (high,) = bench.add("c", 10, priority=-1)
    assert bench.scheduler.victim([high, low]) is low
    assert bench.scheduler.victim([low, high]) is low
    assert bench.take(4) == "c1 b1 a1 a2"


def test_vtc_the_least_counter_comes_first() -> None:
    bench = Bench(VirtualTokenCounter())
    bench.add("a", 10, 10, 10, 10)
    bench.add("b", 30, 30)
    # a 10; b 30; a 20, 30; of equals who came first: a 40; b 60.
    assert bench.take(6) == "a1 b1 a2 a3 a4 b2"
    assert bench.scheduler.services == {"a": 40, "b": 60}


def test_vtc_answers_count_too() -> None:
    bench = Bench(VirtualTokenCounter())
    bench.add("a", 10, 10)
    bench.add("b", 10, 10)
    assert bench.take(2) == "a1 b1"
    bench.scheduler.charge("a", 2 * 8)  # eight tokens
    assert bench.take(2) == "b2 a2"
    assert bench.scheduler.services == {"a": 36, "b": 20}


def test_vtc_who_comes_back_is_lifted_to_the_least_of_those_waiting() -> None:
    bench = Bench(VirtualTokenCounter())
    bench.add("a", 100, 100, 100)
    bench.add("b", 300, 300)
    assert bench.take(3) == "a1 b1 a2"  # a 200, b 300
    bench.add("c", 60, 60, 60)  # new: at 200, not at 0
    # a came first: 300; c 260, 320; a's are taken, so b's second: 600; c.
    assert bench.take(5) == "a3 c1 c2 b2 c3"
    assert bench.scheduler.services == {"a": 300, "b": 600, "c": 180}


def test_vtc_who_comes_to_an_empty_queue_is_lifted_to_who_left_it_last() -> None:
    bench = Bench(VirtualTokenCounter())
    bench.add("a", 500)
    bench.take()
    bench.add("b", 30, 30, 30)  # at 500, not at 0
    assert bench.take() == "b1"
    bench.add("a", 20, 20)  # lifted to 530
    # Of equals b came first: 560; a 550, 570; b.
    assert bench.take(4) == "b2 a2 a3 b3"
    assert bench.scheduler.services == {"a": 540, "b": 90}


def test_vtc_a_counter_above_the_others_is_not_lowered() -> None:
    bench = Bench(VirtualTokenCounter())
    bench.add("a", 100)
    bench.add("b", 10, 10, 10)
    assert bench.take(2) == "a1 b1"
    bench.add("a", 10)
    assert bench.take(3) == "b2 b3 a2"


def test_drr_turns_of_a_quantum_with_debts_paid_from_the_next() -> None:
    bench = Bench(DeficitRoundRobin(quantum=20))
    bench.add("a", *[10] * 8)
    bench.add("b", *[30] * 3)
    # a: 20 is two of 10. b: 20 - 30 = -10; then -10 + 20 - 30 = -20; then 0, and nobody; then 20 - 30.
    assert bench.take(11) == "a1 a2 b1 a3 a4 b2 a5 a6 a7 a8 b3"


def test_drr_answers_end_a_turn_too() -> None:
    bench = Bench(DeficitRoundRobin(quantum=20))
    bench.add("a", 10, 10, 10)
    bench.add("b", 10, 10, 10)
    assert bench.take() == "a1"
    assert bench.scheduler.first() is bench.scheduler.first()
    bench.scheduler.charge("a", 2 * 15)  # -20: b has two turns in a row
    assert bench.take(5) == "b1 b2 b3 a2 a3"


def test_drr_who_leaves_keeps_what_it_owes_and_loses_what_it_had_left() -> None:
    bench = Bench(DeficitRoundRobin(quantum=20))
    bench.add("a", 5)
    bench.add("b", 50)
    bench.add("c", 10, 10, 10, 10, 10, 10)
    assert bench.take(3) == "a1 b1 c1"  # a had 15 left, b owes 30
    bench.add("a", 10, 10, 10)
    bench.add("b", 10)
    # c had 10 left. a has 20 and not 35. b: -10. c: two. a: its last. b: 10.
    assert bench.take(7) == "c2 a2 a3 c3 c4 a4 b2"


def test_drr_a_debt_of_many_rounds_is_paid_at_once_by_who_is_alone() -> None:
    bench = Bench(DeficitRoundRobin(quantum=1))
    bench.add("a", 1, 1)
    bench.scheduler.charge("a", 10**12)
    assert bench.take(2) == "a1 a2"


@pytest.mark.parametrize("policy", ["vtc", "drr"])
def test_within_a_tenant_who_was_preempted_comes_first(policy: Policy) -> None:
    bench = Bench(scheduler_of(policy))
    first, second, _ = bench.add("a", 10, 10, 10)
    assert bench.take(2) == "a1 a2"
    victims = [bench.scheduler.victim([first, second]), bench.scheduler.victim([first])]
    assert victims == [second, first]
    for victim in victims:
        victim.preemptions += 1
        bench.scheduler.put_back(victim)
    assert len(bench.scheduler) == 3
    assert bench.take(3) == "a1 a2 a3"
    # What is computed again is no service.
    assert bench.scheduler.services == {"a": 30}


@pytest.mark.parametrize("policy", ["vtc", "drr"])
def test_who_is_removed_takes_no_turn(policy: Policy) -> None:
    bench = Bench(scheduler_of(policy))
    (first,) = bench.add("a", 10)
    _, third = bench.add("b", 10, 10)
    bench.scheduler.remove(first)
    bench.scheduler.remove(first)
    bench.scheduler.remove(third)
    assert (len(bench.scheduler), bench.take(), bench.scheduler.first()) == (1, "b1", None)


LONGEST_PROMPT, LONGEST_ANSWER = 40, 30
SIZES = st.tuples(st.integers(1, LONGEST_PROMPT), st.integers(1, LONGEST_ANSWER))


@st.composite
def backlogs(draw: st.DrawFn) -> dict[str, list[tuple[int, int]]]:
    """Two tenants that send much of what each of them likes to send, and a third that comes and goes."""
    loads = {}
    for tenant in ("f", "g"):
        prompt, answer = draw(SIZES)
        jitters = draw(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=5))
        sizes = [
            (min(max(1, prompt + more), LONGEST_PROMPT), min(max(1, answer + longer), LONGEST_ANSWER))
            for more, longer in jitters
        ]
        loads[tenant] = list(itertools.islice(itertools.cycle(sizes), 60))
    loads["h"] = draw(st.lists(SIZES, max_size=10))
    return loads


def spread_of_services(policy: Policy, loads: dict[str, list[tuple[int, int]]], max_num_seqs: int, blocks: int) -> int:
    """How far the services of f and g move against each other while both have someone waiting."""
    options = SimulatorOptions(
        scheduling_policy=policy,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=32,
        kv_capacity_tokens=16 * blocks,
        max_model_len=LONGEST_PROMPT + LONGEST_ANSWER,
    )
    engine = Engine(options)
    waiting = dict.fromkeys(loads, 0)
    rest = list(loads["h"])
    for tenant in ("f", "g"):
        for prompt, answer in loads[tenant]:
            engine.submit(Sequence(prompt, answer, tenant=tenant))
            waiting[tenant] += 1
    differences = [0]
    for number in itertools.count():
        if rest and number % 7 == 0:
            engine.submit(Sequence(*rest.pop(), tenant="h"))
        step = engine.begin_step()
        assert step is not None
        for sequence in step.admitted:
            waiting[sequence.tenant] -= 1
        for sequence in step.preempted:
            waiting[sequence.tenant] += 1
        if not (waiting["f"] and waiting["g"]):
            return max(differences) - min(differences)
        services = engine.services
        differences.append(services.get("f", 0) - services.get("g", 0))
        engine.end_step()
        services = engine.services
        differences.append(services.get("f", 0) - services.get("g", 0))
    raise AssertionError


def most_due(max_num_seqs: int) -> int:
    """U: the longest prompt, or twice what the sequences of a batch may come to."""
    return max(LONGEST_PROMPT, 2 * max_num_seqs * (LONGEST_PROMPT + LONGEST_ANSWER))


@settings(max_examples=60)
@given(loads=backlogs(), max_num_seqs=st.integers(1, 4), blocks=st.integers(5, 24))
def test_vtc_keeps_its_bound(loads: dict[str, list[tuple[int, int]]], max_num_seqs: int, blocks: int) -> None:
    assert spread_of_services("vtc", loads, max_num_seqs, blocks) <= 2 * most_due(max_num_seqs)


@settings(max_examples=60)
@given(loads=backlogs(), max_num_seqs=st.integers(1, 4), blocks=st.integers(5, 24))
def test_drr_keeps_its_bound(loads: dict[str, list[tuple[int, int]]], max_num_seqs: int, blocks: int) -> None:
    bound = DRR_QUANTUM + 2 * most_due(max_num_seqs)
    assert spread_of_services("drr", loads, max_num_seqs, blocks) <= bound


def test_first_come_first_served_keeps_no_such_bound() -> None:
    # 60 long ones of f, all before the 60 short ones of g.
    loads = {"f": [(40, 30)] * 60, "g": [(1, 1)] * 60, "h": []}
    spreads = {
        policy: spread_of_services(policy, loads, max_num_seqs=2, blocks=24) for policy in ("fcfs", "vtc", "drr")
    }
    # 59 of 40 + 2 · 30 in weighted tokens, about, while f has someone waiting.
    assert spreads["fcfs"] > 5800
    assert spreads["vtc"] <= 2 * most_due(2) == 560
    assert spreads["drr"] <= DRR_QUANTUM + 560


DRR_ROUNDS = st.lists(st.tuples(st.sampled_from("fg"), st.integers(1, 50)), max_size=200)


@given(quantum=st.integers(1, 100), answers=DRR_ROUNDS, prompts=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_drr_keeps_its_bound_with_any_quantum(
    quantum: int, answers: list[tuple[str, int]], prompts: tuple[int, int]
) -> None:
    bench = Bench(DeficitRoundRobin(quantum))
    for tenant, prompt in zip("fg", prompts, strict=True):
        bench.add(tenant, *[prompt] * 201)
    # After each admission its answer is charged: U is what one request comes to.
    differences = [0]
    for _, answer in answers:
        tenant = bench.scheduler.take().tenant
        services = bench.scheduler.services
        differences.append(services["f"] - services["g"])
        bench.scheduler.charge(tenant, answer)
        differences.append(services["f"] - services["g"])
    assert max(differences) - min(differences) <= quantum + 2 * (max(prompts) + 50)
