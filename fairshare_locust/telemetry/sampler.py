"""Sampler: samples one source in a thread of its own, on an absolute schedule."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from fairshare_locust.telemetry.source import Sample, Source, UnavailableError
from fairshare_locust.telemetry.timing import Timing

__all__ = ["Sampler"]

_WHOLE_EVERY_S = 1.0
_RETRY_S = 5.0

Deliver = Callable[["Sampler", float, list[Sample]], None]
"""(sampler, CLOCK_MONOTONIC in s, samples)"""


class Sampler:
    """Tries its source once, then waits for t = 0 and samples at t = 0, i, 2i, … and a last time at the end.

    A sample is stamped halfway between its start and its end. A tick that is due while a sample is still being taken
    is left out and counted. A source that fails is asked again at the next tick, then every 5 s; nothing that it does
    ends the thread.

    Attributes:
        name: of the source, for people: `nvml`, or `server_metrics http://127.0.0.1:8000`.
        kind: `nvml`, `dcgm`, `agent` or `server_metrics`.
        subject: the endpoint or URL that is sampled; None for this host.
        tried: set once the source was tried.
        works: whether it gave a sample the last time.
        told: what went wrong so far, once each.
    """

    def __init__(
        self,
        kind: str,
        subject: str | None,
        open_source: Callable[[], Source],
        interval_s: float,
        deliver: Deliver,
        tell: Callable[[str], None],
    ) -> None:
        self.kind = kind
        self.subject = subject
        self.name = kind if subject is None else f"{kind} {subject}"
        self.tried = threading.Event()
        self.works = False
        self.told: list[str] = []
        self._open_source = open_source
        self._interval_s = interval_s
        self._deliver = deliver
        self._tell = tell
        self._source: Source | None = None
        self._timing = Timing(interval_s)
        self._failures = 0
        self._whole_at_s = -math.inf
        self._t0_s: float | None = None
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Open the source and try it once."""
        self._thread.start()

    def begin(self, t0_monotonic_s: float) -> None:
        """t = 0 is then. Samples count from there."""
        self._t0_s = t0_monotonic_s
        self._begun.set()

    def end(self) -> None:
        """Take the last sample and stop; `join` waits for it."""
        self._ended.set()
        self._begun.set()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, so long at most."""
        self._thread.join(max(0.0, timeout_s))

    def summary(self) -> dict[str, Any]:
        """What became of it, as `run.json` has it."""
        end_s = None if self._t0_s is None else max(0.0, time.monotonic() - self._t0_s)
        return {
            "source": self.kind,
            "subject": self.subject,
            **self._timing.summary(end_s),
            "problems": list(self.told),
            **({} if self._source is None or self._thread.is_alive() else self._source.describe()),
        }

    def _run(self) -> None:
        try:
            self._source = self._open_source()
        except Exception as error:
            self._trouble(error)
            self.tried.set()
            return
        self._sample(None)
        self.tried.set()
        self._begun.wait()
        if self._t0_s is not None:
            self._whole_at_s = -math.inf
            self._begin_source(self._t0_s)
            self._sample_until_ended(self._t0_s)
            if self.works:
                self._sample(None, last=True)
        self._source.close()

    def _begin_source(self, t0_s: float) -> None:
        assert self._source is not None
        self._ended.wait(max(0.0, t0_s - time.monotonic()))
        try:
            self._source.begin()
        except Exception as error:
            self._trouble(error)

    def _sample_until_ended(self, t0_s: float) -> None:
        tick = 0
        while not self._ended.wait(max(0.0, t0_s + tick * self._interval_s - time.monotonic())):
            self._sample(t0_s + tick * self._interval_s)
            rest_s = _RETRY_S if self._failures > 1 else 0.0
            following = max(tick + 1, math.ceil((time.monotonic() + rest_s - t0_s) / self._interval_s))
            if self.works:
                self._timing.late_ticks += following - tick - 1
            tick = following

    def _sample(self, due_s: float | None, *, last: bool = False) -> None:
        """Sample once; `due_s` on CLOCK_MONOTONIC, None if at no set time."""
        assert self._source is not None
        t0_s = self._t0_s  # a first try may last until the load has begun
        start_s = time.monotonic()
        at_s = start_s if due_s is None else due_s
        whole = last or at_s - self._whole_at_s >= _WHOLE_EVERY_S - self._interval_s / 2
        try:
            samples = self._source.sample(whole, last)
        except Exception as error:
            self._failures += 1
            self.works = False
            if t0_s is not None:
                self._timing.failures += 1
            self._trouble(error)
            return
        end_s = time.monotonic()
        self._failures = 0
        self.works = True
        if whole:
            self._whole_at_s = at_s
        if t0_s is not None:
            self._timing.add(None if due_s is None else due_s - t0_s, start_s - t0_s, end_s - t0_s)
            self._deliver(self, (start_s + end_s) / 2, samples)
        self._tell_once(self._source.problems)

    def _trouble(self, error: Exception) -> None:
        self._tell_once([str(error) if isinstance(error, UnavailableError) else f"{self.name}: {error!r}"])

    def _tell_once(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.told:
                self.told.append(problem)
                self._tell(problem)
