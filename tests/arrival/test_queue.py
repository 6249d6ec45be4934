"""Queues: who takes which request when, over one worker and several."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.arrival.duration import Durations
from fairshare_locust.arrival.queue import (
    Arrival,
    ArrivalQueue,
    BatchQueue,
    ClosedQueue,
    OpenQueue,
    Window,
    arrival_queue,
)
from fairshare_locust.arrival.schedule import ConstantSchedule
from fairshare_locust.arrival.share import Share, shares
from fairshare_locust.arrival.trace import RowTimes, TraceSchedule
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival, ConstantArrival, OpenArrival
from fairshare_locust.profile.distribution import ConstantDuration, ExponentialDuration
from fairshare_locust.seeding import random_stream
from tests.arrival.processes import EVERY, TIMES_S

_WINDOW = Window(start_s=0, measure_s=10, end_s=70)


def thinking(think_s: float) -> Durations:
    """Always so long."""
    return Durations(ConstantDuration(value=think_s), np.random.default_rng(0))


class Thinking(Durations):
    """So long before each request, or after each batch; as long as its number plus one if not told."""

    def __init__(self, *durations_s: float) -> None:
        self._durations_s = durations_s

    def at(self, index: int) -> float:
        return self._durations_s[index] if self._durations_s else index + 1.0


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
    queue = arrival_queue(arrival, 7, "chat", _WINDOW)
    assert queue.take(1.2, first=True) == Arrival(0, 0)  # this slot was free when it was due
    assert queue.take(1.2, first=False) == Arrival(1, 0.5, shed=overflow == "shed")
    assert isinstance(arrival_queue(ClosedArrival(concurrency=1), 7, "chat", _WINDOW), ClosedQueue)
    assert isinstance(arrival_queue(BatchArrival(size=1), 7, "chat", _WINDOW), BatchQueue)


def test_a_schedule_that_ends_before_the_number_of_requests() -> None:
    """Rows at 0, 1 and 2 s from 100 on; then nothing is due, and the window is over right after the last."""
    window = Window(start_s=100, measure_s=101, end_s=math.inf, requests=50)
    queue = OpenQueue(TraceSchedule(np.array([0.0, 1.0, 2.0])), window)
    assert [arrival.due_s for arrival in take_all(queue)] == [100, 101, 102]
    assert queue.exhausted_s is not None
    assert 102 < queue.exhausted_s < 102.001


def test_a_schedule_that_ends_before_the_measurement() -> None:
    window = Window(start_s=100, measure_s=110, end_s=math.inf, requests=50)
    assert OpenQueue(TraceSchedule(np.array([0.0, 1.0])), window).exhausted_s == 110


# --- further turns


def test_further_turns_keep_to_the_window_the_stretches_and_the_cut() -> None:
    window = Window(start_s=100, measure_s=105, end_s=160)
    arrivals = (
        ClosedArrival(concurrency=1, active_s=((10, 20), (30, 90))),
        ConstantArrival(rate_per_s=1, active_s=((10, 20), (30, 90))),
        BatchArrival(size=2, active_s=((10, 20), (30, 90))),
    )
    for queue in (arrival_queue(arrival, 7, "chat", window) for arrival in arrivals):
        times_s = (99, 100, 110, 119.9, 120, 130, 159.9, 160, 170)
        assert [t for t in times_s if queue.admits(t)] == [110, 119.9, 130, 159.9]
        queue.cut(131)
        assert [t for t in times_s if queue.admits(t)] == [110, 119.9, 130]


def test_no_further_turns_once_the_requests_have_run_out() -> None:
    window = Window(start_s=0, measure_s=1, end_s=math.inf, requests=2)
    open_ = OpenQueue(ConstantSchedule(2), window)
    assert open_.exhausted_s == 2
    assert [open_.admits(t) for t in (-0.5, 0, 1.9, 2)] == [False, True, True, False]
    closed = ClosedQueue(thinking(1), window)
    for now_s in (0.0, 2.0, 5.0):
        closed.take(now_s, first=now_s == 0)
    assert closed.admits(1e9)
    assert closed.take(7.0, first=False) is None
    assert [closed.admits(t) for t in (7.9, 8)] == [True, False]


# --- several workers


@settings(deadline=None, max_examples=120)
@given(
    arrival=st.sampled_from(EVERY),
    workers=st.sampled_from([1, 2, 5]),
    requests=st.none() | st.integers(1, 50),
    start_s=st.sampled_from([-5.0, -0.5, 0.0, 1.75, 1000.25]),  # their sums are exact
)
def test_workers_together_deal_what_one_would(
    arrival: OpenArrival, workers: int, requests: int | None, start_s: float
) -> None:
    window = Window(start_s, start_s + 3, start_s + (10 if requests is None else math.inf), requests)

    def all_of(share: Share) -> list[Arrival]:
        times = RowTimes.alone(TIMES_S)
        return take_all(arrival_queue(arrival, 7, "chat", window, times=times, share=share))  # type: ignore[arg-type]

    alone = all_of(Share(1))
    dealt = [all_of(share) for share in shares("chat", arrival, workers)]  # type: ignore[arg-type]
    assert sorted((a for part in dealt for a in part), key=lambda a: a.index) == alone
    for i, part in enumerate(dealt):
        assert all(a.index % workers == i for a in part)
    assert [a.index for a in alone] == list(range(len(alone)))
    if requests is not None:
        assert sum(a.due_s >= window.measure_s for a in alone) == requests


@given(workers=st.sampled_from([1, 2, 5]), requests=st.integers(1, 30))
def test_workers_together_deal_a_closed_loops_requests(workers: int, requests: int) -> None:
    window = Window(0, 0, math.inf, requests)
    parts = shares("chat", ClosedArrival(concurrency=7), workers)
    queues = [ClosedQueue(thinking(0.0), window, share=share) for share in parts]
    indices = [a.index for queue in queues for a in iter(lambda q=queue: q.take(0.0, first=False), None)]  # type: ignore[misc]
    assert sorted(indices) == list(range(requests))


# --- closed: after each answer


def test_closed_by_hand() -> None:
    queue = ClosedQueue(thinking(2.0), Window(start_s=0, measure_s=5, end_s=10))
    assert queue.take(-3.0, first=True) == Arrival(0, 0)  # not before the window
    assert queue.take(1.0, first=True) == Arrival(1, 1.0)  # a first request without thinking
    assert queue.take(4.0, first=False) == Arrival(2, 6.0)
    assert queue.take(8.0, first=False) is None  # due at 10, which is the end
    assert queue.take(7.9, first=False) == Arrival(3, 9.9)
    assert queue.take(10.0, first=True) is None
    assert list(queue.untaken()) == []
    assert queue.exhausted_s is None


def test_closed_with_a_number_of_requests_from_the_measurement_on() -> None:
    queue = ClosedQueue(thinking(1.0), Window(start_s=0, measure_s=5, end_s=math.inf, requests=2))
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
    queue = ClosedQueue(thinking(1.0), Window(start_s=0, measure_s=0, end_s=100))
    queue.cut(3.0)
    queue.cut(50.0)
    assert queue.take(1.9, first=False) == Arrival(0, 2.9)
    assert queue.take(2.0, first=False) is None


def test_think_times_go_by_index() -> None:
    """Before request i: i + 1 seconds here, whoever sends it, but not before a slot's first."""
    queue = ClosedQueue(Thinking(), Window(start_s=0, measure_s=0, end_s=100))
    assert queue.take(0.0, first=True) == Arrival(0, 0.0)
    assert queue.take(0.0, first=False) == Arrival(1, 2.0)
    assert queue.take(10.0, first=True) == Arrival(2, 10.0)
    assert queue.take(10.0, first=False) == Arrival(3, 14.0)
    others = ClosedQueue(Thinking(), Window(start_s=0, measure_s=0, end_s=100), share=Share(1, (1,), 3))
    assert others.take(0.0, first=False) == Arrival(1, 2.0)
    assert others.take(0.0, first=False) == Arrival(4, 5.0)


