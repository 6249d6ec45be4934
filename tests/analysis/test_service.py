"""Service over time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import service
from analysis.fairness import gaps, starvation
from analysis.load import Tenant
from analysis.service import Intervals, ServiceCurve, backlogged, largest_gaps, service_curve
from analysis.window import Window
from fairshare_locust.record import RequestRecord
from tests.analysis import reference
from tests.analysis.build import columns, profile, record
from tests.analysis.random_records import records

WINDOW = Window.of_seconds((0, 10))


def found_gaps(
    some: list[RequestRecord], *tenants: Tenant, window: Window = WINDOW, last_s: float = 5.0
) -> tuple[float | None, float | None]:
    requests, settings = columns(some), profile(*tenants, fairness_window_s=last_s)
    curves = [service_curve(requests, settings, code, window) for code in range(2)]
    found = gaps(requests, settings, curves, window.spans)
    return found.service_gap_max_tokens[0], found.service_gap_window_max_tokens[0]


def test_a_gap_worked_by_hand() -> None:
    some = [
        # a waits from 1 to 6 s: a second request stays in the queue while the first is served.
        record("a", 0, scheduled_s=1.0, first_token_s=2.0, gaps_us=[1_000_000] * 2, input_tokens=10),
        record("a", 1, scheduled_s=1.0, first_token_s=6.0),
        # b waits from 1.5 to 4 s and then gets 7 tokens of input and 1 of output.
        record("b", 2, scheduled_s=1.5, first_token_s=4.0, input_tokens=7),
    ]
    # Both wait from 1.5 to 4 s. a is credited 12 at 2 s, 2 at 3 s, 2 at 4 s; b 9 at 4 s. Largest: 14 before 4 s.
    assert found_gaps(some) == (14.0, 14.0)
    # Of the last second only: 12 at 2 s; at 3 s the 12 have left; at 4 s it is 2 against 9.
    assert found_gaps(some, last_s=1.0) == (14.0, 12.0)
    # Weights 2 and 1/2: at 4 s, 16 / 2 against 9 / 0.5.
    assert found_gaps(some, Tenant(id="a", weight=2.0), Tenant(id="b", weight=0.5)) == (10.0, 10.0)


def test_a_single_instant_is_an_interval() -> None:
    some = [
        record("a", 0, scheduled_s=1.0, first_token_s=2.0, input_tokens=3),
        record("b", 1, scheduled_s=2.0, first_token_s=3.0),
    ]
    assert found_gaps(some) == (5.0, 5.0)  # at 2 s a is credited 3 + 2, and b is just due


def test_never_both_waiting_is_undefined() -> None:
    some = [
        record("a", 0, scheduled_s=1.0, first_token_s=2.0),
        record("b", 1, scheduled_s=2.5, first_token_s=3.0),
        record("b", 2, scheduled_s=1.5, outcome="shed"),
    ]
    assert found_gaps(some) == (None, None)


def test_a_tenant_with_only_a_backlog_takes_part() -> None:
    some = [
        record("a", 0, scheduled_s=1.0, first_token_s=2.0, input_tokens=3),
        record("b", 1, scheduled_s=0.5, outcome="timeout", ended_s=9.0),
    ]
    assert found_gaps(some, window=Window.of_seconds((1, 10)))[0] == 5.0


def test_a_gap_may_be_largest_when_service_leaves_the_sliding_window() -> None:
    some = [
        record("a", 0, scheduled_s=1.0, first_token_s=2.4, input_tokens=8),
        record("a", 1, scheduled_s=1.0, outcome="timeout", ended_s=4.0),
        record("b", 2, scheduled_s=1.0, first_token_s=1.5, input_tokens=2),
        record("b", 3, scheduled_s=1.0, outcome="timeout", ended_s=4.0),
    ]
    # b is credited 4 at 1.5 s, a 10 at 2.4 s; at 2.5 s, b's 4 are more than a second old.
    assert found_gaps(some, last_s=1.0) == (6.0, 10.0)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([None, 300, 3000]))
def test_skipping_runs_changes_nothing(seed: int, intervals: int, last_ns: int | None) -> None:
    """Long curves that wander, against every instant tried."""
    random = np.random.default_rng(seed)

    def curve() -> ServiceCurve:
        times = np.sort(random.integers(0, 10_000, 400))
        return ServiceCurve(times, np.concatenate(([0.0], np.cumsum(random.integers(1, 20, 400)))))

    one, other = curve(), curve()
    cuts = np.sort(random.choice(10_000, 2 * intervals, replace=False))
    both = Intervals(cuts[::2], cuts[1::2], np.zeros(intervals, np.int64))
    expected = 0.0
    for start, end in zip(cuts[::2], cuts[1::2], strict=True):
        now = np.arange(start, end + 1)
        got = []
        for each in (one, other):
            since = np.maximum(now - (last_ns or 10_000), start - 1)
            got.append(each.until(now) - each.until(since))
        expected = max(expected, float(np.abs(got[0] - got[1]).max()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_RUN", 16)
        patch.setattr(service, "_RUNS_AT_ONCE", 2)
        assert largest_gaps(one, other, both, 1, last_ns) == [expected]


weights = st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 2)])


@settings(deadline=None)
@given(records(min_size=2), st.tuples(weights, weights), st.integers(0, 300), st.integers(1, 1000), st.integers(1, 4))
def test_gaps_against_the_slow_reference(
    some: list[RequestRecord], weighing: tuple[Fraction, Fraction], start: int, length: int, run: int
) -> None:
    window, last = (Fraction(start, 100), Fraction(start + length, 100)), Fraction(1, 2)
    tenants = [Tenant(id=name, weight=float(weight)) for name, weight in zip("ab", weighing, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_RUN", run)
        patch.setattr(service, "_RUNS_AT_ONCE", 2)
        found = found_gaps(
            some, *tenants, window=Window.of_seconds((float(window[0]), float(window[1]))), last_s=float(last)
        )
    for value, expected in zip(
        found, (reference.gap(some, weighing, window), reference.gap(some, weighing, window, last)), strict=True
    ):
        assert (value is None) == (expected is None)
        if value is not None and expected is not None:
            assert value == pytest.approx(float(expected))


def test_gaps_start_afresh_in_each_span() -> None:
    some = [
        record("a", index, scheduled_s=0.0, first_token_s=float(index), input_tokens=index) for index in range(1, 10)
    ]
    some.append(record("b", 0, scheduled_s=0.0, outcome="timeout", ended_s=10.0))
    requests, settings = columns(some), profile()
    curves = [service_curve(requests, settings, code, WINDOW) for code in range(2)]
    found = gaps(requests, settings, curves, WINDOW.sub_windows(5.0))
    # 1 to 4 s: 1 + 2 + 3 + 4 input and 4 · 2; 5 to 9 s: 5 + … + 9 and 5 · 2.
    assert found.service_gap_max_tokens == [18.0, 45.0]
    assert found.service_gap_window_max_tokens == [18.0, 45.0]


def starved(some: list[RequestRecord], *spans: tuple[float, float]) -> list[float | None]:
    requests, window = columns(some), Window.of_seconds(*spans)
    return starvation(requests, 0, service_curve(requests, profile(), 0, window), window.spans)


def test_starvation_by_hand() -> None:
    some = [record(scheduled_s=1.0, first_token_s=2.0, gaps_us=[500_000, 3_000_000], ended_s=6.0)]  # 2, 2.5, 5.5 s
    assert starved(some, (0, 10)) == [3.0]
    assert starved(some, (0, 2)) == [1.0]  # before the first token; the window ends with it
    assert starved(some, (0, 2), (5.6, 10)) == [1.0, 0.4]  # after the last
    assert starved(some, (3, 5)) == [2.0]  # none in the window
    assert starved(some, (7, 10)) == [None]  # nothing outstanding
    assert starved([record(outcome="shed")], (0, 10)) == [None]


@settings(deadline=None)
@given(records(min_size=1), st.integers(0, 300), st.integers(1, 1000))
def test_starvation_against_the_slow_reference(some: list[RequestRecord], start: int, length: int) -> None:
    window = (Fraction(start, 100), Fraction(start + length, 100))
    (found,) = starved(some, (float(window[0]), float(window[1])))
    expected = reference.starvation(some, "a", window)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found == pytest.approx(float(expected), abs=1e-9)


def test_intervals_that_touch_are_one() -> None:
    union = Intervals.union(np.array([5, 1, 3, 9]), np.array([6, 3, 4, 9]))
    assert list(zip(union.starts.tolist(), union.ends.tolist(), strict=True)) == [(1, 4), (5, 6), (9, 9)]


def test_a_shed_request_is_in_no_queue() -> None:
    assert len(backlogged(columns([record(outcome="shed")]), 0)) == 0
