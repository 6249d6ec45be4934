"""Stretches of a run in which the same tenants offered load."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.conditions import Condition, conditions, side_of
from analysis.latency import per_request_ms
from analysis.load import Phase
from analysis.slowdown import MOST_CELLS
from tests.analysis.build import columns, record

S = 1_000_000_000


def phase(name: str, start_s: float, end_s: float, *tenants: str, measured: bool = True, load: float = 1.0) -> Phase:
    return Phase(name=name, start_s=start_s, end_s=end_s, measured=measured, tenants=tenants, load=load)


PHASES = (
    phase("solo-a/warmup", 0, 2, "a", measured=False),
    phase("solo-a/measure", 2, 6, "a"),
    phase("a+b/warmup", 10, 12, "a", "b", measured=False),
    phase("a+b/measure", 12, 16, "a", "b"),
    phase("again/warmup", 20, 21, "b", "a", measured=False),
    phase("again/measure", 21, 23, "b", "a"),
    phase("twice/measure", 30, 33, "a", "b", load=2.0),
)


def test_who_takes_part_makes_a_condition_not_its_name() -> None:
    found = conditions(PHASES, [one for one in PHASES if one.measured])
    assert [(sorted(one.tenants), one.load, one.phases) for one in found] == [
        (["a"], 1.0, ("solo-a",)),
        (["a", "b"], 1.0, ("a+b", "again")),
        (["a", "b"], 2.0, ("twice",)),
    ]
    assert found[1].spans == ((12 * S, 16 * S), (21 * S, 23 * S))
    assert found[1].phase_starts_ns == (10 * S, 20 * S)
    assert found[1].parts == ("a+b/measure", "again/measure")


def test_a_run_of_one_phase_is_called_by_its_own_name() -> None:
    (found,) = conditions(parts := [phase("measure", 0, 10, "a", "b")], parts)
    assert found.name("run-1") == "run-1"
    assert conditions(PHASES, PHASES[1:2])[0].name("run-1") == "solo-a"


def test_nothing_measured() -> None:
    assert conditions(PHASES, []) == ()
    assert conditions(PHASES, [phase("idle/measure", 0, 1)]) == ()


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10**11)), min_size=1, max_size=5).map(
        lambda steps: np.cumsum(np.array(steps).ravel()).reshape(-1, 2).tolist()
    )
)
def test_cells_make_up_the_window(spans: list[list[int]]) -> None:
    some = tuple((start, end) for start, end in spans)
    cells = Condition(frozenset("a"), 1.0, (), (), some, (0,) * len(some)).cells()
    assert sum(end - start for start, end in cells) == sum(end - start for start, end in some)
    assert all(start < end for start, end in cells)
    assert all(one[1] <= other[0] for one, other in pairwise(cells))
    assert len(cells) <= MOST_CELLS + len(some)


def test_a_side_worked_by_hand() -> None:
    requests = columns(
        [
            record("a", 0, scheduled_s=10.5),  # before the window
            record("a", 1, scheduled_s=12.0, sent_s=12.0, first_token_s=12.2, gaps_us=[100_000]),
            record("b", 1, scheduled_s=12.5),
            record("a", 2, scheduled_s=15.999, sent_s=16.0, first_token_s=16.5),
            record("a", 3, scheduled_s=13.0, outcome="timeout"),
            record("a", 0, scheduled_s=21.0),
            record("a", 4, scheduled_s=16.0),  # after it
        ]
    )
    condition = conditions(PHASES, [PHASES[3], PHASES[5]])[0]
    cells = condition.cells()
    found = side_of(requests, per_request_ms(requests), 0, condition, np.arange(len(cells), dtype=np.float64), 7)
    assert found.index.tolist() == [1, 2, 3, 0]
    assert (found.due_ns / S).tolist() == [2.0, 5.999, 3.0, 1.0]
    for place, at in zip(found.cell, (12, 15.999, 13, 21), strict=True):
        assert cells[place][0] / S <= at < cells[place][1] / S
    np.testing.assert_array_equal(found.latencies_ms["e2e_scheduled_ms"], [300.0, 501.0, np.nan, 500.0])
    assert found.starts_ns[0] == 2 * S
    assert found.starts_ns[-1] + found.lengths_ns[-1] == 3 * S
    assert found.lengths_ns.sum() == 6 * S
    assert found.tokens_per_s == found.tokens.sum() / 6


def test_a_tenant_without_requests_has_a_side_all_the_same() -> None:
    requests = columns([])
    condition = conditions(PHASES, [PHASES[1]])[0]
    found = side_of(requests, per_request_ms(requests), 0, condition, np.zeros(len(condition.cells())), None)
    assert len(found.index) == 0
    assert found.tokens_per_s == 0
