"""The slice around the longest wait, and the stages of its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.latency import per_request_ms
from analysis.requests import NEVER, Requests
from analysis.waterfall import MOST, Bar, Waterfall, waterfall
from fairshare_locust.record import RequestRecord
from tests.analysis.build import columns, record
from tests.analysis.random_records import records


def sliced(requests: Requests, chosen: Any = None, **values: Any) -> Waterfall | None:
    every = np.ones(len(requests), np.bool_) if chosen is None else np.asarray(chosen, np.bool_)
    return waterfall(requests, per_request_ms(requests)["ttft_scheduled_ms"], every, **values)


def test_a_slice_by_hand() -> None:
    """The longest wait is b's, 20 to 28 s; with 2 s, a quarter of it, on either side the slice is 18 to 30 s."""
    requests = columns(
        [
            record("a", 0, scheduled_s=10.0, first_token_s=10.5, gaps_us=[6_000_000]),  # ended at 16.5: before it
            record("a", 1, scheduled_s=17.0, first_token_s=17.5, gaps_us=[1_000_000]),  # decodes until 18.5
            record(
                "b",
                0,
                scheduled_s=20.0,
                sent_s=20.5,
                first_token_s=28.0,
                gaps_us=[1_000_000],
                engine={"queued_s": 6.0, "prefill_s": 1.0, "decode_s": 1.0},
            ),
            record("a", 2, scheduled_s=19.0, outcome="timeout", first_token_s=None, ended_s=24.0),
            record("b", 1, scheduled_s=30.0, first_token_s=30.5),  # due at its very end
            record("a", 3, scheduled_s=30.1, first_token_s=30.6),  # due after it
        ]
    )
    assert sliced(requests) == Waterfall(
        start_s=18.0,
        end_s=30.0,
        bars=(
            Bar(0, 17.0, 17.0, 17.5, 18.5, "ok", tells_queue=False),
            Bar(0, 19.0, 19.0, None, 24.0, "timeout", tells_queue=False),
            Bar(1, 20.0, 26.5, 28.0, 29.0, "ok", tells_queue=True),
            Bar(1, 30.0, 30.0, 30.5, 30.5, "ok", tells_queue=False),
        ),
        worst=2,
        left_out=0,
    )


def test_a_short_wait_has_three_seconds_around_it() -> None:
    found = sliced(columns([record(scheduled_s=5.0, first_token_s=6.0)]))
    assert found
    assert (found.start_s, found.end_s) == (4.0, 7.0)
    found = sliced(columns([record(scheduled_s=0.0, first_token_s=1.0)]))
    assert found
    assert (found.start_s, found.end_s) == (0.0, 2.0)  # nothing was before the start


def test_of_many_those_due_nearest_stay() -> None:
    due_s = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    requests = columns(
        [
            record("a", index, scheduled_s=at, first_token_s=at + (1.0 if at == 2 else 0.5), gaps_us=[9_000_000])
            for index, at in enumerate(due_s)
        ]
    )
    found = sliced(requests, most=3)
    assert found
    assert [bar.due_s for bar in found.bars] == [1.0, 2.0, 3.0]
    assert (found.worst, found.left_out) == (1, 2)  # those of 0 s, which still ran, and of 4 s, the slice's very end


def test_the_worst_stays_among_many_that_were_due_with_it() -> None:
    requests = columns([record("a", index, first_token_s=1.5 if index < 50 else 2.0) for index in range(51)])
    found = sliced(requests)
    assert found
    assert len(found.bars) == MOST
    assert found.bars[found.worst].first_token_s == 2.0
    assert found.left_out == 51 - MOST


def test_the_wait_is_looked_for_where_told_but_all_who_were_there_are_shown() -> None:
    requests = columns([record("a", 0, first_token_s=3.0), record("b", 0, first_token_s=1.5)])
    found = sliced(requests, [False, True])
    assert found
    assert [bar.tenant for bar in found.bars] == [0, 1]
    assert found.worst == 1


def test_a_shed_request_and_one_without_an_end() -> None:
    requests = columns(
        [
            record("a", 0),
            record("a", 1, outcome="shed"),
            record("b", 0, outcome="cancelled", first_token_s=1.2, gaps_us=[100_000], ended_s=2.0),
        ]
    )
    requests = replace(requests, ended_ns=np.where(requests.outcome == requests.outcome[2], NEVER, requests.ended_ns))
    found = sliced(requests, [True, False, False])
    assert found
    assert found.bars[1:] == (
        Bar(0, 1.0, 1.0, None, 1.0, "shed", tells_queue=False),
        Bar(1, 1.0, 1.0, 1.2, None, "cancelled", tells_queue=False),
    )
    assert [bar.failed for bar in found.bars] == [False, True, True]


def test_a_queue_never_outlasts_the_wait() -> None:
    engine = {"queued_s": 60.0, "prefill_s": 1.0, "decode_s": 1.0}
    found = sliced(columns([record("a", 0, engine=engine)]))
    assert found
    assert found.bars[0].queued_until_s == 1.5


@pytest.mark.parametrize(
    "some",
    [[], [record("a", 0, outcome="http_error", first_token_s=None)], [record("a", 0, outcome="shed")]],
)
def test_without_a_token_there_is_no_wait(some: list[RequestRecord]) -> None:
    assert sliced(columns(some)) is None


def test_nobody_chosen_is_no_wait() -> None:
    assert sliced(columns([record()]), [False]) is None


@given(records(min_size=1), st.integers(1, 12))
def test_what_holds_of_every_slice(some: list[RequestRecord], most: int) -> None:
    found = sliced(columns(some), most=most)
    waits = [one.first_token_s - one.scheduled_s for one in some if one.first_token_s is not None]
    if not waits:
        assert found is None
        return
    assert found
    worst = found.bars[found.worst]
    assert worst.first_token_s is not None
    assert worst.first_token_s - worst.due_s == pytest.approx(max(waits))
    assert found.start_s <= worst.due_s <= worst.first_token_s <= found.end_s
    there = [
        one
        for one in some
        if one.scheduled_s <= found.end_s and (one.ended_s is None or one.ended_s >= found.start_s - 1e-9)
    ]
    assert len(found.bars) + found.left_out == len(there)
    assert len(found.bars) == min(most, len(there))
    assert [bar.due_s for bar in found.bars] == sorted(bar.due_s for bar in found.bars)
    for bar in found.bars:
        stages = [bar.due_s, bar.queued_until_s, bar.first_token_s, bar.last_s]
        known = [stage for stage in stages if stage is not None]
        assert known == sorted(known)
