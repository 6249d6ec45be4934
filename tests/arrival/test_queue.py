"""Queues: who takes which request when, over one worker and several."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.arrival.queue import Arrival, ArrivalQueue, ClosedQueue, OpenQueue, Window, arrival_queue
from fairshare_locust.arrival.schedule import ConstantSchedule
from fairshare_locust.profile.arrivals import ClosedArrival, ConstantArrival, PoissonArrival
from tests.profile.profiles import tenant

_WINDOW = Window(start_s=0, measure_s=10, end_s=70)


def take_all(queue: ArrivalQueue) -> list[Arrival]:
    """All that one patient slot can take that is always free in time."""
    taken = []
    while (arrival := queue.take(-math.inf, first=False)) is not None:
        taken.append(arrival)
    return taken


# --- open: by the clock


def test_open_by_hand() -> None:
    queue = OpenQueue(ConstantSchedule(2), Window(start_s=100, measure_s=100, end_s=102))
    assert take_all(queue) == [Arrival(0, 100), Arrival(1, 100.5), Arrival(2, 101), Arrival(3, 101.5)]
    assert queue.take(0, first=True) is None
    assert list(queue.untaken()) == []
    assert queue.exhausted_s is None


def test_waiting_takes_late_what_is_due() -> None:
    queue = OpenQueue(ConstantSchedule(2), Window(start_s=0, measure_s=0, end_s=2))
    assert queue.take(7.0, first=True) == Arrival(0, 0)
    assert queue.take(7.0, first=True) == Arrival(1, 0.5)


def test_shedding_drops_what_found_no_slot() -> None:
    queue = OpenQueue(ConstantSchedule(2), Window(start_s=0, measure_s=0, end_s=2), shed=True)
    assert queue.take(-1.0, first=True) == Arrival(0, 0)
    assert queue.take(0.5, first=False) == Arrival(1, 0.5)  # in the very moment
    assert queue.take(1.01, first=False) == Arrival(2, 1.0, shed=True)
    assert queue.take(1.01, first=False) == Arrival(3, 1.5)
    assert queue.take(1.01, first=False) is None


def test_cut_ends_the_window_early_and_never_late() -> None:
    queue = OpenQueue(ConstantSchedule(2), Window(start_s=0, measure_s=0, end_s=10))
    assert queue.take(0, first=True) == Arrival(0, 0)
    queue.cut(1.0)
    queue.cut(5.0)
    assert queue.take(0, first=False) == Arrival(1, 0.5)
    assert queue.take(0, first=False) is None


def test_untaken_is_what_no_slot_took_once() -> None:
    queue = OpenQueue(ConstantSchedule(2), Window(start_s=0, measure_s=0, end_s=2), shed=True)
    queue.take(0, first=True)
    assert list(queue.untaken()) == [Arrival(1, 0.5), Arrival(2, 1.0), Arrival(3, 1.5)]
    assert list(queue.untaken()) == []
    assert queue.take(0, first=False) is None


def test_a_number_of_requests_counts_from_the_measurement() -> None:
    """Due every 0.5 s from 100: 0 and 1 in the warm-up, then three."""
    window = Window(start_s=100, measure_s=101, end_s=math.inf, requests=3)
    queue = OpenQueue(ConstantSchedule(2), window)
    assert [arrival.index for arrival in take_all(queue)] == [0, 1, 2, 3, 4]
    assert queue.exhausted_s == 102.5  # when the sixth would have been due


def test_a_number_of_requests_and_an_end() -> None:
    queue = OpenQueue(ConstantSchedule(2), Window(start_s=0, measure_s=0, end_s=1, requests=3))
    assert [arrival.index for arrival in take_all(queue)] == [0, 1]


@pytest.mark.parametrize("overflow", ["wait", "shed"])
def test_arrival_queue_reads_the_profile(overflow: str) -> None:
    arrival = ConstantArrival(rate_per_s=2, overflow="shed" if overflow == "shed" else "wait")
    queue = arrival_queue(tenant(arrival=arrival), 7, _WINDOW)
    assert queue.take(1.2, first=True) == Arrival(0, 0)  # this slot was free when it was due
    assert queue.take(1.2, first=False) == Arrival(1, 0.5, shed=overflow == "shed")
    assert isinstance(arrival_queue(tenant(arrival=ClosedArrival(concurrency=1)), 7, _WINDOW), ClosedQueue)


# --- several workers


@settings(deadline=None, max_examples=100)
@given(
    rate=st.floats(0.1, 40),
    workers=st.sampled_from([1, 2, 5]),
    requests=st.none() | st.integers(1, 50),
    start_s=st.floats(-5, 5),
    poisson=st.booleans(),
)
def test_workers_together_deal_what_one_would(
    rate: float, workers: int, requests: int | None, start_s: float, poisson: bool
) -> None:
    arrival = PoissonArrival(rate_per_s=rate) if poisson else ConstantArrival(rate_per_s=rate)
    window = Window(start_s, start_s + 3, start_s + (10 if requests is None else math.inf), requests)
    chat = tenant(arrival=arrival)
    alone = take_all(arrival_queue(chat, 7, window))
    shares = [take_all(arrival_queue(chat, 7, window, worker=i, workers=workers)) for i in range(workers)]
    assert sorted((a for share in shares for a in share), key=lambda a: a.index) == alone
    for i, share in enumerate(shares):
        assert all(a.index % workers == i for a in share)
    assert [a.index for a in alone] == list(range(len(alone)))
    if requests is not None:
        assert sum(a.due_s >= window.measure_s for a in alone) == requests


@given(workers=st.sampled_from([1, 2, 5]), requests=st.integers(1, 30))
def test_workers_together_deal_a_closed_loops_requests(workers: int, requests: int) -> None:
    window = Window(0, 0, math.inf, requests)
    queues = [ClosedQueue(0.0, window, worker=i, workers=workers) for i in range(workers)]
    indices = [a.index for queue in queues for a in iter(lambda q=queue: q.take(0.0, first=False), None)]  # type: ignore[misc]
    assert sorted(indices) == list(range(requests))


# --- closed: after each answer


def test_closed_by_hand() -> None:
    queue = ClosedQueue(2.0, Window(start_s=0, measure_s=5, end_s=10))
    assert queue.take(-3.0, first=True) == Arrival(0, 0)  # not before the window
    assert queue.take(1.0, first=True) == Arrival(1, 1.0)  # a first request without thinking
    assert queue.take(4.0, first=False) == Arrival(2, 6.0)
    assert queue.take(8.0, first=False) is None  # due at 10, which is the end
    assert queue.take(7.9, first=False) == Arrival(3, 9.9)
    assert queue.take(10.0, first=True) is None
    assert list(queue.untaken()) == []
    assert queue.exhausted_s is None


def test_closed_with_a_number_of_requests_from_the_measurement_on() -> None:
    queue = ClosedQueue(1.0, Window(start_s=0, measure_s=5, end_s=math.inf, requests=2))
    assert queue.take(0.0, first=True) == Arrival(0, 0.0)
    assert queue.take(3.0, first=False) == Arrival(1, 4.0)  # in the warm-up: free of charge
    assert queue.take(4.5, first=False) == Arrival(2, 5.5)
    assert queue.exhausted_s is None
    assert queue.take(6.0, first=False) == Arrival(3, 7.0)
    assert queue.exhausted_s is None
    assert queue.take(8.0, first=False) is None
    assert queue.take(9.0, first=False) is None
    assert queue.exhausted_s == 9.0  # the first that asked in vain was due at 9


def test_closed_cut() -> None:
    queue = ClosedQueue(1.0, Window(start_s=0, measure_s=0, end_s=100))
    queue.cut(3.0)
    queue.cut(50.0)
    assert queue.take(1.9, first=False) == Arrival(0, 2.9)
    assert queue.take(2.0, first=False) is None


def test_more_workers_than_requests() -> None:
    window = Window(0, 0, math.inf, requests=2)
    assert [ClosedQueue(0.0, window, worker=i, workers=5).take(0.0, first=True) is not None for i in range(5)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_an_arrival_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Arrival(0, 0.0).index = 1  # type: ignore[misc]
