"""HealthSampler: is the load process itself fast enough to be believed?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from fairshare_locust.clock import RunClock

__all__ = ["HealthSampler", "nearest_rank"]

_LAG_EVERY_S = 0.02
_SLOW_MS = 10.0
_SLOW_SECONDS_KEPT = 1000
# Log-spaced bins, 5 % wide: the memory does not grow with the run.
_BIN_RATIO = 1.05
_SMALLEST_MS = 0.01


class HealthSampler:
    """Samples event-loop lag and CPU of this process, and counts what is of a time that `measured` says yes to.

    Lag is how much later than asked a sleeping greenlet wakes: every stamp may be late by as much. CPU is the
    process's own time over each second, as a share of one core.
    """

    def __init__(self, clock: RunClock, measured: Callable[[float], bool]) -> None:
        self._clock = clock
        self._measured = measured
        self._lag_bins: dict[int, int] = {}
        self._lag_max_ms: float | None = None
        self._cpu_shares: list[int] = [0] * 201  # by whole percent of a core, the last for 200 % and more
        self._cpu_max: float | None = None
        self._slow_seconds: dict[int, float] = {}
        self._greenlets = [gevent.spawn(self._sample_lag), gevent.spawn(self._sample_cpu)]

    def stop(self) -> None:
        """Sample no more."""
        gevent.killall(self._greenlets)

    def summary(self) -> dict[str, Any]:
        """As `run.json` has it: counts, percentiles (to 5 %) and maxima of lag and CPU, and the slow seconds."""
        bins = sorted(self._lag_bins.items())
        lags = [(_SMALLEST_MS * _BIN_RATIO**bin_, count) for bin_, count in bins]
        shares = [(percent / 100, count) for percent, count in enumerate(self._cpu_shares) if count]
        return {
            "event_loop_lag_ms": {
                "count": sum(self._lag_bins.values()),
                "p50": _rounded(nearest_rank(lags, 50)),
                "p99": _rounded(nearest_rank(lags, 99)),
                "max": _rounded(self._lag_max_ms),
            },
            "cpu_share": {
                "count": sum(self._cpu_shares),
                "p50": nearest_rank(shares, 50),
                "p95": nearest_rank(shares, 95),
                "max": _rounded(self._cpu_max),
            },
            "slow_seconds": [{"t_s": t_s, "lag_ms": _rounded(ms)} for t_s, ms in sorted(self._slow_seconds.items())],
        }

    def _sample_lag(self) -> None:
        while True:
            asked = time.monotonic() + _LAG_EVERY_S
            due_s = self._clock.now_s() + _LAG_EVERY_S
            gevent.sleep(_LAG_EVERY_S)
            if self._measured(due_s):  # then, not now: a stall may hide the end of what is measured
                self._lag((time.monotonic() - asked) * 1000)

    def _lag(self, lag_ms: float) -> None:
        lag_ms = max(lag_ms, _SMALLEST_MS)
        self._lag_max_ms = max(lag_ms, self._lag_max_ms or 0.0)
        # A stall keeps samples from being taken; those that were due in it would have found what was left of it.
        left_ms = lag_ms
        while left_ms > 0:
            bin_ = math.ceil(math.log(max(left_ms, _SMALLEST_MS) / _SMALLEST_MS, _BIN_RATIO))
            self._lag_bins[bin_] = self._lag_bins.get(bin_, 0) + 1
            left_ms -= _LAG_EVERY_S * 1000
        if lag_ms > _SLOW_MS:
            end_s = self._clock.now_s()
            # A long stall covers several seconds; each of them was slow.
            for second in range(int(max(0.0, end_s - lag_ms / 1000)), int(end_s) + 1):
                if second in self._slow_seconds or len(self._slow_seconds) < _SLOW_SECONDS_KEPT:
                    self._slow_seconds[second] = max(lag_ms, self._slow_seconds.get(second, 0.0))

    def _sample_cpu(self) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        while True:
            gevent.sleep(1.0)
            wall_now, cpu_now = time.monotonic(), time.process_time()
            share = (cpu_now - cpu) / (wall_now - wall)
            wall, cpu = wall_now, cpu_now
            if self._measured(self._clock.now_s()):
                self._cpu_shares[min(200, round(share * 100))] += 1
                self._cpu_max = max(share, self._cpu_max or 0.0)


def nearest_rank(counted: Sequence[tuple[float, int]], percent: int) -> float | None:
    """The nearest-rank percentile of values given in rising order with their counts; None without values."""
    total = sum(count for _, count in counted)
    rank = -(-percent * total // 100)
    passed = 0
    for value, count in counted:
        passed += count
        if passed >= rank and passed:
            return value
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
