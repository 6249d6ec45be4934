"""Schedules: when each request of an open-loop tenant is due, in seconds since its phase began.

A schedule is a function of seed, tenant id and index, never a chain of sleeps: it can't drift, and it is the same
in every sharing mode, alone or shared, on any number of load processes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.profile.arrivals import ConstantArrival, OpenArrival
from fairshare_locust.seeding import random_stream

__all__ = ["ConstantSchedule", "PoissonSchedule", "Schedule", "count_before", "open_schedule"]

_BLOCK = 1024


class Schedule(Protocol):
    """Due times by index, from 0, never decreasing."""

    def due_s(self, index: int) -> float:
        """Seconds after the phase began at which request `index` is due."""
        ...


class ConstantSchedule:
    """Request i is due at i / rate."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s

    def due_s(self, index: int) -> float:
        """See Schedule."""
        return index / self._rate_per_s


class PoissonSchedule:
    """Gaps are independent and exponential with mean 1 / rate; the first gap comes before the first request.

    Drawn at rate 1 and divided by the rate, so another rate stretches the same schedule.
    """

    def __init__(self, rate_per_s: float, stream: np.random.Generator) -> None:
        self._rate_per_s = rate_per_s
        self._stream = stream
        self._unit_times: NDArray[np.float64] = np.empty(0)

    def due_s(self, index: int) -> float:
        """See Schedule."""
        while index >= len(self._unit_times):
            last = self._unit_times[-1] if len(self._unit_times) else 0.0
            block = last + np.cumsum(self._stream.standard_exponential(_BLOCK))
            self._unit_times = np.concatenate((self._unit_times, block))
        return float(self._unit_times[index]) / self._rate_per_s


def open_schedule(arrival: OpenArrival, seed: int, tenant_id: str) -> Schedule:
    """The schedule of a tenant's arrival process."""
    if isinstance(arrival, ConstantArrival):
        return ConstantSchedule(arrival.rate_per_s)
    return PoissonSchedule(arrival.rate_per_s, random_stream(seed, tenant_id, "arrival"))


def count_before(schedule: Schedule, elapsed_s: float) -> int:
    """How many requests are due before `elapsed_s`."""
    low, high = 0, 1
    while schedule.due_s(high - 1) < elapsed_s:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if schedule.due_s(middle) < elapsed_s:
            low = middle + 1
        else:
            high = middle
    return low
