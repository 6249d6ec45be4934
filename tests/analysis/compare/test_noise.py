"""Marks: worked out by hand, and properties that any two values have."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.compare.model import Value
from analysis.compare.noise import differ, marked
from tests.analysis.compared import column


def value(middle: float, arm: float) -> Value:
    return Value(middle, (middle - arm, middle + arm))


@pytest.mark.parametrize(
    ("distance", "apart"),
    [(5.1, True), (5.0, False), (4.9, False)],  # arms of 3 and 4: sqrt(9 + 16) = 5
)
def test_arms_add_as_squares(distance: float, apart: bool) -> None:
    assert differ(value(100, 3), value(100 + distance, 4)) is apart


def test_the_arms_that_face_each_other_count() -> None:
    slow, fast = Value(20.0, (17.0, 900.0)), Value(10.0, (1.0, 14.0))
    assert differ(slow, fast) is True  # 10 > sqrt(9 + 16), though the other arms are long
    assert differ(fast, slow) is True
    assert differ(Value(20.0, (10.0, 21.0)), fast) is False  # 10 <= sqrt(100 + 16)


def test_what_cannot_be_told() -> None:
    assert differ(Value(None), value(1, 1)) is None
    assert differ(Value(1.0), value(2, 0.1)) is None
    assert differ(Value(300.0, (280.0, None)), value(900, 1)) is None  # the lower one may be anywhere above
    assert differ(Value(900.0, (880.0, None)), value(300, 1)) is True  # the open end points away
    assert differ(Value(math.inf, (1.0, math.inf)), value(900, 1)) is None
    assert differ(Value(1.0), Value(1.0)) is False


_values = st.builds(
    lambda middle, low, high: Value(middle, (middle - low, middle + high)),
    *(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)),
)


@settings(deadline=None)
@given(_values, _values)
def test_it_does_not_matter_which_comes_first(first: Value, second: Value) -> None:
    assert differ(first, second) is differ(second, first)


@settings(deadline=None)
@given(_values, _values)
def test_intervals_that_do_not_overlap_differ(first: Value, second: Value) -> None:
    """The rule is never stricter than asking for no overlap: sqrt(a² + b²) <= a + b."""
    lows, highs = zip(*((one or 0.0, other or 0.0) for one, other in (first.ci95, second.ci95)), strict=True)
    if max(lows) - min(highs) > 1e-6:
        assert differ(first, second) is True


def test_marks_at_each_load_by_itself() -> None:
    columns = [
        column("logical", 1.0, values={"x": value(10, 1)}),
        column("mps", 1.0, values={"x": value(11, 1)}),
        column("mig", 1.0, values={"x": value(20, 1)}),
        column("logical", 2.0, values={"x": value(30, 1)}),
        column("mps", 2.0, values={"x": Value(40.0)}),
    ]
    row = marked("x", "X", "ms", "lower", columns)
    assert (set(row.best), set(row.within_noise)) == ({0, 3}, {1})
    row = marked("x", "X", "ms", "higher", columns)
    assert (set(row.best), set(row.within_noise)) == ({2, 4}, set())


def test_nothing_stands_out() -> None:
    alike = [column("logical", values={"x": value(1, 0)}), column("mps", values={"x": value(1, 0)})]
    assert not marked("x", "X", "", "higher", alike).best
    assert not marked("x", "X", "", None, [*alike, column("mig", values={"x": value(2, 0)})]).best
    alone = [column("logical", values={"x": value(1, 0)}), column("mps", values={})]
    assert not marked("x", "X", "", "higher", alone).best


def test_columns_that_share_the_best() -> None:
    columns = [column(mode, values={"x": value(at, 1)}) for mode, at in (("a", 1), ("b", 1), ("c", 2), ("d", 9))]
    row = marked("x", "X", "", "lower", columns)
    assert (set(row.best), set(row.within_noise)) == ({0, 1}, {2})
