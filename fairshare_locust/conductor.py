"""Conductor: runs a plan's phases over a load, one after another, and keeps the list of their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event

from fairshare_locust.clock import RunClock
from fairshare_locust.load import Load
from fairshare_locust.parts import LoadSpan, Part, PhaseTimes, open_part, window_end
from fairshare_locust.plan import Phase, phases_of
from fairshare_locust.profile import Profile

__all__ = ["Conductor"]

_POLL_S = 0.02
_LOOK_EVERY_S = 0.1


class Conductor:
    """Conducts one run. It waits in the greenlet that calls `run`; `end` may be called from another one.

    Attributes:
        parts: what has begun so far, as `phases` of `run.json`.
        spans: in which load was offered, of the phases that have begun.
        ended: nothing more is sent.
    """

    def __init__(
        self,
        profile: Profile,
        load: Load,
        clock: RunClock,
        note: Callable[[str], None],
        on_part: Callable[[Part], None],
    ) -> None:
        """`note` tells the user of something; `on_part` is told of each part that begins, named as on records."""
        self._profile = profile
        self._load = load
        self._clock = clock
        self._note = note
        self._on_part = on_part
        self.parts: list[dict[str, Any]] = []
        self.spans: list[LoadSpan] = []
        self.ended = False
        self._settled = Event()

    def run(self) -> bool:
        """Run the phases, from t = 0 on. True if they came to their end, False if somebody ended them."""
        plan = phases_of(self._profile)
        for number, phase in enumerate(plan):
            last = number == len(plan) - 1
            self._run_phase(number, phase, last=last)
            if self.ended:
                return False
            if phase.stop_if_slo_breaks and self._breaks(phase, last=last):
                break
        return True

    def end(self, why: str) -> None:
        """Send nothing more; the part that goes on ends now. Returns when the load has ended, to each who calls it."""
        if self.ended:
            self._settled.wait()
            return
        self.ended = True
        now_s = self._clock.now_s()
        self._load_ends(now_s)
        if self.parts:
            last = self.parts[-1]
            if last["end_s"] is None or last["end_s"] > now_s:
                last["end_s"] = round(max(now_s, last["start_s"]), 6)
        self._load.end(why)
        self._settled.set()

    def _breaks(self, phase: Phase, *, last: bool) -> bool:
        """Whether a tenant's SLO was broken in a phase that is over; if so, told."""
        tenants = tuple(tenant for tenant in self._profile.tenants if tenant.id in phase.tenants)
        broken = self._load.attainment.broken(phase.prefix, tenants)
        if broken:
            end = "" if last else "; the phases after it are left out"
            self._note(f"{phase.prefix.rstrip('/')}: {'; '.join(map(str, broken))}{end}")
        return bool(broken)

    def _run_phase(self, number: int, phase: Phase, *, last: bool) -> None:
        start_s = max(0.0, self._clock.now_s() + self._load.lead_s) if self.parts else 0.0
        times = PhaseTimes(self._profile, phase, start_s)
        if times.warmup is not None:
            self._open_part(phase, times.warmup, measured=False)
        self.spans.append(LoadSpan(number, start_s, times.window.end_s))
        self._load.begin_phase(number, start_s)
        self._wait_until(times.window.measure_s)
        end_s = times.window.end_s
        for part in times.parts:
            if self.ended:
                return
            self._open_part(phase, part, measured=bool(part.tenants))
            if phase.requests is None:
                self._wait_until(part.end_s)
            else:
                end_s = self._wait_exhausted(phase)
        if not self.ended:
            self._drain(phase, end_s, last=last)

    def _load_ends(self, at_s: float) -> None:
        """The load of the phase that goes on ends then, unless it has before."""
        if self.spans:
            span = self.spans[-1]
            self.spans[-1] = replace(span, end_s=min(span.end_s, max(span.start_s, at_s)))

    def _drain(self, phase: Phase, end_s: float, *, last: bool) -> None:
        self._load_ends(end_s)
        self._open_part(phase, Part("drain", end_s, math.inf, ()), measured=False)
        since_s = self._clock.now_s()
        while not self._load.idle(since_s) and self._clock.now_s() < since_s + phase.drain_s:
            gevent.sleep(_POLL_S)
            if self.ended:
                return
        self._load.end_phase(f"not finished {phase.drain_s:g} s after the measurement")
        if not last:
            self.parts[-1]["end_s"] = round(self._clock.now_s(), 6)

    def _wait_until(self, until_s: float) -> None:
        while not self.ended and (left_s := until_s - self._clock.now_s()) > 0:
            gevent.sleep(min(left_s, _LOOK_EVERY_S))

    def _wait_exhausted(self, phase: Phase) -> float:
        """Wait until every tenant has had its number of requests; the end of the stretch where all offer load."""
        ends_s: Mapping[str, float | None] = {}
        while not self.ended:
            ends_s = self._load.exhausted_s()
            if ends_s and all(end_s is not None and end_s <= self._clock.now_s() for end_s in ends_s.values()):
                break
            self._wait_until(self._clock.now_s() + _POLL_S)
        if self.ended:
            return self._clock.now_s()
        end_s, note = window_end(ends_s, phase.requests, self._clock.now_s())
        if note is not None:
            self._note(note)
        return end_s

    def _open_part(self, phase: Phase, part: Part, *, measured: bool) -> None:
        """A part of a phase begins, the one before it ends."""
        open_part(self.parts, phase, part, measured=measured)
        self._on_part(replace(part, name=phase.prefix + part.name))
