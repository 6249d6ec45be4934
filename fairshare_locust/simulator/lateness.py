"""Lateness: how far behind its model a process has been in the last second, and so whether it keeps up."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable

__all__ = ["Lateness"]

_logger = logging.getLogger("fairshare_locust.simulator")

_WINDOW_S = 1.0
_TOLERATED_S = 0.002
_WARN_EVERY_S = 10.0


class Lateness:
    """Ends of steps with how late each was handled; warns, in the log, when more than 1 % of them were too late."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends: deque[tuple[float, float]] = deque()  # when handled, how late
        self._too_late = 0
        self._warned_s = -math.inf

    def add(self, now_s: float, late_s: float) -> None:
        """A step's end is handled now, so much too late."""
        self._forget(now_s)
        self._ends.append((now_s, late_s))
        if late_s <= _TOLERATED_S:
            return
        self._too_late += 1
        # Too late for the 99th percentile: p99 is the ⌈0.99 n⌉-th, so at most ⌊0.01 n⌋ are above it.
        if self._too_late > len(self._ends) // 100 and now_s - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = now_s
            _logger.warning(
                "behind the model: in the last second 99 %% of %d steps were up to %.1f ms late (tolerated: %g ms), so "
                "tokens come later than modelled; lower the load, or leave this process a core of its own",
                len(self._ends),
                self._p99_s() * 1e3,
                _TOLERATED_S * 1e3,
            )

    def p99_s(self) -> float:
        """99th percentile (nearest rank) of the steps in the last second; 0 without any."""
        self._forget(self._clock())
        return self._p99_s()

    def _p99_s(self) -> float:
        late_s = sorted(late for _, late in self._ends)
        return late_s[len(late_s) - 1 - len(late_s) // 100] if late_s else 0.0

    def _forget(self, now_s: float) -> None:
        ends = self._ends
        while ends and ends[0][0] < now_s - _WINDOW_S:
            _, late_s = ends.popleft()
            self._too_late -= late_s > _TOLERATED_S
