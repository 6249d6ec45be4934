"""RunClock: seconds since the load started, on one monotonic clock."""

from __future__ import annotations

import time

__all__ = ["RunClock"]


class RunClock:
    """Stamps are `time.monotonic()`; wall-clock time is read once, to align files and hosts."""

    def __init__(self) -> None:
        self.monotonic_s = 0.0
        self.unix_s = 0.0
        self.start(0.0)

    def start(self, in_s: float) -> None:
        """t = 0 is `in_s` from now."""
        self.monotonic_s = time.monotonic() + in_s
        self.unix_s = time.time() + in_s

    def follow(self, monotonic_s: float, unix_s: float) -> None:
        """t = 0 was then, on this process's clocks: as another process has it, whose run it is."""
        self.monotonic_s = monotonic_s
        self.unix_s = unix_s

    def as_it_is(self) -> RunClock:
        """A clock that keeps the present t = 0: stamps that belong together are read on one."""
        clock = RunClock()
        clock.follow(self.monotonic_s, self.unix_s)
        return clock

    def now_s(self) -> float:
        """Seconds since t = 0; negative before it."""
        return time.monotonic() - self.monotonic_s

    def of(self, stamp: float | None) -> float | None:
        """A monotonic stamp on the run clock, to the microsecond."""
        return None if stamp is None else round(stamp - self.monotonic_s, 6)