def test_think_times_are_those_of_seed_and_tenant() -> None:
    arrival = ClosedArrival(concurrency=4, think_s=ExponentialDuration(mean=2))

    def due(seed: int, tenant_id: str) -> list[float]:
        return [a.due_s for a in itertools.islice(dealt(arrival_queue(arrival, seed, tenant_id, _WINDOW)), 20)]

    def dealt(queue: ArrivalQueue) -> Any:
        return iter(lambda: queue.take(0.0, first=False), None)

    think = Durations(arrival.think_s, random_stream(7, "chat", "arrival-think"))
    assert due(7, "chat") == [think.at(i) for i in range(20)]
    assert due(8, "chat") != due(7, "chat") != due(7, "batch")


def test_closed_in_active_stretches() -> None:
    """From 100: there in [102, 105) and [110, 112)."""
    window = Window(start_s=100, measure_s=100, end_s=200)
    queue = ClosedQueue(thinking(1), window, active_s=((2, 5), (10, 12)))
    assert queue.take(90.0, first=True) == Arrival(0, 102.0)
    assert queue.take(103.5, first=False) == Arrival(1, 104.5)
    assert queue.take(104.0, first=False) == Arrival(2, 110.0)
    assert queue.take(110.5, first=False) == Arrival(3, 111.5)
    assert queue.take(111.0, first=False) is None
    assert queue.exhausted_s is None


