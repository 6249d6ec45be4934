"""Active stretches: when a tenant is there. Its process stands still outside of them, and goes on where it stopped."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

__all__ = ["ActiveStretches"]

# A process time that misses a stretch's end by a rounding error is meant to fall on it.
_ROUNDING_S = 1e-9


class ActiveStretches:
    """Stretches `[from, to)` in seconds since `start_s`, ascending; none given: all from `start_s` on."""

    def __init__(self, active_s: tuple[tuple[float, ...], ...], start_s: float = 0.0) -> None:
        stretches = active_s or ((0.0, math.inf),)
        self._from_s = [start_s + from_s for from_s, _ in stretches]
        self._to_s = [start_s + to_s for _, to_s in stretches]
        self._before_s = list(accumulate((to_s - from_s for from_s, to_s in stretches), initial=0.0))

    def next_s(self, at_s: float) -> float:
        """The earliest moment from `at_s` on in which the tenant is there; inf if it does not come back."""
        stretch = bisect_right(self._to_s, at_s)
        return max(at_s, self._from_s[stretch]) if stretch < len(self._to_s) else math.inf

    def of_process_s(self, process_s: float) -> float:
        """When the process's own clock, which runs only inside the stretches, shows `process_s`; inf if never."""
        stretch = bisect_right(self._before_s, process_s + _ROUNDING_S) - 1
        if stretch == len(self._from_s):
            return math.inf
        return self._from_s[stretch] + max(0.0, process_s - self._before_s[stretch])
