"""The schedule of a trace: its own times, faster or slower, once or again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.arrivals import TraceArrival

__all__ = ["RowTimes", "TraceSchedule", "period_s"]


@dataclass(frozen=True, slots=True)
class RowTimes:
    """When a tenant's rows of a trace came.

    Attributes:
        times_s: ascending, in seconds since the cut began, shape (n,).
        period_s: how long the cut lasts, whoever's its rows are: tenants of one trace loop together. None if all rows
            came at one moment.
    """

    times_s: NDArray[np.float64]
    period_s: float | None

    @classmethod
    def alone(cls, times_s: NDArray[np.float64]) -> RowTimes:
        """Of a trace that has no other rows."""
        return cls(times_s, period_s(times_s))


def period_s(times_s: NDArray[np.float64]) -> float | None:
    """How long the rows last, the gap after the last one included: `t[-1] + (t[-1] - t[0]) / (n - 1)` seconds.

    So n rows at even gaps g from 0 on last n·g, and their mean rate is 1 / g. None if all come at one moment.

    Args:
        times_s: ascending, in seconds since the cut began, shape (n,).
    """
    if len(times_s) < 2 or times_s[0] == times_s[-1]:
        return None
    return float(times_s[-1] + (times_s[-1] - times_s[0]) / (len(times_s) - 1))


class TraceSchedule:
    """Request i is due at `times_s[i] / speed`.

    After the last row nothing is due or, with `lap_s`, they come again that many seconds (at speed 1) later.
    """

    def __init__(self, times_s: NDArray[np.float64], *, speed: float = 1.0, lap_s: float | None = None) -> None:
        self._times_s = times_s
        self._speed = speed
        self._lap_s = lap_s

    @classmethod
    def of(cls, arrival: TraceArrival, tenant_id: str, times: RowTimes) -> TraceSchedule:
        """As a tenant's arrival says.

        Raises WorkloadError if that takes a period and the rows have none.
        """
        times_s, lap_s = times.times_s, times.period_s
        if lap_s is None and (arrival.loop or arrival.rate_per_s is not None):
            raise WorkloadError(
                f"tenant {tenant_id!r}: found {len(times_s)} rows of trace {arrival.trace!r}, none of them later than "
                "the first, so that they have no mean rate and no period; take a longer part of the trace, or leave "
                "out the arrival's rate_per_s and loop"
            )
        speed = arrival.speed
        if arrival.rate_per_s is not None and lap_s is not None:
            speed = arrival.rate_per_s * lap_s / len(times_s)
        return cls(times_s, speed=speed, lap_s=lap_s if arrival.loop else None)

    def due_s(self, index: int) -> float:
        """Seconds since the phase began; inf after the last row, unless it loops."""
        lap, row = divmod(index, len(self._times_s))
        time_s = float(self._times_s[row])
        if lap == 0:
            return time_s / self._speed
        if self._lap_s is None:
            return math.inf
        return (lap + time_s / self._lap_s) * self._lap_s / self._speed