def test_closed_runs_out_with_its_last_stretch() -> None:
    """Else a run by number of requests would never end."""
    queue = ClosedQueue(thinking(1), Window(0, 0, math.inf, requests=50), active_s=((0, 3),))
    assert queue.take(0.0, first=True) == Arrival(0, 0.0)
    assert queue.take(1.5, first=False) == Arrival(1, 2.5)
    assert queue.take(4.0, first=False) is None
    assert queue.exhausted_s == 5.0


def test_closed_runs_out_after_its_last_request_is_due() -> None:
    """One slot thinks for long before the last one, another asks in vain while it does."""
    queue = ClosedQueue(Thinking(0, 0, 3, 0), Window(0, 0, math.inf, requests=3))
    queue.take(0.0, first=True)
    queue.take(0.0, first=True)
    assert queue.take(1.0, first=False) == Arrival(2, 4.0)
    assert queue.take(2.0, first=False) is None
    assert queue.exhausted_s is not None
    assert 4.0 < queue.exhausted_s < 4.001


def test_more_workers_than_requests() -> None:
    window = Window(0, 0, math.inf, requests=2)
    assert [
        ClosedQueue(thinking(0.0), window, share=Share(1, (i,), 5)).take(0.0, first=True) is not None for i in range(5)
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]


# --- batch: all at once, and again when all have come back


class Slots:
    """Slots of a batch tenant that are told None wait until they are called; `took` is what each has."""

    def __init__(self, queue: ArrivalQueue, count: int) -> None:
        self.queue = queue
        self.took: list[Arrival | None] = [None] * count
        self._served = [False] * count
        self._waiting: list[int] = []
        self._now_s = 0.0
        queue.on_release = self._ask_again

    def ask(self, slot: int, now_s: float) -> Arrival | None:
        self._now_s = now_s
        arrival = self.queue.take(now_s, first=not self._served[slot])
        self.took[slot] = arrival
        if arrival is None:
            self._waiting.append(slot)
        else:
            self._served[slot] = True
        return arrival

    def _ask_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            self.ask(slot, self._now_s)


def test_batches_by_hand() -> None:
    """Three at 10; back at 12, 15 and 13: the next three at 15 + 2."""
    slots = Slots(BatchQueue(3, thinking(2), Window(start_s=10, measure_s=10, end_s=30)), 3)
    assert [slots.ask(i, 0) for i in range(3)] == [Arrival(i, 10) for i in range(3)]
    assert slots.ask(0, 12) is None
    assert slots.ask(2, 13) is None
    assert slots.ask(1, 15) == Arrival(3, 17)
    assert slots.took == [Arrival(4, 17), Arrival(3, 17), Arrival(5, 17)]
    # The last that comes back was free before another one, which rested after a failure: that one counts.
    assert slots.ask(2, 25) is None
    assert slots.ask(1, 20) is None
    assert slots.ask(0, 21) == Arrival(6, 27)
    assert slots.took == [Arrival(6, 27), Arrival(8, 27), Arrival(7, 27)]
    assert [slots.ask(i, 28) for i in range(3)] == [None] * 3  # due at 30, which is the end
    assert list(slots.queue.untaken()) == []
    assert slots.queue.exhausted_s is None


def test_a_batch_thinks_by_its_number() -> None:
    slots = Slots(BatchQueue(1, Thinking(), Window(start_s=0, measure_s=0, end_s=100)), 1)
    assert [slots.ask(0, now_s) for now_s in (0, 0, 5, 10)] == [
        Arrival(0, 0),
        Arrival(1, 1),
        Arrival(2, 7),
        Arrival(3, 13),
    ]


def test_a_batch_in_active_stretches() -> None:
    """From 100: there in [105, 110) and [120, 121)."""
    window = Window(start_s=100, measure_s=100, end_s=200)
    slots = Slots(BatchQueue(2, thinking(1), window, active_s=((5, 10), (20, 21))), 2)
    assert [slots.ask(i, 99) for i in range(2)] == [Arrival(0, 105), Arrival(1, 105)]
    slots.ask(0, 107)
    assert slots.ask(1, 109.5) == Arrival(2, 120)
    slots.ask(1, 120.1)
    assert slots.ask(0, 120.2) is None


def test_a_batch_that_no_slot_has_taken() -> None:
    queue = BatchQueue(3, thinking(0), Window(start_s=10, measure_s=10, end_s=30))
    assert queue.take(0, first=True) == Arrival(0, 10)
    assert list(queue.untaken()) == [Arrival(1, 10), Arrival(2, 10)]
    assert list(queue.untaken()) == []
    assert queue.take(0, first=True) is None


def test_a_batch_that_is_cut() -> None:
    queue = BatchQueue(3, thinking(0), Window(start_s=10, measure_s=10, end_s=30))
    queue.take(0, first=True)
    queue.cut(10)
    assert queue.take(0, first=True) is None
    assert list(queue.untaken()) == []


