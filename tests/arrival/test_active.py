"""Active stretches: the next moment inside, and the clock that runs only inside."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.arrival.active import ActiveStretches

_TWO = ActiveStretches(((10, 20), (30, 35)))


@pytest.mark.parametrize(
    ("at_s", "expected"),
    [(0, 10), (10, 10), (15, 15), (19.9, 19.9), (20, 30), (25, 30), (30, 30), (34.9, 34.9), (35, math.inf)],
)
def test_next_by_hand(at_s: float, expected: float) -> None:
    assert _TWO.next_s(at_s) == expected


@pytest.mark.parametrize(
    ("process_s", "expected"),
    [(0, 10), (4, 14), (9.5, 19.5), (10, 30), (12, 32), (14.5, 34.5), (15, math.inf), (math.inf, math.inf)],
)
def test_process_clock_by_hand(process_s: float, expected: float) -> None:
    assert _TWO.of_process_s(process_s) == expected


def test_counted_from_the_start_of_a_phase() -> None:
    later = ActiveStretches(((10, 20), (30, 35)), 100)
    assert [later.next_s(t) for t in (100, 112, 120, 135)] == [110, 112, 130, math.inf]
    assert later.of_process_s(11) == 131


def test_none_given_is_always() -> None:
    always = ActiveStretches((), 5)
    assert [always.next_s(t) for t in (5, 1e9)] == [5, 1e9]
    assert [always.of_process_s(t) for t in (0, 2.5)] == [5, 7.5]
    assert always.of_process_s(math.inf) == math.inf


def test_stretches_that_touch_are_one() -> None:
    touching = ActiveStretches(((0, 5), (5, 10)))
    assert [touching.next_s(t) for t in (4, 5, 6)] == [4, 5, 6]
    assert [touching.of_process_s(t) for t in (4, 5, 6, 10)] == [4, 5, 6, math.inf]


def test_a_rounding_error_does_not_move_a_request_to_another_stretch() -> None:
    """0.1 + 0.2 is a little more than the first stretch's 0.3."""
    stretches = ActiveStretches(((0, 0.1 + 0.2), (10, 11)))
    assert stretches.of_process_s(0.3) == 10


@given(
    edges=st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True),
    clock=st.lists(st.floats(0, 2000), min_size=2, max_size=20),
)
def test_the_process_clock_runs_only_inside(edges: list[int], clock: list[float]) -> None:
    edges = sorted(edges)[: len(edges) // 2 * 2]
    pairs = tuple(zip(map(float, edges[::2]), map(float, edges[1::2]), strict=True))
    stretches = ActiveStretches(pairs)
    for process_s in clock:
        time_s = stretches.of_process_s(process_s)
        inside_s = sum(max(0.0, min(time_s, to_s) - from_s) for from_s, to_s in pairs)
        if time_s == math.inf:
            assert process_s == pytest.approx(inside_s) or process_s > inside_s
        else:
            assert any(from_s <= time_s < to_s for from_s, to_s in pairs)
            assert inside_s == pytest.approx(process_s, abs=1e-6)
            assert stretches.next_s(time_s) == time_s
    along = [stretches.of_process_s(process_s) for process_s in sorted(clock)]
    assert along == sorted(along)
