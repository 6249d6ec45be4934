"""The machine in real time: steps end on an absolute schedule and hand their tokens to receivers.

A step begins where the one before it was modelled to end, not where the process got round to ending it, so
late wake-ups don't add up. An idle engine begins its next step when a sequence arrives; those that were due before are
ended first, so a late process changes when tokens are written, and not which step gave them.
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
from fairshare_locust.simulator.engine import FinishReason, Sequence
from fairshare_locust.simulator.lateness import Lateness
from fairshare_locust.simulator.machine import Machine, StepEnd
from fairshare_locust.simulator.metrics import SimulatorMetrics
from fairshare_locust.simulator.timing import Timing

__all__ = ["RealTimeMachine", "RealTimePart", "Receiver", "new_event_loop"]


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


class RealTimeMachine:
    """Drives a `Machine` by the clock of an event loop, and keeps the metrics of its parts.

    Attributes:
        busy_time: when steps of any part ran, as they were modelled.
        lateness: how well the process keeps up with the model.
        parts: where requests go, by index.
    """

    def __init__(self, machine: Machine, metrics: Many[SimulatorMetrics], loop: asyncio.AbstractEventLoop) -> None:
        """`metrics`: one for each part, by index; they are told of `lateness`."""
        self.busy_time = BusyTime()
        self.lateness = Lateness(loop.time)
        self._machine = machine
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None  # None: no step runs
        self.parts = tuple(
            RealTimePart(self, machine, index, part_metrics, loop) for index, part_metrics in enumerate(metrics)
        )
        for part_metrics in metrics:
            part_metrics.lateness = self.lateness

    def part(self, index: int) -> RealTimePart:
        """Where the requests of one part go."""
        return self.parts[index]

    def close(self, message: str) -> None:
        """Close all parts with `message`."""
        for part in self.parts:
            part.close(message)

    # --- for the parts

    def catch_up(self) -> float:
        """End the steps that are due, and return the time: nothing in the model is before it."""
        now_s = self._loop.time()
        while self._machine.next_s() <= now_s:
            self._end_step()
        # The loop's timers may be early by as much as its clock can tell.
        return max(now_s, self._machine.now_s)

    def look_ahead(self) -> None:
        """Be called at the next end, which may have moved."""
        next_s = self._machine.next_s()
        if self._timer is not None:
            if self._timer.when() == next_s:
                return
            self._timer.cancel()
            self._timer = None
        if next_s < math.inf:
            self.busy_time.add(self._machine.now_s, next_s)
            self._timer = self._loop.call_at(next_s, self._at_end)

    def rest(self) -> None:
        """Be called no more, once all parts are closed."""
        if self._timer is not None and all(part.closed for part in self.parts):
            self._timer.cancel()
            self._timer = None

    def _at_end(self) -> None:
        # One step at a time, however many are due: in between the loop gets to read requests.
        self._timer = None
        self._end_step()
        self.look_ahead()

    def _end_step(self) -> None:
        end = self._machine.end_next()
        now_s = self._loop.time()
        self.lateness.add(now_s, max(0.0, now_s - end.time_s))
        self.parts[end.part].hand_out(end, now_s)
        if self._machine.next_s() < math.inf:
            self.busy_time.add(end.time_s, self._machine.next_s())


class RealTimePart:
    """One part of a `RealTimeMachine`: its requests, what receives their tokens, and its metrics."""

    def __init__(
        self,
        realtime: RealTimeMachine,
        machine: Machine,
        index: int,
        metrics: SimulatorMetrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._realtime = realtime
        self._machine = machine
        self._index = index
        self._metrics = metrics
        self._loop = loop
        self._flights: dict[Sequence, _Flight] = {}
        self._last_emission_s = 0.0
        self._closed_because: str | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing is served any more."""
        return self._closed_because is not None

    def submit(self, sequences: Many[tuple[Sequence, Receiver]], arrived_s: float) -> None:
        """Queue the sequences of one request that arrived at `arrived_s` on the event loop's clock.

        Raises:
            ServingError: a sequence that could never run.
        """
        if self._closed_because is not None:
            for _, receiver in sequences:
                receiver.failed(self._closed_because)
            return
        now_s = self._realtime.catch_up()
        try:
            self._machine.submit(self._index, [sequence for sequence, _ in sequences], now_s)
            for sequence, receiver in sequences:
                self._flights[sequence] = _Flight(receiver, arrived_s, now_s)
        finally:  # whatever became of it, steps may have ended
            self._realtime.look_ahead()

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence whose client is gone; one that has ended already is left alone."""
        if self._flights.pop(sequence, None) is not None:
            self._machine.cancel(self._index, sequence)
            self._metrics.finished["abort"] += 1

    def close(self, message: str) -> None:
        """Fail everything under way, and whatever is still submitted, with `message`."""
        self._closed_because = message
        for sequence, flight in self._flights.items():
            self._machine.cancel(self._index, sequence)
            self._metrics.finished["error"] += 1
            flight.receiver.failed(message)
        self._flights.clear()
        self._realtime.rest()

    def hand_out(self, end: StepEnd, now_s: float) -> None:
        """Take the end of a step of this part: its tokens go to their receivers."""
        metrics, flights = self._metrics, self._flights
        step, emissions = end.step, end.emissions
        for sequence in step.preempted:
            flight = flights.get(sequence)
            if flight is not None and sequence.generated_tokens and flight.last_token_s is None:
                flight.last_token_s = self._last_emission_s
        for sequence in step.admitted:
            flight = flights.get(sequence)
            if flight is not None and math.isnan(flight.scheduled_s):
                flight.scheduled_s = end.start_s
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
        metrics.step_lateness_s.observe(max(0.0, now_s - end.time_s))
        metrics.step_write_s.observe(self._loop.time() - now_s)
        self._last_emission_s = now_s


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
