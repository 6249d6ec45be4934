"""Schedules: by hand, as distributions, and as functions of seed, tenant and index."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairshare_locust.arrival.rate import ramp
from fairshare_locust.arrival.schedule import (
    ConstantSchedule,
    RatedSchedule,
    RenewalSchedule,
    Schedule,
    count_before,
    open_schedule,
)
from fairshare_locust.arrival.series import BLOCK, Series
from fairshare_locust.arrival.trace import RowTimes
from fairshare_locust.profile.arrivals import (
    ConstantArrival,
    GammaArrival,
    OnOffArrival,
    OpenArrival,
    PoissonArrival,
    RampArrival,
    RateStep,
    StepsArrival,
    TraceArrival,
    WeibullArrival,
)
from tests.arrival.processes import EVERY, TIMES_S, open_processes, schedule_of
from tests.elsewhere import elsewhere

_POISSON = PoissonArrival(rate_per_s=4)


def due(schedule: Schedule, count: int) -> list[float]:
    return [schedule.due_s(i) for i in range(count)]


def gaps_of(arrival: OpenArrival, count: int = 20_000) -> np.ndarray:
    return np.diff([0.0, *due(open_schedule(arrival, 7, "chat"), count)])


def test_constant_by_hand() -> None:
    assert due(ConstantSchedule(4), 5) == [0, 0.25, 0.5, 0.75, 1]
    assert ConstantSchedule(0.5).due_s(3) == 6
    assert due(open_schedule(ConstantArrival(rate_per_s=2), 7, "chat"), 3) == [0, 0.5, 1]


def test_constant_does_not_drift() -> None:
    assert ConstantSchedule(10).due_s(36_000_000) == 3_600_000


def test_renewal_by_hand() -> None:
    """The first gap comes before the first request; the rate divides."""
    schedule = RenewalSchedule(2, lambda count: np.array([1.0 + i % 2 for i in range(count)]))
    assert due(schedule, 6) == [0.5, 1.5, 2.0, 3.0, 3.5, 4.5]
    # 1024 gaps to a block: 512 of 1 and 512 of 2 make 1536, and the next block goes on from there.
    assert schedule.due_s(1023) == 1536 / 2
    assert schedule.due_s(1024) == 1537 / 2


def test_poisson_times_of_today_can_be_repeated_later() -> None:
    schedule = open_schedule(_POISSON, 7, "chat")
    assert [schedule.due_s(i) for i in (0, 1, 1023, 1024, 3000)] == [
        0.03902521588851662,
        0.18159150708631044,
        247.83510866242108,
        248.1191461565609,
        753.1608780981935,
    ]


def test_poisson_gaps_are_exponential_and_independent() -> None:
    schedule = open_schedule(_POISSON, 7, "chat")
    gaps = np.diff([0.0, *due(schedule, 20_000)])
    assert gaps.min() > 0
    assert stats.kstest(gaps, "expon", args=(0, 1 / 4)).pvalue > 0.01
    # Standard error of the mean: 0.25 / sqrt(20000) = 0.0018; of a correlation: 0.007
    assert gaps.mean() == pytest.approx(0.25, abs=3 * 0.0018)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 * 0.0071


def test_poisson_counts_are_poisson() -> None:
    """Counts in 5 s at 4/s have mean and variance 20."""
    times = np.array(due(open_schedule(_POISSON, 7, "chat"), 20_000))
    counts = np.bincount((times // 5).astype(int))[:-1]
    assert len(counts) > 900
    assert counts.mean() == pytest.approx(20, rel=0.03)
    assert counts.var() == pytest.approx(20, rel=0.15)


# --- gamma, Weibull


@pytest.mark.parametrize("shape", [0.25, 4.0])
def test_gamma_gaps(shape: float) -> None:
    """Shape k and scale 1 / (rate · k), so mean 1 / rate and coefficient of variation 1 / sqrt(k)."""
    gaps = gaps_of(GammaArrival(rate_per_s=4, burstiness=shape))
    assert stats.kstest(gaps, "gamma", args=(shape, 0, 1 / (4 * shape))).pvalue > 0.01
    # Standard error of the mean: cv · 0.25 / sqrt(20000)
    assert gaps.mean() == pytest.approx(0.25, abs=3 * 0.25 / np.sqrt(shape * 20_000))
    assert gaps.std() / gaps.mean() == pytest.approx(1 / np.sqrt(shape), rel=0.05)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 * 0.0071


def test_gamma_by_its_coefficient_of_variation() -> None:
    by_cv, by_shape = GammaArrival(rate_per_s=4, cv=2), GammaArrival(rate_per_s=4, burstiness=0.25)
    assert gaps_of(by_cv, 50).tolist() == gaps_of(by_shape, 50).tolist()


@pytest.mark.parametrize("shape", [0.5, 2.0])
def test_weibull_gaps(shape: float) -> None:
    """Shape 0.5: mean scale · Γ(3) = 2 scale, cv² = Γ(5) / Γ(3)² - 1 = 5.

    Shape 2: mean scale · Γ(1.5) = scale · sqrt(π) / 2, cv² = 4/π - 1.
    """
    scale, cv = {0.5: (1 / 8, np.sqrt(5)), 2.0: (1 / (2 * np.sqrt(np.pi)), np.sqrt(4 / np.pi - 1))}[shape]
    gaps = gaps_of(WeibullArrival(rate_per_s=4, shape=shape))
    assert stats.kstest(gaps, "weibull_min", args=(shape, 0, scale)).pvalue > 0.01
    assert gaps.mean() == pytest.approx(0.25, abs=3 * cv * 0.25 / np.sqrt(20_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.08)


@pytest.mark.parametrize(
    "arrival",
    [GammaArrival(rate_per_s=4, burstiness=1), WeibullArrival(rate_per_s=4, shape=1)],
    ids=["gamma", "weibull"],
)
def test_shape_one_is_poisson(arrival: OpenArrival) -> None:
    assert gaps_of(arrival, 3000) == pytest.approx(gaps_of(_POISSON, 3000))


# --- rates that change


def test_ramp_by_hand() -> None:
    """0 → 2/s over 10 s: Λ(t) = t² / 10."""
    arrival = RampArrival(from_per_s=0, to_per_s=2, over_s=10, base="constant")
    expected = [*(np.sqrt(10 * i) for i in range(11)), 10.5, 11]
    assert due(open_schedule(arrival, 7, "chat"), 13) == pytest.approx(expected)
    assert open_schedule(arrival, 7, "chat").due_s(5010) == pytest.approx(2510)


def test_unit_times_that_nearly_coincide_keep_their_order_in_a_ramp() -> None:
    """Next neighbours among the floats, of which the square root makes what it likes."""
    neighbours = 18.0 + np.spacing(18.0) * np.arange(4 * BLOCK)
    schedule = RatedSchedule(Series(lambda number: neighbours[number * BLOCK :][:BLOCK]), ramp(1, 3, over_s=10))
    along = due(schedule, 4 * BLOCK)
    assert along == sorted(along)


def test_steps_by_hand() -> None:
    steps = (RateStep(rate_per_s=2, for_s=1), RateStep(rate_per_s=0, for_s=2), RateStep(rate_per_s=1, for_s=2))
    stays, loops = (
        open_schedule(StepsArrival(steps=steps, loop=loop, base="constant"), 7, "chat") for loop in (False, True)
    )
    assert due(stays, 7) == [0, 0.5, 3, 4, 5, 6, 7]
    assert due(loops, 9) == [0, 0.5, 3, 4, 5, 5.5, 8, 9, 10]


def test_steps_that_end_in_silence() -> None:
    steps = (RateStep(rate_per_s=2, for_s=1), RateStep(rate_per_s=0, for_s=2))
    schedule = open_schedule(StepsArrival(steps=steps, base="constant"), 7, "chat")
    assert due(schedule, 3) == [0, 0.5, np.inf]
    assert count_before(schedule, np.inf) == 2


def test_on_off_by_hand() -> None:
    """Two in a second of each burst; with 1/s between bursts, four in each three seconds."""
    silent = OnOffArrival(rate_per_s=2, on_s=1, off_s=2, base="constant")
    assert due(open_schedule(silent, 7, "chat"), 5) == [0, 0.5, 3, 3.5, 6]
    murmur = OnOffArrival(rate_per_s=2, on_s=1, off_s=2, off_rate_per_s=1, base="constant")
    assert due(open_schedule(murmur, 7, "chat"), 6) == [0, 0.5, 1, 2, 3, 3.5]


def test_poisson_bursts() -> None:
    """10/s for 2 s, silence for 3 s: counts of bursts are Poisson with mean 20, times inside them uniform."""
    arrival = OnOffArrival(rate_per_s=10, on_s=2, off_s=3)
    times = np.array(due(open_schedule(arrival, 7, "chat"), 20_000))
    inside = times % 5
    assert inside.max() < 2
    assert stats.kstest(inside, "uniform", args=(0, 2)).pvalue > 0.01
    counts = np.bincount((times // 5).astype(int))[:-1]
    # Some 1000 bursts: standard error of the mean sqrt(20 / 1000) = 0.14, of the variance 20 · sqrt(2 / 1000) = 0.9
    assert counts.mean() == pytest.approx(20, abs=3 * 0.14)
    assert counts.var() == pytest.approx(20, abs=3 * 0.9)


def test_bursts_of_random_length() -> None:
    """An interrupted Poisson process: mean gap (on + off) / (rate · on), cv² = 1 + 2 rate · on · (off / (on + off))².

    With 4/s, on 1 s, off 3 s: 1 s, and 1 + 8 · 9/16 = 5.5 (Kuczura, 1973).
    """
    gaps = gaps_of(OnOffArrival(rate_per_s=4, on_s=1, off_s=3, durations="exponential"), 100_000)
    # Standard error of the mean: sqrt(5.5 / 100000) = 0.0074
    assert gaps.mean() == pytest.approx(1, abs=3 * 0.0074)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(5.5, rel=0.05)


@pytest.mark.parametrize(
    "arrival",
    [
        RampArrival(from_per_s=1, to_per_s=9, over_s=500, after_s=10),
        StepsArrival(steps=(RateStep(rate_per_s=1, for_s=9), RateStep(rate_per_s=8, for_s=2)), loop=True),
    ],
    ids=lambda arrival: arrival.process,
)
def test_poisson_at_a_rate_that_changes(arrival: RampArrival | StepsArrival) -> None:
    """Λ of the due times is a Poisson process of rate 1: independent exponential gaps."""

    def integral(t: np.ndarray) -> np.ndarray:
        if isinstance(arrival, StepsArrival):  # 9 in the first 9 s of each 11 s, 16 in the others
            return np.asarray(t // 11 * 25 + np.minimum(t % 11, 9) + 8 * np.maximum(t % 11 - 9, 0))
        x = np.clip(t - 10, 0, 500)
        return np.asarray(np.minimum(t, 10) + x + 8 / 500 * x**2 / 2 + 9 * np.maximum(t - 510, 0))

    gaps = np.diff(integral(np.array([0.0, *due(open_schedule(arrival, 7, "chat"), 5000)])))
    assert stats.kstest(gaps, "expon").pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 / np.sqrt(5000)


# --- active stretches


def test_active_stretches_by_hand() -> None:
    """Every half second, inside [10, 11) and [20, 21.5) only."""
    arrival = ConstantArrival(rate_per_s=2, active_s=((10, 11), (20, 21.5)))
    schedule = open_schedule(arrival, 7, "chat")
    assert due(schedule, 6) == [10, 10.5, 20, 20.5, 21, np.inf]
    assert count_before(schedule, np.inf) == 5


def test_an_active_tenant_has_its_process_piece_by_piece() -> None:
    whole = due(open_schedule(_POISSON, 7, "chat"), 100)
    pieces = due(open_schedule(PoissonArrival(rate_per_s=4, active_s=((5, 15), (40, 1000))), 7, "chat"), 100)
    assert pieces == pytest.approx([t + 5 if t < 10 else t + 30 for t in whole])


# --- all processes


@pytest.mark.parametrize("process", ["constant", "poisson", "gamma", "weibull", "on_off", "ramp", "steps", "trace"])
@settings(deadline=None, max_examples=25)
@given(data=st.data(), seed=st.integers(0, 2**63 - 1))
def test_due_times_never_decrease_and_count_before_counts(process: str, data: st.DataObject, seed: int) -> None:
    arrival = data.draw(open_processes(process))
    schedule = schedule_of(arrival, seed)
    along = due(schedule, 2500)
    assert along[0] >= 0
    assert along == sorted(along)
    assert not np.isnan(along).any()
    until_s = data.draw(st.floats(0, 30) | st.sampled_from(along[:100]))
    count = count_before(schedule_of(arrival, seed), until_s)
    if count < 2500:
        assert count == sum(time_s < until_s for time_s in along)
    else:
        assert along[-1] < until_s


@pytest.mark.parametrize("process", ["poisson", "gamma", "weibull", "on_off", "ramp", "steps"])
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_seed_and_tenant_decide(process: str, data: st.DataObject) -> None:
    arrival = data.draw(open_processes(process, random=True))
    first = due(open_schedule(arrival, 7, "chat"), 30)
    assert due(open_schedule(arrival, 7, "chat"), 30) == first
    assert due(open_schedule(arrival, 8, "chat"), 30) != first
    assert due(open_schedule(arrival, 0, "chat"), 30) != first
    assert due(open_schedule(arrival, 7, "batch"), 30) != first


@pytest.mark.parametrize(
    "arrival",
    [
        ConstantArrival(rate_per_s=4),
        _POISSON,
        GammaArrival(rate_per_s=4, cv=2),
        WeibullArrival(rate_per_s=4, shape=0.7),
    ],
    ids=lambda arrival: arrival.process,
)
def test_another_rate_stretches_the_same_schedule(
    arrival: ConstantArrival | PoissonArrival | GammaArrival | WeibullArrival,
) -> None:
    twice = dataclasses.replace(arrival, rate_per_s=8)
    assert gaps_of(arrival, 50) == pytest.approx(2 * gaps_of(twice, 50))


@settings(deadline=None, max_examples=50)
@given(indices=st.lists(st.integers(0, 5000), min_size=1, max_size=20))
@pytest.mark.parametrize(
    "arrival", [_POISSON, RampArrival(from_per_s=0, to_per_s=9, over_s=60)], ids=["poisson", "ramp"]
)
def test_the_order_of_asking_is_no_matter(arrival: OpenArrival, indices: list[int]) -> None:
    in_order = due(open_schedule(arrival, 7, "chat"), 5001)
    schedule = open_schedule(arrival, 7, "chat")
    assert [schedule.due_s(i) for i in indices] == [in_order[i] for i in indices]


def every_due_s() -> list[list[float]]:
    return [due(schedule_of(arrival, 7), 2000) for arrival in EVERY]


def test_the_same_in_another_process() -> None:
    """Whatever that process hashes with."""
    assert elsewhere(every_due_s) == every_due_s()


def test_a_trace_without_its_rows() -> None:
    with pytest.raises(TypeError, match=r"'chat'.*needs the times"):
        open_schedule(TraceArrival(trace="t"), 7, "chat")
    schedule = open_schedule(TraceArrival(trace="t"), 7, "chat", RowTimes.alone(TIMES_S))
    assert due(schedule, len(TIMES_S)) == TIMES_S.tolist()


# --- counting


def test_count_before_by_hand() -> None:
    schedule = ConstantSchedule(4)
    assert [count_before(schedule, t) for t in (-1, 0, 0.1, 0.25, 0.26, 1, 100)] == [0, 0, 1, 1, 2, 4, 400]
