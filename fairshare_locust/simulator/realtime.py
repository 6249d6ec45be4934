"""The engine in real time: steps end on an absolute schedule and hand their tokens to receivers.

A step begins where the one before it was modelled to end, not where the process got round to ending it, so
late wake-ups don't add up. An idle engine begins its next step when a sequence arrives.
"""

from __future__ import annotations

import asyncio
import math
import select
import selectors
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Protocol

from fairshare_locust.simulator.device import BusyTime
from fairshare_locust.simulator.engine import Engine, FinishReason, Sequence
from fairshare_locust.simulator.metrics import SimulatorMetrics
from fairshare_locust.simulator.timing import Timing

__all__ = ["RealTimeEngine", "Receiver", "new_event_loop"]


class Receiver(Protocol):
    """What becomes of the tokens of one sequence. Called from the event loop; must not block or raise."""

    def token(self, generated_tokens: int) -> None:
        """Take the next token, the `generated_tokens`-th; it is not the last."""

    def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
        """Take the last token, which may be the first."""

    def failed(self, message: str) -> None:
        """No more tokens will come, though the answer is not finished."""


@dataclass(slots=True)
class _Flight:
    """A submitted sequence that has not ended. Times on the event loop's clock.

    `last_token_s` is None but for one that was preempted while it decoded: when it got its last token.
    """

    receiver: Receiver
    arrived_s: float
    queued_s: float
    scheduled_s: float = math.nan
    first_token_s: float = math.nan
    last_token_s: float | None = None


class RealTimeEngine:
    """Drives an `Engine` by the clock of an event loop, and keeps its metrics.

    Attributes:
        busy_time: when its steps ran, as they were modelled.
    """

    def __init__(self, engine: Engine, metrics: SimulatorMetrics, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._metrics = metrics
        self._loop = loop
        self.busy_time = BusyTime()
        self._flights: dict[Sequence, _Flight] = {}
        self._step_end: asyncio.TimerHandle | None = None  # None: idle
        self._last_emission_s = 0.0
        self._closed_because: str | None = None

    def submit(self, sequences: Many[tuple[Sequence, Receiver]], arrived_s: float) -> None:
        """Queue the sequences of one request that arrived at `arrived_s` on the event loop's clock.

        Raises:
            ServingError: a sequence that could never run.
        """
        if self._closed_because is not None:
            for _, receiver in sequences:
                receiver.failed(self._closed_because)
            return
        now_s = self._loop.time()
        for sequence, receiver in sequences:
            self._engine.submit(sequence)
            self._flights[sequence] = _Flight(receiver, arrived_s, now_s)
        if self._step_end is None:
            self._begin_step(now_s)

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence whose client is gone; one that has ended already is left alone."""
        if self._flights.pop(sequence, None) is not None:
            self._engine.cancel(sequence)
            self._metrics.finished["abort"] += 1

    def close(self, message: str) -> None:
        """Fail everything under way, and whatever is still submitted, with `message`."""
        self._closed_because = message
        if self._step_end is not None:
            self._step_end.cancel()
        for sequence, flight in self._flights.items():
            self._engine.cancel(sequence)
            self._metrics.finished["error"] += 1
            flight.receiver.failed(message)
        self._flights.clear()

    def _begin_step(self, start_s: float) -> None:
        step = self._engine.begin_step()
        if step is None:
            self._step_end = None
            return
        for sequence in step.admitted:
            if not sequence.preemptions:
                # A late process takes one in that came after the modelled start.
                flight = self._flights[sequence]
                flight.scheduled_s = max(start_s, flight.queued_s)
        for sequence in step.preempted:
            flight = self._flights[sequence]
            if sequence.generated_tokens and flight.last_token_s is None:
                flight.last_token_s = self._last_emission_s
        end_s = start_s + step.duration_s
        self.busy_time.add(start_s, end_s)
        self._step_end = self._loop.call_at(end_s, self._end_step)

    def _end_step(self) -> None:
        assert self._step_end is not None
        due_s = self._step_end.when()
        now_s = self._loop.time()
        metrics, flights = self._metrics, self._flights
        emissions = self._engine.end_step()
        first_tokens = resumed = 0
        for sequence, finish_reason in emissions:
            flight = flights[sequence]
            if sequence.generated_tokens == 1:
                first_tokens += 1
                flight.first_token_s = now_s
                metrics.prompt_tokens += sequence.prompt_tokens
                # Before the write: the client may have it before we run again. Others of the step were written by now.
                metrics.time_to_first_token_s.observe(self._loop.time() - flight.arrived_s)
            elif flight.last_token_s is not None:
                resumed += 1
                metrics.inter_token_latency_s.observe(now_s - flight.last_token_s)
                flight.last_token_s = None
            if finish_reason is None:
                flight.receiver.token(sequence.generated_tokens)
            else:
                del flights[sequence]
                timing = Timing(flight.queued_s, flight.scheduled_s, flight.first_token_s, now_s)
                metrics.count_finished(sequence, finish_reason, timing)
                metrics.e2e_request_latency_s.observe(self._loop.time() - flight.arrived_s)
                flight.receiver.last_token(sequence.generated_tokens, finish_reason, timing)
        # Whoever else got a token in this step got its last one from the step just before: one gap for all.
        if (decoded := len(emissions) - first_tokens - resumed) > 0:
            metrics.inter_token_latency_s.observe(now_s - self._last_emission_s, decoded)
        metrics.generation_tokens += len(emissions)
        metrics.step_lateness_s.observe(max(0.0, now_s - due_s))
        metrics.step_write_s.observe(self._loop.time() - now_s)
        self._last_emission_s = now_s
        self._begin_step(due_s)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to microseconds where epoll would round them up to 1 ms."""
    if hasattr(selectors, "EpollSelector"):
        return asyncio.SelectorEventLoop(_MicrosecondEpollSelector())
    return asyncio.new_event_loop()


if hasattr(selectors, "EpollSelector"):

    class _MicrosecondEpollSelector(selectors.EpollSelector):
        """An epoll object can be waited for itself, and select(2) counts in microseconds."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select((self.fileno(),), (), (), timeout)
                timeout = 0
            return super().select(timeout)
