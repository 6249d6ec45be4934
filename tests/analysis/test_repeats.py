"""Intervals over repeats."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.repeats import t_interval


def test_five_runs_worked_by_hand() -> None:
    # s = √2.5, t(4) = 2.776: 3 ± 2.776 · 1.5811 / √5.
    mean, bounds = t_interval([1, 2, 3, 4, 5])
    assert mean == 3.0
    assert bounds == pytest.approx((1.0368, 4.9632), abs=1e-4)


def test_students_own_sample() -> None:
    # Student 1908, section IX: hours of sleep gained with the second drug less the first; later tables: 0.70 to 2.46.
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    mean, bounds = t_interval(gained)
    assert mean == pytest.approx(1.58)
    assert bounds == pytest.approx((0.70, 2.46), abs=0.005)


@pytest.mark.parametrize(
    ("values", "mean"), [([], None), ([7.0], 7.0), ([1.0, math.inf], None), ([1.0, math.nan, 2.0], None)]
)
def test_undefined(values: list[float], mean: float | None) -> None:
    assert t_interval(values) == (mean, (None, None))


def test_equal_runs_have_no_spread() -> None:
    assert t_interval([4.0, 4.0, 4.0]) == (4.0, (4.0, 4.0))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_against_the_slow_reference(values: list[float]) -> None:
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    mean, (low, high) = t_interval(values)
    assert mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert (low, high) == pytest.approx((statistics.fmean(values) - half, statistics.fmean(values) + half), abs=1e-6)