def test_a_number_of_requests_in_batches() -> None:
    """Two in the warm-up, then five: 2 + 2 + 1. A slot asks in vain at 9, for 10."""
    window = Window(start_s=0, measure_s=1, end_s=math.inf, requests=5)
    slots = Slots(BatchQueue(2, thinking(1), window), 2)
    dealt = [slots.ask(0, 0), slots.ask(1, 0)]
    for now_s in (1, 3, 5):
        slots.ask(0, now_s)
        slots.ask(1, now_s)
        dealt += slots.took
        assert slots.queue.exhausted_s is None
    assert dealt == [
        *(Arrival(0, 0), Arrival(1, 0)),
        *(Arrival(3, 2), Arrival(2, 2)),
        *(Arrival(5, 4), Arrival(4, 4)),
        *(None, Arrival(6, 6)),
    ]
    assert slots.ask(1, 9) is None
    assert slots.queue.exhausted_s == 10


def test_more_in_a_batch_than_requests() -> None:
    slots = Slots(BatchQueue(4, thinking(0), Window(0, 0, math.inf, requests=2)), 4)
    assert [slots.ask(i, 0) for i in range(4)] == [Arrival(0, 0), Arrival(1, 0), None, None]
    slots.ask(0, 3)
    assert slots.queue.exhausted_s is None
    slots.ask(1, 5)
    assert slots.queue.exhausted_s == 5


def test_fewer_slots_than_members() -> None:
    """A slot that comes back takes what is left of the batch; the next one waits for all of it."""
    slots = Slots(BatchQueue(3, thinking(1), Window(0, 0, 100)), 2)
    assert [slots.ask(0, 0), slots.ask(1, 0)] == [Arrival(0, 0), Arrival(1, 0)]
    assert slots.ask(0, 4) == Arrival(2, 0)
    assert slots.ask(1, 5) is None
    assert slots.ask(0, 7) == Arrival(3, 8)
    assert slots.took == [Arrival(3, 8), Arrival(4, 8)]


def test_one_slot_for_all_members() -> None:
    slots = Slots(BatchQueue(3, thinking(1), Window(0, 0, 100)), 1)
    assert [slots.ask(0, now_s) for now_s in (0, 1, 2, 3)] == [
        Arrival(0, 0),
        Arrival(1, 0),
        Arrival(2, 0),
        Arrival(3, 4),
    ]


def test_nobody_is_called_when_there_is_nothing_for_others() -> None:
    queue = BatchQueue(1, thinking(0), Window(0, 0, 100))
    calls = []
    queue.on_release = lambda: calls.append("called")
    queue.take(0, first=True)
    assert queue.take(0, first=True) is None
    assert queue.take(5, first=False) == Arrival(1, 5)
    assert calls == []


@settings(deadline=None, max_examples=120)
@given(
    size=st.integers(1, 6),
    more_slots=st.integers(0, 3),
    services=st.lists(st.floats(0, 5), min_size=60, max_size=60),
    think_s=st.floats(0, 3),
    requests=st.none() | st.integers(1, 40),
)
def test_no_batch_begins_before_the_last_one_has_ended(
    size: int, more_slots: int, services: list[float], think_s: float, requests: int | None
) -> None:
    """Slots with any service times: batches follow one another, whole, `think_s` after the end of the last."""
    window = Window(0, 2, 40 if requests is None else math.inf, requests)
    slots = Slots(BatchQueue(size, thinking(think_s), window), size + more_slots)
    ends: dict[int, float] = {}
    dues: dict[int, float] = {}
    for slot in range(size + more_slots):
        slots.ask(slot, 0)
    while any(arrival is not None for arrival in slots.took):
        busy = [(a.due_s + services[a.index % 60], i, a) for i, a in enumerate(slots.took) if a is not None]
        for _, _, arrival in busy:
            dues[arrival.index] = arrival.due_s
        now_s, slot, arrival = min(busy, key=lambda one: (one[0], one[1]))
        if len(dues) > 50 and requests is None:
            break
        ends[arrival.index] = now_s
        slots.ask(slot, now_s)
    assert sorted(dues) == list(range(len(dues)))
    for index, due_s in dues.items():
        batch = index // size
        assert due_s == dues[batch * size]
        if batch > 0:
            assert due_s == max(ends[i] for i in range((batch - 1) * size, batch * size)) + think_s
    if requests is not None:
        assert sum(due_s >= 2 for due_s in dues.values()) == requests
        assert slots.queue.exhausted_s is not None
        assert slots.queue.exhausted_s > max(dues.values())


def test_an_arrival_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Arrival(0, 0.0).index = 1  # type: ignore[misc]
