"""Rates that change: by hand, and against the integral done the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.arrival.rate import (
    LoopedRate,
    PiecewiseRate,
    RateCurve,
    SwitchedRate,
    constant_rates,
    ramp,
)


def times(curve: RateCurve, *counts: float) -> list[float]:
    return list(curve.times_s(np.array(counts, dtype=np.float64)).tolist())


def integral(at_s: list[float], from_per_s: list[float], to_per_s: list[float], then: float, until_s: float) -> float:
    """Λ, trapezium by trapezium."""
    total = 0.0
    for start, end, first, last in zip(at_s[:-1], at_s[1:], from_per_s, to_per_s, strict=True):
        if until_s >= end:
            total += (end - start) * (first + last) / 2
        elif until_s > start:
            here = first + (last - first) * (until_s - start) / (end - start)
            total += (until_s - start) * (first + here) / 2
    return total + max(0.0, until_s - at_s[-1]) * then


# --- by hand


def test_a_ramp_from_nothing() -> None:
    """0 → 2/s over 10 s: Λ(t) = t² / 10, then 2/s."""
    expected = [0, math.sqrt(10), math.sqrt(20), 5, 10, 10.5, 15]
    assert times(ramp(0, 2, over_s=10), 0, 1, 2, 2.5, 10, 11, 20) == pytest.approx(expected)


def test_a_ramp_to_nothing() -> None:
    """2/s → 0 over 10 s: Λ(t) = 2t - t²/10, 10 in all; 9.1 of them when t² - 20t + 91 = 0, at 7."""
    curve = ramp(2, 0, over_s=10)
    assert times(curve, 0, 1.9, 9.1) == pytest.approx([0, 1, 7])
    assert times(curve, 10, 11) == [math.inf, math.inf]


def test_a_ramp_after_a_while() -> None:
    """1/s for 2 s, → 3/s over 4 s: Λ(2 + x) = 2 + x + x²/4, 5 at x = 2, 10 at x = 4; then 3/s."""
    assert times(ramp(1, 3, over_s=4, after_s=2), 0, 1, 2, 5, 10, 13) == pytest.approx([0, 1, 2, 4, 6, 7])


def test_a_nearly_level_ramp_keeps_its_digits() -> None:
    """The usual solution of the quadratic loses all of them: its terms differ by 1e-15 of their size."""
    assert times(ramp(1e6, 1e6 + 1e-6, over_s=1000), 1e6, 5e8) == pytest.approx([1, 500], rel=1e-12)


def test_what_is_due_in_silence_is_due_at_its_end() -> None:
    """2/s for 3 s (6 requests), nothing for 2 s, 1/s for 4 s."""
    curve = constant_rates([2, 0, 1], [3, 2, 4], then_per_s=1)
    assert times(curve, 0, 5, 5.5, 6, 7, 10, 12) == [0, 2.5, 2.75, 5, 6, 9, 11]


def test_silence_at_the_start_and_two_in_a_row() -> None:
    assert times(constant_rates([0, 0, 4], [1, 2, 1]), 0, 2, 4) == [3, 3.5, math.inf]


def test_a_rounding_error_does_not_move_a_request_over_a_silence() -> None:
    """3 · 0.1 is a little more than 0.3, and 10 / s for 0.3 s a little less than three times 1."""
    looped = LoopedRate(constant_rates([3, 0], [0.1, 1]))
    assert times(looped, 3, 6) == pytest.approx([11, 22])
    assert times(constant_rates([0.1, 0, 1], [3, 100, 1], then_per_s=1), 3 * 0.1, 0.3) == pytest.approx([103, 103])


def test_a_rounding_error_does_not_move_a_request_to_another_lap() -> None:
    """Laps of 1.1 s that begin with a second of silence: request 3 is the first of the lap from 11 s on."""
    assert times(LoopedRate(constant_rates([0, 3], [1, 0.1])), 3) == pytest.approx([12])


def test_laps_go_on_where_counts_have_no_digits_left_for_a_fraction() -> None:
    """What is left of this count after whole laps is, by rounding, all of a lap: not what is never due."""
    (time_s,) = times(LoopedRate(constant_rates([0.5557944514198208, 0], [1, 1])), 1073754221)
    assert time_s == pytest.approx(1073754221 / 0.5557944514198208 * 2, abs=2)


def test_laps() -> None:
    """2/s for 1.5 s, nothing for 1 s: three requests in each 2.5 s."""
    looped = LoopedRate(constant_rates([2, 0], [1.5, 1]))
    assert times(looped, 0, 1, 2, 3, 4, 5, 6, 3000) == [0, 0.5, 1, 2.5, 3, 3.5, 5, 2500]


class _Durations(np.random.Generator):
    """A generator whose unit exponentials are 1, 1, 2, 2, 1, 1, 2, 2, …"""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_exponential(self, size: tuple[int, int]) -> np.ndarray:  # type: ignore[override]
        return np.array([[1.0 + i % 2] * 2 for i in range(size[0])])


def test_switches_by_hand() -> None:
    """On for 3 s at 1/s, off for 2 s at 0.5/s; then twice as long each: 4 in 5 s, 8 in 10 s; 12 in each 15 s."""
    curve = SwitchedRate((1, 0.5), (3, 2), _Durations())
    assert times(curve, 0, 3, 3.5, 4, 9.5, 10, 11, 12) == [0, 3, 4, 5, 10.5, 11, 13, 15]
    assert times(curve, 12_000) == [15_000]  # far beyond what was drawn first
    assert times(curve, 0, 3) == [0, 3]


# --- the inverse inverts


_RATE = st.one_of(st.just(0.0), st.floats(0.01, 100))
_STRETCH = st.tuples(st.one_of(st.just(0.0), st.floats(0.01, 50)), _RATE, _RATE)


@settings(deadline=None, max_examples=150)
@given(
    stretches=st.lists(_STRETCH, min_size=1, max_size=6),
    then=_RATE,
    shares=st.lists(st.floats(0, 1.5), min_size=1, max_size=20),
)
def test_the_inverse_inverts_the_integral(
    stretches: list[tuple[float, float, float]], then: float, shares: list[float]
) -> None:
    at_s = [0.0, *np.cumsum([length_s for length_s, _, _ in stretches]).tolist()]
    first, last = [s[1] for s in stretches], [s[2] for s in stretches]
    curve = PiecewiseRate(at_s, first, last, then_per_s=then)
    assert curve.count == pytest.approx(integral(at_s, first, last, then, at_s[-1]))
    for count in (share * curve.count for share in shares):
        (time_s,) = times(curve, count)
        if time_s == math.inf:
            assert then == 0
            assert count == pytest.approx(curve.count) or count > curve.count
            continue
        assert integral(at_s, first, last, then, time_s) == pytest.approx(count, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(stretches=st.lists(_STRETCH, min_size=1, max_size=6), then=_RATE)
def test_at_every_change_no_silence_is_left_to_wait_for(
    stretches: list[tuple[float, float, float]], then: float
) -> None:
    """A second later at least 0.01 s of a stretch with 0.005/s, or a second of 0.0002 t /s, has gone by."""
    at_s = [0.0, *np.cumsum([length_s for length_s, _, _ in stretches]).tolist()]
    first, last = [s[1] for s in stretches], [s[2] for s in stretches]
    curve = PiecewiseRate(at_s, first, last, then_per_s=then)
    for change_s in at_s:
        count = integral(at_s, first, last, then, change_s)
        (time_s,) = times(curve, count)
        if time_s == math.inf:
            assert then == 0
            assert count == pytest.approx(curve.count)
        else:
            assert time_s >= change_s - 1e-6
            assert integral(at_s, first, last, then, time_s + 1) > count + 1e-5


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.floats(0.1, 20), min_size=1, max_size=4),
    rates=st.lists(st.floats(0.1, 50), min_size=4, max_size=4),
    laps=st.integers(0, 50),
    share=st.floats(0.01, 0.99),
)
def test_a_lap_is_like_the_first(lengths: list[float], rates: list[float], laps: int, share: float) -> None:
    lap = constant_rates(rates[: len(lengths)], lengths)
    (alone,) = times(lap, share * lap.count)
    (later,) = times(LoopedRate(lap), (laps + share) * lap.count)
    assert later == pytest.approx(laps * sum(lengths) + alone, abs=1e-6)


def test_switching_lasts_as_long_as_it_should_on_average() -> None:
    """20000 pairs of on (mean 3 s, 5/s) and off (mean 1 s): 15 requests in 4 s; standard error of a mean 0.7 %."""
    curve = SwitchedRate((5, 0), (3, 1), np.random.default_rng(1))
    (time_s,) = times(curve, 15 * 20_000)
    assert time_s == pytest.approx(4 * 20_000, rel=0.02)
