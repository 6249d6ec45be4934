"""Schedules: when each request of an open-loop tenant is due, in seconds since its phase began.

A schedule is a function of seed, tenant id and index, never a chain of sleeps: it can't drift, and it is the same
in every sharing mode, alone or shared, on any number of load processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.arrival.active import ActiveStretches
from fairshare_locust.arrival.rate import LoopedRate, RateCurve, SwitchedRate, constant_rates, ramp
from fairshare_locust.arrival.series import BLOCK, Series, running_sums
from fairshare_locust.arrival.trace import RowTimes, TraceSchedule
from fairshare_locust.profile.arrivals import (
    ConstantArrival,
    GammaArrival,
    OnOffArrival,
    OpenArrival,
    PoissonArrival,
    RampArrival,
    StepsArrival,
    TraceArrival,
    WeibullArrival,
)
from fairshare_locust.seeding import random_stream

__all__ = [
    "ActiveSchedule",
    "ConstantSchedule",
    "RatedSchedule",
    "RenewalSchedule",
    "Schedule",
    "count_before",
    "open_schedule",
]


class Schedule(Protocol):
    """Due times by index, from 0, never decreasing."""

    def due_s(self, index: int) -> float:
        """Seconds after the phase began at which request `index` is due; inf if the schedule has ended before."""
        ...


class ConstantSchedule:
    """Request i is due at i / rate."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s

    def due_s(self, index: int) -> float:
        """See Schedule."""
        return index / self._rate_per_s


class RenewalSchedule:
    """Independent gaps of mean 1 / rate; the first gap comes before the first request.

    `unit_gaps(count)` draws gaps of mean 1, which the rate divides, so another rate stretches the same schedule.
    """

    def __init__(self, rate_per_s: float, unit_gaps: Callable[[int], NDArray[np.float64]]) -> None:
        self._rate_per_s = rate_per_s
        self._unit_times = running_sums(unit_gaps)

    def due_s(self, index: int) -> float:
        """See Schedule."""
        return self._unit_times.at(index) / self._rate_per_s


class RatedSchedule:
    """A unit-rate series of times, ascending, brought to a rate that changes."""

    def __init__(self, unit_times: Series, curve: RateCurve) -> None:
        self._unit_times = unit_times
        self._curve = curve
        self._last_s = 0.0
        self._times_s = Series(self._draw)

    def _draw(self, number: int) -> NDArray[np.float64]:
        times_s = self._curve.times_s(self._unit_times.block(number))
        # In a ramp, two unit times that nearly coincide could change places by rounding.
        times_s = np.maximum.accumulate(np.maximum(times_s, self._last_s))
        self._last_s = float(times_s[-1])
        return times_s

    def due_s(self, index: int) -> float:
        """See Schedule."""
        return self._times_s.at(index)


class ActiveSchedule:
    """A process whose clock runs only while its tenant is there."""

    def __init__(self, process: Schedule, stretches: ActiveStretches) -> None:
        self._process = process
        self._stretches = stretches

    def due_s(self, index: int) -> float:
        """See Schedule."""
        return self._stretches.of_process_s(self._process.due_s(index))


def open_schedule(arrival: OpenArrival, seed: int, tenant_id: str, times: RowTimes | None = None) -> Schedule:
    """The schedule of a tenant's arrival process.

    Args:
        arrival: the process; its rates may have been scaled.
        seed: the profile's.
        tenant_id: makes the schedule the tenant's own.
        times: for a trace, when the tenant's rows came.

    Raises:
        WorkloadError: a trace's rows have no rate, and one is needed.
    """
    schedule = _process(arrival, random_stream(seed, tenant_id, "arrival"), seed, tenant_id, times)
    return ActiveSchedule(schedule, ActiveStretches(arrival.active_s)) if arrival.active_s else schedule


def _process(
    arrival: OpenArrival,
    stream: np.random.Generator,
    seed: int,
    tenant_id: str,
    times: RowTimes | None,
) -> Schedule:
    match arrival:
        case ConstantArrival():
            return ConstantSchedule(arrival.rate_per_s)
        case PoissonArrival():
            return RenewalSchedule(arrival.rate_per_s, stream.standard_exponential)
        case GammaArrival(shape=shape):
            return RenewalSchedule(arrival.rate_per_s, lambda count: stream.standard_gamma(shape, count) / shape)
        case WeibullArrival(shape=shape):
            mean = math.gamma(1 + 1 / shape)
            return RenewalSchedule(arrival.rate_per_s, lambda count: stream.weibull(shape, count) / mean)
        case OnOffArrival():
            return RatedSchedule(_unit_times(arrival.base, stream), _on_off(arrival, seed, tenant_id))
        case RampArrival():
            curve = ramp(arrival.from_per_s, arrival.to_per_s, over_s=arrival.over_s, after_s=arrival.after_s)
            return RatedSchedule(_unit_times(arrival.base, stream), curve)
        case StepsArrival():
            return RatedSchedule(_unit_times(arrival.base, stream), _steps(arrival))
        case TraceArrival():
            if times is None:
                raise TypeError(f"tenant {tenant_id!r}: the schedule of a trace needs the times of its rows")
            return TraceSchedule.of(arrival, tenant_id, times)
    raise TypeError(f"tenant {tenant_id!r}: no schedule is known for {type(arrival).__name__}")


def _unit_times(base: str, stream: np.random.Generator) -> Series:
    """Times at rate 1: evenly spaced from 0, or a Poisson process."""
    if base == "constant":
        return Series(lambda number: np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.float64))
    return running_sums(stream.standard_exponential)


def _on_off(arrival: OnOffArrival, seed: int, tenant_id: str) -> RateCurve:
    rates_per_s = (arrival.rate_per_s, arrival.off_rate_per_s)
    lengths_s = (arrival.on_s, arrival.off_s)
    if arrival.durations == "exponential":
        return SwitchedRate(rates_per_s, lengths_s, random_stream(seed, tenant_id, "on_off"))
    return LoopedRate(constant_rates(rates_per_s, lengths_s))


def _steps(arrival: StepsArrival) -> RateCurve:
    rates_per_s = [step.rate_per_s for step in arrival.steps]
    lengths_s = [step.for_s for step in arrival.steps]
    if arrival.loop:
        return LoopedRate(constant_rates(rates_per_s, lengths_s))
    return constant_rates(rates_per_s, lengths_s, then_per_s=rates_per_s[-1])


def count_before(schedule: Schedule, elapsed_s: float) -> int:
    """How many requests are due before `elapsed_s`; inf counts all of a schedule that ends, and never returns else."""
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
