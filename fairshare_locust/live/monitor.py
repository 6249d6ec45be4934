"""Monitor: keeps a run's live view up to date, and shows it on the terminal of a headless run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gevent

from fairshare_locust.client.pacer import pacer
from fairshare_locust.clock import RunClock
from fairshare_locust.live.tally import LiveTally, LoadGauges
from fairshare_locust.live.terminal import TerminalView
from fairshare_locust.live.view import LiveView, RunStatus
from fairshare_locust.profile.model import Profile

__all__ = ["Monitor"]

_TICK_S = 1.0


class Monitor:
    """The live figures of one run, taken once a second in a greenlet of its own.

    Attributes:
        tally: is told of each request that ends.
        view: what pages are drawn from.
    """

    def __init__(
        self,
        profile: Profile,
        tally: LiveTally,
        status: Callable[[], RunStatus],
        loads: Callable[[], Mapping[str, LoadGauges]],
        telemetry_latest: Callable[[], Mapping[str, Any]],
        health: Callable[[], Mapping[str, Any] | None],
        terminal: TerminalView | None,
        *,
        settling_s: float = 0.0,
    ) -> None:
        self.tally = tally
        # The pauses let a load process go on that has streams to read.
        self.view = LiveView(
            profile, self.tally, status, loads, telemetry_latest, health, settling_s=settling_s, pause=pacer().pause
        )
        self._terminal = terminal
        self._greenlet: gevent.Greenlet | None = None

    def begin(self, clock: RunClock) -> None:
        """The load begins."""
        self._greenlet = gevent.spawn(self._tick_regularly, clock)

    def _tick_regularly(self, clock: RunClock) -> None:
        while True:
            gevent.sleep(_TICK_S - max(0.0, clock.now_s()) % _TICK_S)
            self.view.tick(clock.now_s())
            if self._terminal is not None:
                self._terminal.show(self.view.snapshot())

    def end(self, now_s: float) -> None:
        """Every record is in; the figures of now stay. Safe to call twice."""
        self.close()
        self.view.end(now_s)

    def close(self) -> None:
        """Show nothing more on the terminal; safe to call twice."""
        if self._greenlet is not None and self._greenlet is not gevent.getcurrent():
            self._greenlet.kill()
        if self._terminal is not None:
            self._terminal.close()
