"""What a tenant's latencies and throughput became beside others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.bootstrap import draws
from analysis.slowdown import LATENCIES, SLOWDOWN_PERCENTILES, Side, paired, slowdowns, throughput_ratio
from tests.analysis.sides import side

NAN = math.nan
E2E = "e2e_scheduled_ms"


def test_slowdown_worked_by_hand() -> None:
    # Of four values p50 is the second and p95 the fourth: 20 and 40 alone, 30 and 100 beside others.
    found = slowdowns(side(10, 40, 20, 30), side(100, 20, 30, 60))[E2E]
    assert (found["p50"].solo_ms, found["p50"].shared_ms, found["p50"].value) == (20, 30, 1.5)
    assert (found["p95"].solo_ms, found["p95"].shared_ms, found["p95"].value) == (40, 100, 2.5)
    assert found["p99"].value == 2.5
    assert (found["p50"].count, found["p50"].paired) == (4, True)
    assert found["p50"].ci95 == (None, None)  # too often a replicate has none of four requests
    assert found["p50"].as_json().keys() == {"value", "ci95", "solo", "shared", "count", "paired"}


def test_each_latency_has_its_own() -> None:
    solo, shared = side(10, 10, tpot_ms=(5, 5)), side(20, 20, tpot_ms=(5, 5))
    found = slowdowns(solo, shared)
    assert list(found) == list(LATENCIES)
    assert {name: found[name]["p50"].value for name in LATENCIES} == {
        "ttft_scheduled_ms": 2.0,
        "tpot_ms": 1.0,
        "e2e_scheduled_ms": 2.0,
    }
    assert list(slowdowns(solo, shared, latencies=[E2E])) == [E2E]


def test_only_requests_of_both_sides_count_where_the_schedule_is_the_same() -> None:
    # The windows overlap in requests 1 to 9; request 0 took 900 ms alone, request 10 took 800 beside others.
    solo = side(900, *[10] * 9)
    shared = side(*[20] * 9, 800, index=range(1, 11), start_s=1)
    found = slowdowns(solo, shared)[E2E]
    assert (found["p99"].solo_ms, found["p99"].shared_ms, found["p99"].count) == (10, 20, 9)


def test_a_failed_request_has_no_latency() -> None:
    found = slowdowns(side(10, 20, NAN), side(30, NAN, NAN))[E2E]
    assert (found["p50"].solo_ms, found["p50"].shared_ms, found["p50"].count) == (10, 30, 1)


def test_a_side_that_lost_its_slow_requests_does_not_look_fast() -> None:
    """All took twice as long beside others; those that would have been the slowest were given up there."""
    found = slowdowns(side(10, 20, 500, 600), side(20, 40, NAN, NAN))[E2E]
    assert (found["p95"].solo_ms, found["p95"].shared_ms, found["p95"].value) == (20, 40, 2.0)
    assert (found["p95"].count, found["p95"].paired) == (2, True)


def test_a_latency_that_never_was_has_no_slowdown() -> None:
    for solo, shared in (
        (side(), side(10)),
        (side(10), side()),
        (side(), side()),
        (side(NAN, NAN), side(10, 20)),  # all failed
        (side(10, 20), side(NAN, NAN)),
        (side(10, tpot_ms=[NAN]), side(10, tpot_ms=[NAN])),  # one token each
        (side(0.0), side(10)),  # times nothing
    ):
        found = slowdowns(solo, shared)["tpot_ms"]["p95"]
        assert found.value is None
        assert found.ci95 == (None, None)


@pytest.mark.parametrize(
    ("solo", "shared"),
    [
        pytest.param(side(1, 2), side(1, 2, seed=8), id="another seed"),
        pytest.param(side(1, 2, seed=None), side(1, 2, seed=None), id="no seed known"),
        pytest.param(side(1, 2), side(1, 2, due_s=[0, 1.5]), id="due at other times: a closed loop"),
        pytest.param(side(1, 2, index=[0, 0]), side(1, 2), id="an index twice: the phase was repeated"),
        pytest.param(side(1, 2, index=[-1, 0]), side(1, 2), id="an index that is not known"),
        pytest.param(side(1, 2), side(1, 2, index=[5, 6]), id="none in common"),
        pytest.param(side(*[1] * 10), side(*[1] * 5), id="half of them in common"),
        pytest.param(side(), side(1), id="nothing at all"),
    ],
)
def test_what_is_no_pair(solo: Side, shared: Side) -> None:
    assert paired(solo, shared) is None
    assert not any(one.paired for one in slowdowns(solo, shared)[E2E].values())


def test_a_few_may_be_lost() -> None:
    of_solo, of_shared = paired(side(*[1] * 10), side(*[1] * 9, index=range(1, 10), due_s=range(1, 10))) or ((), ())
    assert list(of_solo) == list(range(1, 10))
    assert list(of_shared) == list(range(9))


def test_throughput_ratio_worked_by_hand() -> None:
    # 20 tokens in 10 s alone, 30 in 20 s beside others: 1.5 / 2.
    found = throughput_ratio(side(1, tokens=[2] * 10), side(1, tokens=[3] * 10, length_s=20))
    assert found.value == 0.75
    assert list(found.ci95) == [pytest.approx(0.75)] * 2  # the same in every cell


def test_throughput_alone_of_nothing_has_no_ratio() -> None:
    found = throughput_ratio(side(1, tokens=[0] * 10), side(1))
    assert found.value is None
    assert found.as_json() == {"value": None, "ci95": [None, None]}
    assert throughput_ratio(side(1), side(1, tokens=[0] * 10)).value == 0  # nothing came beside others: that is known


def test_what_goes_up_and_down_on_both_sides_is_no_doubt_in_pairs() -> None:
    tokens = [1.0, 9.0] * 20
    together = throughput_ratio(side(1, tokens=tokens), side(1, tokens=[2 * one for one in tokens]))
    apart = throughput_ratio(side(1, seed=8, tokens=tokens), side(1, tokens=[2 * one for one in tokens]))
    assert list(together.ci95) == [pytest.approx(2)] * 2
    low, high = apart.ci95
    assert low is not None
    assert high is not None
    assert high - low > 0.1


def slow_percentile(values: list[float], weights: list[float], per_mille: int, slack: float) -> float | None:
    """The smallest value that at least p of the weight does not exceed, one value after another."""
    order = sorted(zip(values, weights, strict=True))
    total, reached = sum(weights), 0.0
    if total == 0:
        return None
    for value, weight in order:
        reached += weight
        if reached >= per_mille / 1000 * total + slack:
            return value
    return order[-1][0]


_VALUES = st.lists(st.one_of(st.just(NAN), st.integers(1, 50).map(float)), max_size=20)


@given(solo=_VALUES, shared=_VALUES, seeds=st.sampled_from([(7, 7), (7, 8)]))
def test_against_a_slow_reference(solo: list[float], shared: list[float], seeds: tuple[int, int]) -> None:
    sides = (
        side(*solo, seed=seeds[0], tokens=[1] * 20, length_s=20),
        side(*shared, seed=seeds[1], tokens=[1] * 20, length_s=20),
    )
    pairs = paired(*sides)
    if pairs is None:
        picked = (list(enumerate(solo)), list(enumerate(shared)))
    else:
        both = range(min(len(solo), len(shared)))
        common = [k for k in both if not math.isnan(solo[k]) and not math.isnan(shared[k])]
        picked = ([(k, solo[k]) for k in common], [(k, shared[k]) for k in common])
    drawn = (draws(20, seed=0 if pairs is not None else 1), draws(20, seed=0))
    found = slowdowns(*sides, latencies=[E2E])[E2E]
    for name, per_mille in zip(SLOWDOWN_PERCENTILES, (500, 950, 990), strict=True):
        plain = []
        for chosen in picked:
            ordered = sorted(value for _, value in chosen if not math.isnan(value))
            plain.append(ordered[math.ceil(per_mille * len(ordered) / 1000) - 1] if ordered else None)
        assert [found[name].solo_ms, found[name].shared_ms] == plain
        assert found[name].value == (None if None in plain else plain[1] / plain[0])  # type: ignore[operator]
        for replicate in range(5):
            allowed = []
            for chosen, weights in zip(picked, drawn, strict=True):
                values = [value for _, value in chosen if not math.isnan(value)]
                own = [float(weights[replicate, k]) for k, value in chosen if not math.isnan(value)]
                allowed.append({slow_percentile(values, own, per_mille, slack) for slack in (-1e-9, 0.0, 1e-9)})
            ratio = found[name].replicates[replicate]
            if None in allowed[0] | allowed[1]:
                assert math.isnan(ratio)
            else:
                assert ratio in {above / below for above in allowed[1] for below in allowed[0]}  # type: ignore[operator]


def test_many_requests_are_counted_in_bins_by_rank() -> None:
    rng = np.random.default_rng(3)
    count = 50_000
    values = rng.lognormal(0, 1, (2, count))
    due_s = np.linspace(0, 100, count, endpoint=False)
    solo, shared = (
        side(*each, seed=seed, due_s=due_s.tolist(), tokens=[1] * 100, length_s=100)
        for seed, each in zip((7, 8), (values[0], 2 * values[1]), strict=True)
    )
    found = slowdowns(solo, shared, latencies=[E2E])[E2E]
    for percentile in SLOWDOWN_PERCENTILES:
        value, (low, high) = found[percentile].value, found[percentile].ci95
        assert value is not None
        assert low is not None
        assert high is not None
        assert low < 2 < high
        assert high - low < 0.3


def test_the_interval_holds_the_truth_19_times_in_20() -> None:
    """Waves of 6 s of both sides together, in 120 runs of 240 requests; the shared side is 1.5 times as slow."""
    rng = np.random.default_rng(5)
    runs, count, smooth = 120, 240, 6
    due_s = (np.arange(count) / 4).tolist()
    held = dict.fromkeys(("p50", "p95"), 0)
    for _ in range(runs):
        waves = rng.normal(size=(3, count + smooth - 1))
        both, one, other = (np.convolve(wave, np.ones(smooth) / math.sqrt(smooth), "valid") for wave in waves)
        alone = np.exp(0.4 * both + 0.3 * one)
        beside = 1.5 * np.exp(0.4 * both + 0.3 * other)
        sides = [side(*each, due_s=due_s, tokens=[1] * 120, length_s=60) for each in (alone, beside)]
        found = slowdowns(*sides, latencies=[E2E])[E2E]
        for percentile in held:
            low, high = found[percentile].ci95
            held[percentile] += low is not None and high is not None and low <= 1.5 <= high
    assert all(0.9 <= times / runs <= 0.995 for times in held.values()), held
