"""The modelled GPU as a monitor sees it: how busy, how full, and what it draws.

    busy share    of the last second, with a step running, whoever's
    memory        of each engine: weights + tokens in the KV cache · bytes of each
    power         idle_w + (busy_w - idle_w) · busy share
    energy        the integral, since the start: idle_w · time + (busy_w - idle_w) · time with a step running

All of it follows from the steps' own times when somebody asks, so it does not matter how often one does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fairshare_locust.simulator.engine import Engine

__all__ = ["BusyTime", "Device", "Reading"]

_SHARE_OF_LAST_S = 1.0


class BusyTime:
    """When steps ran, on one clock, exact for the last second and as a sum before."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque()  # of adjacent steps, in order
        self._before_spans_s = 0.0

    def add(self, start_s: float, end_s: float) -> None:
        """Steps run from `start_s`, which is now, to `end_s`; what was said before of the time from now on is void."""
        if self._spans and self._spans[-1][1] >= start_s:
            start_s, _ = self._spans.pop()
        while self._spans and self._spans[0][1] < start_s - _SHARE_OF_LAST_S:
            first_start_s, first_end_s = self._spans.popleft()
            self._before_spans_s += first_end_s - first_start_s
        self._spans.append((start_s, end_s))

    def until(self, time_s: float) -> float:
        """Seconds with a step running before `time_s`, which is now or at most a second ago."""
        # A step that is over, but was not yet followed by the next, counts up to its own end: so it never goes back.
        # Summed from the oldest on, as they are forgotten: no rounding takes away what was there.
        parts = (min(end_s, time_s) - start_s for start_s, end_s in self._spans if start_s < time_s)
        return sum(parts, self._before_spans_s)

    def share(self, now_s: float) -> float:
        """Share of the second before `now_s` with a step running, 0 to 1."""
        return (self.until(now_s) - self.until(now_s - _SHARE_OF_LAST_S)) / _SHARE_OF_LAST_S


@dataclass(frozen=True, slots=True)
class Reading:
    """The device at one moment. `busy_share` is 0 to 1, `energy_j` counts from the start."""

    busy_share: float
    memory_used_mib: float
    memory_free_mib: float
    power_w: float
    energy_j: float


class Device:
    """The modelled GPU that these engines, at least one, run on; switched on now."""

    def __init__(self, engines: Sequence[Engine], busy_time: BusyTime, clock: Callable[[], float]) -> None:
        self._engines = engines
        self._busy_time = busy_time
        self._clock = clock
        self._started_s = clock()

    def read(self) -> Reading:
        """The device now."""
        config, now_s = self._engines[0].config, self._clock()
        busy_share = self._busy_time.share(now_s)
        busy_s = self._busy_time.until(now_s)
        used_mib = sum(
            engine.config.weights_mib + engine.kv_used_tokens * engine.config.kv_bytes_per_token / 2**20
            for engine in self._engines
        )
        above_idle_w = config.busy_w - config.idle_w
        return Reading(
            busy_share=busy_share,
            memory_used_mib=used_mib,
            memory_free_mib=config.memory_mib - used_mib,
            power_w=config.idle_w + above_idle_w * busy_share,
            energy_j=config.idle_w * (now_s - self._started_s) + above_idle_w * busy_s,
        )
