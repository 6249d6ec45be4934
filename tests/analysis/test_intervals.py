"""Intervals and counts behind percentiles."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.intervals import PERCENTILES, minimum_count, order_statistics, rank


@pytest.mark.parametrize(("name", "count"), [("p50", 11), ("p90", 64), ("p95", 130), ("p99", 662), ("p99_9", 6636)])
def test_minimum_counts_are_the_published_ones(name: str, count: int) -> None:
    assert minimum_count(PERCENTILES[name]) == count


@pytest.mark.parametrize(
    ("per_mille", "count", "expected"),
    [
        (500, 1, 1),
        (500, 2, 1),
        (500, 3, 2),
        (950, 20, 19),
        (950, 100, 95),
        (990, 100, 99),
        (990, 101, 100),
        (999, 9, 9),
    ],
)
def test_nearest_rank(per_mille: int, count: int, expected: int) -> None:
    assert rank(per_mille, count) == expected


def test_the_rank_is_exact_where_floats_are_not() -> None:
    assert math.ceil(0.55 * 100) == 56  # what a float makes of 55
    assert rank(550, 100) == 55


def test_the_interval_of_a_median_of_ten_is_the_textbooks() -> None:
    # Conover, Practical Nonparametric Statistics: second and ninth of ten, 97.9 % sure.
    assert order_statistics(500, 10) == (2, 9)


def test_few_samples_do_not_reach_the_tail() -> None:
    assert order_statistics(990, 100)[1] is None
    assert order_statistics(500, 3) == (None, None)
    assert order_statistics(500, 0) == (None, None)


def binomial_at_most(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


@settings(deadline=None)
@given(st.sampled_from(list(PERCENTILES.values())), st.integers(1, 60))
def test_ranks_are_the_tightest_that_hold(per_mille: int, count: int) -> None:
    p, tail = Fraction(per_mille, 1000), Fraction(1, 40)
    lower, upper = order_statistics(per_mille, count)
    low = [k for k in range(1, count + 1) if binomial_at_most(k - 1, count, p) <= tail]
    high = [k for k in range(1, count + 1) if 1 - binomial_at_most(k - 1, count, p) <= tail]
    assert lower == (max(low) if low else None)
    assert upper == (min(high) if high else None)
