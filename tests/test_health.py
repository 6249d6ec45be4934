"""Health of a load process: percentiles of binned samples, and what a stall leaves behind."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.clock import RunClock
from fairshare_locust.health import HealthSampler, nearest_rank


@given(values=st.lists(st.integers(0, 20), max_size=60), percent=st.integers(1, 100))
def test_nearest_rank_is_that_of_the_sorted_values(values: list[int], percent: int) -> None:
    counted = [(float(value), values.count(value)) for value in sorted(set(values))]
    expected = sorted(values)[math.ceil(percent * len(values) / 100) - 1] if values else None
    assert nearest_rank(counted, percent) == expected


def test_nearest_rank_by_hand() -> None:
    """Of 100 values the 99th, without rounding: 99 · 100 / 100 is 99."""
    assert nearest_rank([(1.0, 98), (2.0, 1), (3.0, 1)], 99) == 2
    assert nearest_rank([(1.0, 99), (2.0, 1)], 99) == 1
    assert nearest_rank([(1.0, 50), (2.0, 50)], 50) == 1
    assert nearest_rank([(1.0, 50), (2.0, 51)], 50) == 2
    assert nearest_rank([], 50) is None


class _Sampler(HealthSampler):
    """A sampler that samples nothing by itself; the test says what was seen, and when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        clock = RunClock()
        super().__init__(clock, lambda _: True)
        self.stop()
        clock.now_s = lambda: self.now_s  # type: ignore[method-assign]

    def saw(self, lag_ms: float, at_s: float = 0.0) -> None:
        self.now_s = at_s
        self._lag(lag_ms)


@pytest.fixture
def sampler() -> _Sampler:
    return _Sampler()


def lag(sampler: _Sampler) -> dict[str, Any]:
    figures: dict[str, Any] = sampler.summary()["event_loop_lag_ms"]
    return figures


def test_nothing_seen_is_nothing_known(sampler: _Sampler) -> None:
    assert sampler.summary() == {
        "event_loop_lag_ms": {"count": 0, "p50": None, "p99": None, "max": None},
        "cpu_share": {"count": 0, "p50": None, "p95": None, "max": None},
        "slow_seconds": [],
    }


@given(lag_ms=st.floats(0.011, 19.9))
def test_a_lag_is_told_to_five_percent_and_never_too_low(lag_ms: float) -> None:
    sampler = _Sampler()
    sampler.saw(lag_ms)
    assert lag(sampler)["count"] == 1
    assert lag_ms * 0.999 - 0.001 <= lag(sampler)["p50"] <= lag_ms * 1.0501 + 0.001
    assert lag(sampler)["max"] == round(lag_ms, 3)


def test_no_lag_counts_as_the_smallest(sampler: _Sampler) -> None:
    sampler.saw(0.0)
    sampler.saw(-0.5)  # clocks are read one after another
    assert lag(sampler) == {"count": 2, "p50": 0.01, "p99": 0.01, "max": 0.01}


def test_percentiles_over_many(sampler: _Sampler) -> None:
    for _ in range(98):
        sampler.saw(1.0)
    sampler.saw(5.0)
    sampler.saw(15.0)
    assert lag(sampler)["count"] == 100
    assert lag(sampler)["p50"] == pytest.approx(1.0, rel=0.05)
    assert lag(sampler)["p99"] == pytest.approx(5.0, rel=0.05)
    assert lag(sampler)["max"] == 15


def test_a_stall_counts_for_as_long_as_it_lasted(sampler: _Sampler) -> None:
    """Samples are due every 20 ms: a stall of 90 ms hid those that would have seen 70, 50, 30 and 10."""
    sampler.saw(90.0)
    assert lag(sampler)["count"] == 5
    assert lag(sampler)["p50"] == pytest.approx(50, rel=0.05)
    assert lag(sampler)["p99"] == pytest.approx(90, rel=0.05)


def test_slow_seconds_are_those_that_a_stall_covers(sampler: _Sampler) -> None:
    sampler.saw(10.0, at_s=1.0)  # not above the limit
    sampler.saw(11.0, at_s=3.5)
    sampler.saw(30.0, at_s=3.9)
    sampler.saw(20.0, at_s=3.95)
    sampler.saw(2500.0, at_s=8.1)  # from 5.6
    assert sampler.summary()["slow_seconds"] == [
        {"t_s": 3, "lag_ms": 30.0},
        {"t_s": 5, "lag_ms": 2500.0},
        {"t_s": 6, "lag_ms": 2500.0},
        {"t_s": 7, "lag_ms": 2500.0},
        {"t_s": 8, "lag_ms": 2500.0},
    ]


def test_a_stall_from_before_the_start_begins_with_it(sampler: _Sampler) -> None:
    sampler.saw(3000.0, at_s=1.5)
    assert [second["t_s"] for second in sampler.summary()["slow_seconds"]] == [0, 1]


def test_slow_seconds_do_not_grow_without_end(sampler: _Sampler) -> None:
    for second in range(1100):
        sampler.saw(11.0, at_s=second + 0.5)
    sampler.saw(99.0, at_s=5.5)  # one that is kept is still brought up to date
    slow = sampler.summary()["slow_seconds"]
    assert len(slow) == 1000
    assert slow[5] == {"t_s": 5, "lag_ms": 99.0}
