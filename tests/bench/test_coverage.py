"""The bench of the intervals, in short."""

from __future__ import annotations

from bench.coverage import Asked, Covered, coverage


def test_an_open_bound_bounds_nothing() -> None:
    assert Asked("x", (1.0, None), 5.0).held
    assert Asked("x", (None, None), 5.0).undefined
    assert not Asked("x", (1.0, 2.0), 5.0).held


def test_the_limits() -> None:
    assert Covered("x", 0.95, 0.0).good
    assert not Covered("x", 0.91, 0.0).good
    assert not Covered("x", 0.99, 0.0).good


def test_most_intervals_hold_the_truth() -> None:
    found = coverage(4)
    assert {"p99, queue", "jain_throughput", "slowdown p95, paired", "mean of repeats"} <= {one.name for one in found}
    assert sum(one.held for one in found) / len(found) > 0.8
