"""The schedule of a trace: its times, its speed, its laps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.arrival import Schedule, count_before, open_schedule
from fairshare_locust.arrival.trace import RowTimes, TraceSchedule, period_s
from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.arrivals import TraceArrival

_TIMES = np.array([0.0, 1.0, 1.0, 6.0])  # period 6 + 6/3 = 8, so 0.5/s


def due(schedule: Schedule, count: int) -> list[float]:
    return [schedule.due_s(i) for i in range(count)]


def of(times_s: np.ndarray = _TIMES, **values: float | bool) -> Schedule:
    return open_schedule(TraceArrival(trace="t", **values), 7, "chat", RowTimes.alone(times_s))  # type: ignore[arg-type]


def test_once() -> None:
    assert due(of(), 6) == [0, 1, 1, 6, math.inf, math.inf]
    assert [count_before(of(), t) for t in (0, 1, 1.5, 6.5, math.inf)] == [0, 1, 3, 4, 4]


def test_faster_and_slower() -> None:
    assert due(of(speed=2), 5) == [0, 0.5, 0.5, 3, math.inf]
    assert due(of(speed=0.5), 4) == [0, 2, 2, 12]


def test_looped() -> None:
    assert due(of(loop=True), 9) == [0, 1, 1, 6, 8, 9, 9, 14, 16]
    assert due(of(loop=True, speed=2), 5) == [0, 0.5, 0.5, 3, 4]


def test_at_a_mean_rate() -> None:
    """0.5/s in the trace; 2/s is four times as fast."""
    assert due(of(rate_per_s=2), 5) == [0, 0.25, 0.25, 1.5, math.inf]
    assert due(of(rate_per_s=2, loop=True), 5) == [0, 0.25, 0.25, 1.5, 2]


def test_a_first_row_later_than_the_cut() -> None:
    """Rows at 10, 12, 14: the mean gap is 2, the period 16; the cut's silence is part of each lap."""
    times_s = np.array([10.0, 12.0, 14.0])
    assert period_s(times_s) == 16
    assert due(of(times_s, loop=True), 4) == [10, 12, 14, 26]


def test_even_gaps_go_on_evenly() -> None:
    assert due(of(np.arange(4) * 0.25, loop=True), 9) == pytest.approx([0.25 * i for i in range(9)])


@pytest.mark.parametrize("times_s", [[3.0], [0.0, 0.0, 0.0]])
def test_rows_at_one_moment(times_s: list[float]) -> None:
    rows = np.array(times_s)
    assert due(of(rows), len(rows) + 1) == [*times_s, math.inf]
    for values in ({"loop": True}, {"rate_per_s": 2.0}):
        with pytest.raises(WorkloadError, match=rf"tenant 'chat': found {len(rows)} rows of trace 't'.*longer part"):
            of(rows, **values)


@given(
    gaps=st.lists(st.floats(0, 1000), min_size=2, max_size=30).filter(lambda gaps: max(gaps[1:]) > 1e-3),
    rate=st.floats(0.01, 1000),
)
def test_looped_at_a_rate_it_has_that_rate_and_never_decreases(gaps: list[float], rate: float) -> None:
    times_s = np.cumsum(gaps)
    schedule = of(times_s, rate_per_s=rate, loop=True)
    along = due(schedule, 5 * len(gaps))
    assert along == sorted(along)
    lap_s = schedule.due_s(4 * len(gaps)) - schedule.due_s(0)
    assert 4 * len(gaps) / lap_s == pytest.approx(rate)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_never_decreases(times_s: list[float], speed: float) -> None:
    rows = np.array(sorted(times_s))
    for lap_s in (None, float(rows[-1]) + 1e-9):
        along = due(TraceSchedule(rows, speed=speed, lap_s=lap_s), 4 * len(rows))
        assert along == sorted(along)


def test_tenants_of_one_trace_loop_together() -> None:
    """The cut lasts 16 s, whatever rows of it a tenant has."""
    arrival = TraceArrival(trace="t", loop=True)
    for own in ([10.0], [12.0, 14.0]):
        schedule = open_schedule(arrival, 7, "chat", RowTimes(np.array(own), 16.0))
        assert due(schedule, 2 * len(own)) == [*own, *(16 + at for at in own)]
