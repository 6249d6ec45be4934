"""Engines on one GPU, without a clock: figures by hand, and what holds for any requests."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Sharing, SimulatorOptions
from fairshare_locust.simulator.engine import Engine, Sequence
from fairshare_locust.simulator.gpu import Concurrent, Gpu, Independent, TimeSlice
from fairshare_locust.simulator.machine import Machine, StepEnd, gpu_of, machine_of
from fairshare_locust.simulator.partition import partition
from tests.profile.profiles import MINIMAL, parse

MS = 1e-3


def options(**changes: Any) -> SimulatorOptions:
    """1 ms on the host and 5 ms for the weights in each step, and nothing else, unless changed."""
    free = {"compute_per_token_us": 0, "kv_read_per_token_ns": 0, "step_per_sequence_us": 0}
    return SimulatorOptions(**{"step_base_ms": 1, "weights_ms": 5, **free, **changes})


def machine(gpu: Gpu, *engines: SimulatorOptions) -> Machine:
    return Machine([Engine(config) for config in engines], gpu)


def token_times_ms(ends: Many[StepEnd]) -> dict[int, list[float]]:
    """When each part gave its tokens, each as often as it gave some."""
    times: dict[int, list[float]] = {}
    for end in ends:
        times.setdefault(end.part, []).extend([end.time_s / MS] * len(end.emissions))
    return times


def test_two_tenants_in_turns() -> None:
    # Quantum 2 ms, switch 0.1 ms. Both are ready at 1.
    # 0: 1-3, 1: 3.1-5.1, 0: 5.2-7.2, 1: 7.3-9.3, 0: 9.4-10.4, a token; on the host until 11.4.
    # 1: 10.5-11.5, a token; on the host until 12.5. 0: 11.6-13.6, 1: 13.7-15.7, 0: 15.8-17.8, 1: 17.9-19.9,
    # 0: 20-21, its last token. 1: 21.1-22.1, its last token.
    shared = machine(TimeSlice(2 * MS, 0.1 * MS), options(), options())
    for part in (0, 1):
        shared.submit(part, [Sequence(10, 2)], 0.0)
    ends = list(shared.advance(1.0))
    assert token_times_ms(ends) == {0: pytest.approx([10.4, 21.0]), 1: pytest.approx([11.5, 22.1])}
    assert [end.start_s / MS for end in ends] == pytest.approx([0, 0, 10.4, 11.5])
    assert shared.next_s() == float("inf")


def test_one_computes_a_prompt_while_one_reads() -> None:
    # 0 has a prompt of 100 tokens at 0.1 ms and no weights: 10 ms of computing. 1 reads for 5 ms in each step. Together
    # they lose a tenth. Both are on the GPU from 1 to 1 + 5/0.9 = 6.556, when 0 has done 5; it is alone until 7.556: 6.
    # Together again for 4/0.9, until 12: 1 has done 4 of 5 then, and the last alone.
    shared = machine(Concurrent([1, 1], 0.1), options(weights_ms=0, compute_per_token_us=100), options())
    shared.submit(0, [Sequence(100, 1)], 0.0)
    shared.submit(1, [Sequence(10, 2)], 0.0)
    ends = list(shared.advance(1.0))
    assert token_times_ms(ends) == {0: [pytest.approx(12)], 1: pytest.approx([1 + 5 / 0.9, 13])}


def test_two_that_decode_under_mps_halve_their_speed() -> None:
    shared = machine(Concurrent([0.5, 0.5], 0), options(), options())
    for part in (0, 1):
        shared.submit(part, [Sequence(10, 3)], 0.0)
    # 1 + 2 · 5 each step; one engine for both would need 6.
    assert token_times_ms(list(shared.advance(1.0))) == {
        0: pytest.approx([11, 22, 33]),
        1: pytest.approx([11, 22, 33]),
    }


def test_slices_leave_each_other_alone() -> None:
    costs: dict[str, Any] = {"step_base_ms": 1, "weights_ms": 8, "compute_per_token_us": 60, "kv_read_per_token_ns": 0}
    config = SimulatorOptions.on_card("A100-80", "llama-3-8b", step_per_sequence_us=0, **costs)
    parts = partition(config, "mig", ["a", "b"])
    sliced = Machine(
        [Engine(config, part.costs, part.kv_capacity_tokens) for part in parts], gpu_of(config, "mig", parts)
    )
    sliced.submit(0, [Sequence(700, 2)], 0.0)
    sliced.submit(1, [Sequence(10, 2)], 0.003)
    # Half of the bandwidth: 16 ms of weights. 3/7 of the SMs: 0.14 ms a token, 98 for 700.
    assert token_times_ms(list(sliced.advance(1.0))) == {
        0: pytest.approx([99, 116]),
        1: pytest.approx([20, 37]),
    }


@pytest.mark.parametrize(
    ("sharing", "gpu", "parts"),
    [
        ("logical", Independent, 1),
        ("timeslice", TimeSlice, 2),
        ("mps", Concurrent, 2),
        ("mig_emulated", Concurrent, 2),
        ("mig", Independent, 2),
    ],
)
def test_the_machine_of_a_profile(sharing: Sharing, gpu: type[Gpu], parts: int) -> None:
    text = MINIMAL + MINIMAL[MINIMAL.index("  - id") :].replace("chat", "batch")
    text += f"deployment: {{sharing: {sharing}, simulator: {{gpu: A100-80, model: llama-3-8b, quantum_ms: 3}}}}\n"
    profile = parse(text)
    built, found = machine_of(profile)
    assert len(built.engines) == len(found) == parts
    assert [engine.kv_capacity_tokens for engine in built.engines] == [part.kv_capacity_tokens for part in found]
    assert isinstance(gpu_of(profile.deployment.simulator, sharing, found), gpu)


def test_one_that_comes_as_a_step_ends_is_too_late_for_the_next() -> None:
    alone = machine(Independent(), options())
    alone.submit(0, [Sequence(10, 3)], 0.0)
    times = []
    for end in alone.advance(1.0):
        times.append((round(end.time_s / MS, 6), len(end.emissions)))
        if len(times) == 1:
            alone.submit(0, [Sequence(10, 1)], end.time_s)
    assert times == [(6, 1), (12, 1), (18, 2)]


def test_who_comes_first_when_steps_end_at_once() -> None:
    both = machine(Independent(), options(), options())
    both.submit(1, [Sequence(10, 2)], 0.0)
    both.submit(0, [Sequence(10, 2)], 0.0)
    assert [end.part for end in both.advance(1.0)] == [0, 1, 0, 1]


def test_time_goes_forward_over_no_end() -> None:
    alone = machine(Independent(), options())
    alone.submit(0, [Sequence(10, 2)], 0.5)
    with pytest.raises(RuntimeError, match=r"submit at 0.4 s; allowed is 0.5 s to 0.506 s"):
        alone.submit(0, [Sequence(10, 2)], 0.4)
    with pytest.raises(RuntimeError, match=r"submit at 0.6 s; allowed is 0.5 s to 0.506 s"):
        alone.submit(0, [Sequence(10, 2)], 0.6)


def test_an_idle_machine_has_no_next_end() -> None:
    idle = machine(Independent(), options())
    assert idle.next_s() == float("inf")
    assert list(idle.advance(float("1e9"))) == []
    with pytest.raises(RuntimeError, match="while no step runs"):
        idle.end_next()


def test_all_sequences_of_a_request_come_in_or_none() -> None:
    alone = machine(Independent(), options(max_model_len=100))
    with pytest.raises(ServingError):
        alone.submit(0, [Sequence(10, 2), Sequence(99, 2)], 0.0)
    assert (alone.engines[0].waiting, alone.next_s()) == (0, float("inf"))


def test_a_step_keeps_its_work_when_its_sequence_is_cancelled() -> None:
    alone = machine(Independent(), options())
    sequence = Sequence(10, 5)
    alone.submit(0, [sequence], 0.0)
    next(alone.advance(1.0))
    alone.cancel(0, sequence)
    [end] = alone.advance(1.0)
    assert end.emissions == []
    assert end.time_s == pytest.approx(12 * MS)
    assert alone.next_s() == float("inf")


# --- whatever is asked

_requests = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60), st.integers(1, 8)), min_size=1, max_size=12)
BUSY = options(compute_per_token_us=100, kv_read_per_token_ns=2000, step_per_sequence_us=300, max_num_batched_tokens=64)


def drive(shared: Machine, requests: Many[tuple[int, int, int]], part: int = 0) -> list[StepEnd]:
    """Everything of requests (when, in ms; prompt; answer) to one part."""
    ends: list[StepEnd] = []
    for at_ms, prompt, answer in sorted(requests):
        ends.extend(shared.advance(at_ms * MS))
        shared.submit(part, [Sequence(prompt, answer)], at_ms * MS)
    return [*ends, *shared.advance(float("1e9"))]


@given(requests=_requests)
def test_a_machine_of_one_is_the_engine_alone(requests: list[tuple[int, int, int]]) -> None:
    engine = Engine(BUSY)
    expected: list[tuple[float, float, list[int]]] = []
    later = sorted(requests)
    now_s = 0.0
    while True:
        while later and later[0][0] * MS < now_s:
            engine.submit(Sequence(*later.pop(0)[1:]))
        step = engine.begin_step()
        if step is None:
            if not later:
                break
            now_s = later[0][0] * MS
            engine.submit(Sequence(*later.pop(0)[1:]))
            step = engine.begin_step()
            assert step is not None
        end_s = now_s + step.duration_s
        while later and later[0][0] * MS < end_s:
            engine.submit(Sequence(*later.pop(0)[1:]))
        expected.append((now_s, end_s, [emission.sequence.arrival for emission in engine.end_step()]))
        now_s = end_s
    ends = drive(machine(Independent(), BUSY), requests)
    assert [
        (end.start_s, end.time_s, [emission.sequence.arrival for emission in end.emissions]) for end in ends
    ] == expected


@given(requests=_requests, others=_requests, gpu=st.sampled_from(["timeslice", "mps"]))
def test_company_makes_no_step_shorter(
    requests: list[tuple[int, int, int]], others: list[tuple[int, int, int]], gpu: str
) -> None:
    shared = machine(TimeSlice(2 * MS, 0.05 * MS) if gpu == "timeslice" else Concurrent([0.5, 1], 0.05), BUSY, BUSY)
    mixed = sorted([(*request, 0) for request in requests] + [(*request, 1) for request in others])
    ends: list[StepEnd] = []
    for at_ms, prompt, answer, part in mixed:
        ends.extend(shared.advance(at_ms * MS))
        shared.submit(part, [Sequence(prompt, answer)], at_ms * MS)
    ends.extend(shared.advance(float("1e9")))
    assert [end.time_s for end in ends] == sorted(end.time_s for end in ends)
    for end in ends:
        assert end.time_s - end.start_s >= end.step.duration_s - 1e-9
    for part, asked in ((0, requests), (1, others)):
        tokens = sum(len(end.emissions) for end in ends if end.part == part)
        assert tokens == sum(answer for _, _, answer in asked)
