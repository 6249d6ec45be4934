"""Series over the whole run."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.summary import summarise
from analysis.timeline import edges_every, in_flight, percentiles_by_cell, spans_between
from fairshare_locust.record import RequestRecord
from tests.analysis.build import columns, part, record, run
from tests.analysis.random_records import records
from tests.analysis.reference import chunks, seconds


def timeline_of(folder: Path, some: list[RequestRecord], step_s: float = 5.0, end_s: float = 12.0) -> dict[str, Any]:
    phases = [part("measure", 0, 10, "ab"), part("drain", 10, end_s, "", measured=False)]
    info = {"phases": phases, "ended_s": end_s}
    found: dict[str, Any] = summarise(run(folder, some, info=info, fairness_window_s=step_s)).content["timeline"]
    return found


def test_a_timeline_worked_by_hand(tmp_path: Path) -> None:
    some = [
        record("a", 0, scheduled_s=1.0, first_token_s=1.5, gaps_us=[500_000], ended_s=2.0),
        record("a", 1, scheduled_s=2.0, sent_s=5.5, first_token_s=6.0, gaps_us=[], ended_s=6.0),  # sent late
        record("a", 2, scheduled_s=4.0, first_token_s=4.2, gaps_us=[1_000_000], ended_s=11.0),
        record("b", 0, scheduled_s=5.0, outcome="shed"),
    ]
    found = timeline_of(tmp_path, some)
    assert (found["t_s"], found["end_s"]) == ([0, 5, 10], 12.0)
    a, b = found["tenants"]["a"], found["tenants"]["b"]
    assert a["asked_requests_per_s"] == [3 / 5, 0, 0]
    assert a["offered_requests_per_s"] == [2 / 5, 0, 0]
    assert a["output_tokens_per_s"] == [3 / 5, 2 / 5, 0]
    assert a["ttft_scheduled_ms"] == {"p50": [500.0, None, None], "p95": [4000.0, None, None]}
    # 1 s of the first and 1 s of the third in 5 s; 0.5 s of the second and all 5 s of the third; 1 s in the last 2 s
    assert a["in_flight"] == [2 / 5, 5.5 / 5, 1 / 2]
    assert b["asked_requests_per_s"] == [0, 1 / 5, 0]
    assert b["offered_requests_per_s"] == b["in_flight"] == [0, 0, 0]
    assert b["ttft_scheduled_ms"]["p95"] == [None] * 3


def test_a_request_without_an_end_is_in_flight_to_the_last() -> None:
    requests = columns([record("a", scheduled_s=3.0, first_token_s=3.5, outcome="ok", ended_s=None)])
    assert in_flight(requests, 0, edges_every(2.0, 8 * 10**9)).tolist() == [0.0, 0.5, 1.0, 1.0]


def test_a_run_of_no_length_has_no_stretch(tmp_path: Path) -> None:
    content = summarise(run(tmp_path, [], info={"phases": [], "ended_s": 0.0})).content
    assert content["timeline"]["t_s"] == []
    assert content["timeline"]["tenants"]["a"]["in_flight"] == []


def test_the_last_stretch_may_be_shorter() -> None:
    assert spans_between(edges_every(5.0, 12 * 10**9)) == [
        (0, 5 * 10**9),
        (5 * 10**9, 10 * 10**9),
        (10 * 10**9, 12 * 10**9),
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=60))
def test_percentiles_are_those_of_each_cell(pairs: list[tuple[int, int]]) -> None:
    cell = np.array([place for place, _ in pairs], np.int64)
    values = np.array([value for _, value in pairs], np.float64)
    found = percentiles_by_cell(values, cell, 5, ("p50", "p95"))
    for name, share in (("p50", Fraction(1, 2)), ("p95", Fraction(19, 20))):
        for place in range(5):
            own = sorted(value for at, value in pairs if at == place)
            assert found[name][place] == (own[ceil(share * len(own)) - 1] if own else None)


@settings(deadline=None, max_examples=20)
@given(records(), st.sampled_from([0.7, 1.0, 5.0, 30.0]))
def test_the_series_agree_with_a_slow_reference(some: list[RequestRecord], step_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = timeline_of(Path(folder), some, step_s)
    ends = [*found["t_s"][1:], found["end_s"]]
    for tenant in "ab":
        own = [one for one in some if one.tenant == tenant]
        for place, (start, end) in enumerate(zip(found["t_s"], ends, strict=True)):
            low, high = seconds(round(start, 9)), seconds(round(end, 9))
            due = [one for one in own if low <= seconds(one.scheduled_s) < high]
            sent = [one for one in due if one.sent_s is not None and low <= seconds(one.sent_s) < high]
            tokens = sum((count for one in own for at, count in chunks(one) if low <= at < high), Fraction(0))
            open_s = sum(
                (
                    max(min(seconds(one.ended_s), high) - max(seconds(one.sent_s), low), Fraction(0))
                    for one in own
                    if one.sent_s is not None and one.ended_s is not None
                ),
                Fraction(0),
            )
            series = found["tenants"][tenant]
            assert series["asked_requests_per_s"][place] == pytest.approx(float(len(due) / (high - low)))
            assert series["offered_requests_per_s"][place] == pytest.approx(float(len(sent) / (high - low)))
            assert series["output_tokens_per_s"][place] == pytest.approx(float(tokens / (high - low)))
            assert series["in_flight"][place] == pytest.approx(float(open_s / (high - low)), abs=1e-12)
