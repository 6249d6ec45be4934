"""The Pareto front, by hand and against a comparison of every pair."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.compare.model import Column, Value
from analysis.compare.pareto import front, isolation
from tests.analysis.compared import column

Point = tuple[float | None, float | None]


def of(leakage: float | None, output: float | None) -> Column:
    return column("mps", values={"isolation_leakage": Value(leakage), "output_tokens_per_s": Value(output)})


def test_what_no_other_beats_in_both() -> None:
    # isolation, output: (0.25, 400) and (0.75, 300) are on it; (0.5, 250) loses to the second in both, and
    # (0.75, 100) to it in one with the other equal.
    columns = [of(0.25, 300), of(0.75, 400), of(0.5, 250), of(0.25, 100)]
    assert front(columns) == [(0.25, 400.0), (0.75, 300.0)]


@pytest.mark.parametrize("columns", [[], [of(None, 3.0)], [of(0.5, None)], [of(0.5, math.inf)]])
def test_without_both_there_is_no_front(columns: list[Column]) -> None:
    assert front(columns) == []


def test_one_column_is_the_front() -> None:
    assert front([of(0.5, 3.0)]) == [(0.5, 3.0)]


def test_isolation_turns_leakage_and_its_interval_over() -> None:
    leaks = column("mps", values={"isolation_leakage": Value(0.25, (0.125, 0.5), certified=False)})
    assert isolation(leaks) == Value(0.75, (0.5, 0.875), certified=False)
    assert isolation(column("mps", values={"isolation_leakage": Value(0.25, (None, 0.5))})).ci95 == (0.5, None)
    assert isolation(column("mps", values={})).value is None


shares = st.integers(-4, 8).map(lambda eighths: eighths / 8)


@given(st.lists(st.tuples(shares, st.integers(0, 6).map(float)), max_size=12))
def test_against_every_pair(points: list[tuple[float, float]]) -> None:
    known = [(1 - leakage, output) for leakage, output in points]
    slow = {(x, y) for x, y in known if not any(x2 >= x and y2 >= y and (x2 > x or y2 > y) for x2, y2 in known)}
    assert front([of(leakage, output) for leakage, output in points]) == sorted(slow)
