"""Queues: what a tenant's slots take their next request from. They say when, and what was never taken.

A queue belongs to one load process, and deals the requests of its share. It does not wait, and knows no event loop:
the caller says what time it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fairshare_locust.arrival.active import ActiveStretches
from fairshare_locust.arrival.duration import Durations
from fairshare_locust.arrival.schedule import Schedule, count_before, open_schedule
from fairshare_locust.arrival.share import Share
from fairshare_locust.arrival.trace import RowTimes
from fairshare_locust.profile.arrivals import Arrival as ArrivalProcess
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival
from fairshare_locust.seeding import random_stream

__all__ = [
    "REST_AFTER_FAILURE_S",
    "Arrival",
    "ArrivalQueue",
    "BatchQueue",
    "ClosedQueue",
    "OpenQueue",
    "Window",
    "arrival_queue",
    "first_exhausted_s",
]

REST_AFTER_FAILURE_S = 0.5
"""A closed loop's slot rests so long from the sending of a request that failed: else a loop on a dead server spins."""

_ALL = Share(slots=0)  # of the requests; queues do not count slots

# Times are rounded to a microsecond on records and in the run's phases; this much later is later there too.
_JUST_AFTER_S = 2e-6


@dataclass(frozen=True, slots=True)
class Window:
    """When a tenant offers load, in seconds on the run clock: `[start_s, end_s)`, measured from `measure_s` on.

    With `requests`, it is over as well once so many requests have been due since `measure_s`.
    """

    start_s: float
    measure_s: float
    end_s: float
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is due. `shed`: it is not to be sent, as no slot was free when it was due."""

    index: int
    due_s: float
    shed: bool = False


class ArrivalQueue(Protocol):
    """Deals the requests of one window.

    Attributes:
        on_release: called when requests have become available to slots that were told there are none. Those ask
            again then, before any other slot that comes back.
    """

    on_release: Callable[[], None] | None

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """The next request for a slot that is free now; None when the window has no more, for now at least.

        `first`: the slot has had no request in this window.
        """
        ...

    def admits(self, due_s: float) -> bool:
        """Whether a further turn of a conversation may be due then: the tenant still offers load."""
        ...

    def cut(self, end_s: float) -> None:
        """Nothing is due from `end_s` on, whatever the window said."""
        ...

    def untaken(self) -> Iterator[Arrival]:
        """Requests of the window that no slot has taken; each counts as taken then."""
        ...

    @property
    def exhausted_s(self) -> float | None:
        """When the window ran out of its number of requests; None while it has not, or if it has no number.

        It runs out as well when its process ends before that number. Every request dealt is due before.
        """
        ...


class _Queue:
    """What all queues share: the bounds of the window."""

    def __init__(self, window: Window, active_s: tuple[tuple[float, ...], ...]) -> None:
        self.on_release: Callable[[], None] | None = None
        self._window = window
        self._stretches = ActiveStretches(active_s, window.start_s)
        self._end_s = window.end_s
        self._latest_due_s = -math.inf
        self._exhausted_s: float | None = None

    def admits(self, due_s: float) -> bool:
        """See ArrivalQueue."""
        return (
            self._window.start_s <= due_s < self._end_s
            and self._stretches.next_s(due_s) == due_s
            and (self.exhausted_s is None or due_s < self.exhausted_s)
        )

    def cut(self, end_s: float) -> None:
        """See ArrivalQueue."""
        self._end_s = min(self._end_s, end_s)

    @property
    def exhausted_s(self) -> float | None:
        """See ArrivalQueue: when a slot that had had a request first asked in vain for another."""
        return self._exhausted_s

    def _ran_out(self, asked_s: float) -> None:
        """A slot asked in vain for a request that would have been due at `asked_s`."""
        if self._window.requests is not None and self._exhausted_s is None:
            self._exhausted_s = max(asked_s, self._latest_due_s + _JUST_AFTER_S)


class OpenQueue(_Queue):
    """Requests that are due by the clock, handed out in order, late if no slot was free in time.

    `schedule` keeps to the active stretches by itself; they only bound further turns here.
    """

    def __init__(
        self,
        schedule: Schedule,
        window: Window,
        *,
        active_s: tuple[tuple[float, ...], ...] = (),
        shed: bool = False,
        share: Share = _ALL,
    ) -> None:
        super().__init__(window, active_s)
        self._schedule = schedule
        self._shed = shed
        self._share = share
        self._taken = 0
        self._limit = math.inf
        if window.requests is not None:
            self._limit = count_before(schedule, window.measure_s - window.start_s) + window.requests

    def _peek(self) -> Arrival | None:
        index = self._share.index(self._taken)
        if index >= self._limit:
            return None
        due_s = self._window.start_s + self._schedule.due_s(index)
        return Arrival(index, due_s) if due_s < self._end_s else None

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """See ArrivalQueue. A request that is past due found no free slot, unless this one has been free all along."""
        arrival = self._peek()
        if arrival is None:
            return None
        self._taken += 1
        if self._shed and not first and arrival.due_s < now_s:
            return Arrival(arrival.index, arrival.due_s, shed=True)
        return arrival

    def untaken(self) -> Iterator[Arrival]:
        """See ArrivalQueue."""
        while (arrival := self._peek()) is not None:
            self._taken += 1
            yield arrival

    @property
    def exhausted_s(self) -> float | None:
        """See ArrivalQueue: when the request after the last one would have been due."""
        if self._limit == math.inf:
            return None
        if self._exhausted_s is None:
            after_s = self._schedule.due_s(int(self._limit))
            if after_s == math.inf:  # the schedule ends before it: right after its last request
                count = count_before(self._schedule, math.inf)
                after_s = self._schedule.due_s(count - 1) + _JUST_AFTER_S if count else 0.0
            self._exhausted_s = max(self._window.measure_s, self._window.start_s + after_s)
        return self._exhausted_s


class ClosedQueue(_Queue):
    """A request for each slot as soon as it is free and has thought; the first one without thinking.

    `think` gives the time before request i by its index. What would be due outside of the active stretches is due
    when the next one begins.
    """

    def __init__(
        self,
        think: Durations,
        window: Window,
        *,
        active_s: tuple[tuple[float, ...], ...] = (),
        share: Share = _ALL,
    ) -> None:
        super().__init__(window, active_s)
        self._think = think
        self._share = share
        self._taken = 0
        self._left = None if window.requests is None else share.count_below(window.requests)
        if self._left == 0:  # others make them all: nobody will ask in vain
            self._exhausted_s = window.measure_s

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """See ArrivalQueue."""
        index = self._share.index(self._taken)
        asked_s = max(now_s, self._window.start_s) if first else now_s + self._think.at(index)
        due_s = self._stretches.next_s(asked_s)
        counts = due_s >= self._window.measure_s
        if due_s == math.inf or (self._left == 0 and counts and due_s < self._end_s):
            if not first:
                self._ran_out(asked_s)
            return None
        if due_s >= self._end_s:
            return None
        if self._left is not None and counts:
            self._left -= 1
        self._taken += 1
        self._latest_due_s = max(self._latest_due_s, due_s)
        return Arrival(index, due_s)

    def untaken(self) -> Iterator[Arrival]:
        """See ArrivalQueue: a closed loop has nothing due that no slot takes."""
        return iter(())


class BatchQueue(_Queue):
    """`size` requests due at once; when all of them have come back, the next batch follows after thinking.

    Batch k has the indices from `k * size` on. `think` gives the time after batch k by k. A slot that comes back
    while others are out is told None; the last one releases the next batch.
    """

    def __init__(
        self, size: int, think: Durations, window: Window, *, active_s: tuple[tuple[float, ...], ...] = ()
    ) -> None:
        super().__init__(window, active_s)
        self._size = size
        self._think = think
        self._left = math.inf if window.requests is None else window.requests
        self._batch = 0
        self._members = 0  # of the batch, so far released
        self._taken = 0  # of those
        self._out = 0  # slots that have one and have not come back
        self._waiting = 0  # slots told None
        self._called = 0  # of those, how many were called and have not asked again
        self._freed_s = -math.inf  # when the last slot that has come back was free
        self._due_s = self._next_due_s(window.start_s)
        self._release()

    def _next_due_s(self, asked_s: float) -> float:
        """When the batch asked for at `asked_s` is due; inf when there is none."""
        due_s = self._stretches.next_s(asked_s)
        if due_s == math.inf or (self._left == 0 and due_s >= self._window.measure_s):
            self._ran_out(asked_s)
            return math.inf
        return due_s

    def _release(self) -> None:
        """Make the members of the present batch ready to be taken."""
        self._taken = self._members = 0
        if self._due_s >= self._end_s:
            return
        self._members = self._size
        if self._due_s >= self._window.measure_s:
            self._members = int(min(self._size, self._left))
            self._left -= self._members
        self._latest_due_s = self._due_s

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """See ArrivalQueue."""
        released = False
        if self._called:
            self._called -= 1
        elif not first:
            released = self._come_back(now_s)
        arrival = self._peek()
        if arrival is None:
            self._waiting += 1
            return None
        self._taken += 1
        self._out += 1
        if released and self.on_release is not None and self._peek() is not None:
            self._called, self._waiting = self._waiting, 0
            self.on_release()
        return arrival

    def _come_back(self, now_s: float) -> bool:
        """A slot's request has ended; whether that was the batch's last and another batch has been released."""
        self._out -= 1
        self._freed_s = max(self._freed_s, now_s)
        if self._out > 0 or self._taken < self._members or self._due_s >= self._end_s:
            return False
        self._due_s = self._next_due_s(self._freed_s + self._think.at(self._batch))
        self._batch += 1
        self._release()
        return self._members > 0

    def _peek(self) -> Arrival | None:
        if self._taken == self._members or self._due_s >= self._end_s:
            return None
        return Arrival(self._batch * self._size + self._taken, self._due_s)

    def untaken(self) -> Iterator[Arrival]:
        """See ArrivalQueue: what no slot has taken of the batch that is due."""
        while (arrival := self._peek()) is not None:
            self._taken += 1
            yield arrival


def arrival_queue(
    arrival: ArrivalProcess,
    seed: int,
    tenant_id: str,
    window: Window,
    *,
    times: RowTimes | None = None,
    share: Share = _ALL,
) -> ArrivalQueue:
    """The queue of a tenant's window, of one load process: the one with this share, which is not an empty one.

    `times` as in `open_schedule`, which see for the errors too.
    """
    active_s = arrival.active_s
    match arrival:
        case ClosedArrival():
            think = Durations(arrival.think_s, random_stream(seed, tenant_id, "arrival-think"))
            return ClosedQueue(think, window, active_s=active_s, share=share)
        case BatchArrival():
            think = Durations(arrival.think_s, random_stream(seed, tenant_id, "arrival-think"))
            return BatchQueue(arrival.size, think, window, active_s=active_s)
        case _:
            schedule = open_schedule(arrival, seed, tenant_id, times)
            shed = arrival.overflow == "shed"
            return OpenQueue(schedule, window, active_s=active_s, shed=shed, share=share)


def first_exhausted_s(queues: Iterable[ArrivalQueue]) -> float:
    """When the first of them ran out of its number of requests; infinite while none has."""
    return min((queue.exhausted_s for queue in queues if queue.exhausted_s is not None), default=math.inf)
