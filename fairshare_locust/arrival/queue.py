"""Queues: what a tenant's slots take their next request from. They say when, and what was never taken.

A queue belongs to one load process of several: process i of n deals the requests with index ≡ i modulo n. It does
not wait, and knows no event loop: the caller says what time it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fairshare_locust.arrival.schedule import Schedule, count_before, open_schedule
from fairshare_locust.profile.arrivals import ClosedArrival
from fairshare_locust.profile.model import Tenant

__all__ = ["Arrival", "ArrivalQueue", "ClosedQueue", "OpenQueue", "Window", "arrival_queue"]


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
    """Deals the requests of one window."""

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """The next request for a slot that is free now; None when the window has no more.

        `first`: the slot has had no request in this window.
        """
        ...

    def cut(self, end_s: float) -> None:
        """Nothing is due from `end_s` on, whatever the window said."""
        ...

    def untaken(self) -> Iterator[Arrival]:
        """Requests of the window that no slot has taken; each counts as taken then."""
        ...

    @property
    def exhausted_s(self) -> float | None:
        """When the window ran out of its number of requests; None while it has not, or if it has no number."""
        ...


class OpenQueue:
    """Requests that are due by the clock, handed out in order, late if no slot was free in time."""

    def __init__(
        self, schedule: Schedule, window: Window, *, shed: bool = False, worker: int = 0, workers: int = 1
    ) -> None:
        self._schedule = schedule
        self._start_s = window.start_s
        self._end_s = window.end_s
        self._shed = shed
        self._next = worker
        self._step = workers
        self._limit = math.inf
        if window.requests is not None:
            self._limit = count_before(schedule, window.measure_s - window.start_s) + window.requests

    def _peek(self) -> Arrival | None:
        if self._next >= self._limit:
            return None
        due_s = self._start_s + self._schedule.due_s(self._next)
        return Arrival(self._next, due_s) if due_s < self._end_s else None

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """See ArrivalQueue. A request that is past due found no free slot, unless this one has been free all along."""
        arrival = self._peek()
        if arrival is None:
            return None
        self._next += self._step
        if self._shed and not first and arrival.due_s < now_s:
            return Arrival(arrival.index, arrival.due_s, shed=True)
        return arrival

    def cut(self, end_s: float) -> None:
        """See ArrivalQueue."""
        self._end_s = min(self._end_s, end_s)

    def untaken(self) -> Iterator[Arrival]:
        """See ArrivalQueue."""
        while (arrival := self._peek()) is not None:
            self._next += self._step
            yield arrival

    @property
    def exhausted_s(self) -> float | None:
        """See ArrivalQueue: when the request after the last one would have been due."""
        if self._limit == math.inf:
            return None
        return self._start_s + self._schedule.due_s(int(self._limit))


class ClosedQueue:
    """A request for each slot as soon as it is free and has thought; the first one without thinking."""

    def __init__(self, think_s: float, window: Window, *, worker: int = 0, workers: int = 1) -> None:
        self._think_s = think_s
        self._window = window
        self._end_s = window.end_s
        self._next = worker
        self._step = workers
        self._left = None if window.requests is None else len(range(worker, window.requests, workers))
        self._exhausted_s: float | None = None

    def take(self, now_s: float, *, first: bool) -> Arrival | None:
        """See ArrivalQueue."""
        due_s = max(now_s, self._window.start_s) if first else now_s + self._think_s
        if due_s >= self._end_s:
            return None
        if self._left is not None and due_s >= self._window.measure_s:
            if self._left == 0:
                if self._exhausted_s is None and not first:
                    self._exhausted_s = due_s
                return None
            self._left -= 1
        arrival = Arrival(self._next, due_s)
        self._next += self._step
        return arrival

    def cut(self, end_s: float) -> None:
        """See ArrivalQueue."""
        self._end_s = min(self._end_s, end_s)

    def untaken(self) -> Iterator[Arrival]:
        """See ArrivalQueue: a closed loop has nothing due that no slot takes."""
        return iter(())

    @property
    def exhausted_s(self) -> float | None:
        """See ArrivalQueue: when a slot that had had a request first asked in vain for another."""
        return self._exhausted_s


def arrival_queue(tenant: Tenant, seed: int, window: Window, *, worker: int = 0, workers: int = 1) -> ArrivalQueue:
    """The queue of a tenant's window on load process `worker` of `workers`."""
    arrival = tenant.arrival
    if isinstance(arrival, ClosedArrival):
        return ClosedQueue(arrival.think_s, window, worker=worker, workers=workers)
    schedule = open_schedule(arrival, seed, tenant.id)
    return OpenQueue(schedule, window, shed=arrival.overflow == "shed", worker=worker, workers=workers)
