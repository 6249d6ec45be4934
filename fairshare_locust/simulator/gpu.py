"""Gpu: how the steps of several engines share one card, and so when each of them ends.

A step is `Work`: a part on the host, which leaves the GPU to others; then the weights are read and, at the same time,
the tokens computed; then the KV cache is read. Three ways to share:

- `Independent`: each step has what it needs to itself.
- `TimeSlice`: one engine at a time has the whole GPU; without MPS the driver lets those with work take turns.
- `Concurrent`: all at once, as under MPS, as a fluid. A segment that lasts T with the GPU to itself needs the share
  m = reading / T of the bandwidth and c = computing / T of the SMs meanwhile. Where those of all that run come to more
  than the whole, everyone who uses that resource slows down by as much:

      pace = 1 / max(1, Σ m if it reads, Σ c if it computes), · (1 - loss) while others use the GPU, too

  An engine with a cap on its SMs takes computing / cap for computing.

Between the ends of segments and turns nothing changes, so their times follow in closed form; time does not go in ticks.
Times are seconds on one clock. Where two steps end at once, that of the engine with the lower index ends first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fairshare_locust.simulator.costs import Work

__all__ = ["Concurrent", "Gpu", "Independent", "TimeSlice"]

# A turn that would leave less of a step than this lasts until the step's end: what is left is rounding.
_NEGLIGIBLE_S = 1e-9


class Gpu(Protocol):
    """A card that runs at most one step of each engine. Whoever drives it goes forward in time, over no end."""

    def begin(self, engine: int, work: Work, now_s: float) -> None:
        """A step of `engine` begins; its step before has ended, and `now_s` is not after `next_end`."""

    def next_end(self) -> tuple[float, int] | None:
        """When and whose step ends next if nothing else begins before; None: none runs."""

    def end(self, engine: int, now_s: float) -> None:
        """The step that `next_end` tells of ends."""


class Independent:
    """Every step lasts as long as it does alone: one engine for all, or a slice of the card for each."""

    def __init__(self) -> None:
        self._ends_s: dict[int, float] = {}

    def begin(self, engine: int, work: Work, now_s: float) -> None:
        """As `Gpu.begin`."""
        self._ends_s[engine] = now_s + work.alone_s

    def next_end(self) -> tuple[float, int] | None:
        """As `Gpu.next_end`."""
        if len(self._ends_s) == 1:  # nearly always where there is one engine
            [(engine, end_s)] = self._ends_s.items()
            return end_s, engine
        return min([(end_s, engine) for engine, end_s in self._ends_s.items()], default=None)

    def end(self, engine: int, now_s: float) -> None:  # noqa: ARG002
        """As `Gpu.end`."""
        del self._ends_s[engine]


class _State(Protocol):
    """What runs on a card at one moment."""

    def begin(self, engine: int, work: Work, now_s: float) -> None: ...

    def run(self, to_s: float) -> tuple[float, int] | None:
        """Go on to `to_s`, or to the first end of a step until then, which is returned and still to be ended."""

    def end(self, engine: int, now_s: float) -> None: ...

    def copy(self) -> _State: ...


class _Foreseen:
    """A card whose next end is found by running a copy of its state ahead, which holds unless a step begins before."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._ahead: _State | None = None
        self._next_end: tuple[float, int] | None = None

    def begin(self, engine: int, work: Work, now_s: float) -> None:
        """As `Gpu.begin`."""
        self._ahead = None
        self._state.run(now_s)
        self._state.begin(engine, work, now_s)

    def next_end(self) -> tuple[float, int] | None:
        """As `Gpu.next_end`."""
        if self._ahead is None:
            self._ahead = self._state.copy()
            self._next_end = self._ahead.run(math.inf)
        return self._next_end

    def end(self, engine: int, now_s: float) -> None:
        """As `Gpu.end`."""
        if self.next_end() != (now_s, engine):
            raise RuntimeError(f"end of engine {engine} at {now_s} s; next is {self._next_end}")
        assert self._ahead is not None
        self._state, self._ahead = self._ahead, None
        self._state.end(engine, now_s)


class TimeSlice(_Foreseen):
    """Engines with a step whose GPU part is pending take turns, in the order in which they came.

    A turn lasts `quantum_s` while others wait, and as long as it likes while none does: whoever comes then, and finds
    the quantum used up, has the next turn at once. An engine that has the GPU after another pays `switch_s` first,
    during which nobody computes.
    """

    def __init__(self, quantum_s: float, switch_s: float) -> None:
        super().__init__(_Turns(quantum_s, switch_s))


class _Turns:
    """Who has the GPU, and who waits for it."""

    def __init__(self, quantum_s: float, switch_s: float) -> None:
        self.quantum_s, self.switch_s = quantum_s, switch_s
        self.ready_s: dict[int, float] = {}  # when the host's part ends, by engine
        self.left_s: dict[int, float] = {}  # of the GPU's part, at the beginning of the turn
        self.queue: list[int] = []  # the first has the GPU
        self.computes_from_s = math.nan  # the first of the queue, after the switch
        self.last: int | None = None  # who had the last turn, or has it
        self.event_s = -math.inf  # the last one

    def copy(self) -> _Turns:
        """One that goes its own way."""
        other = _Turns(self.quantum_s, self.switch_s)
        other.ready_s, other.left_s, other.queue = self.ready_s.copy(), self.left_s.copy(), self.queue.copy()
        other.computes_from_s, other.last, other.event_s = self.computes_from_s, self.last, self.event_s
        return other

    def begin(self, engine: int, work: Work, now_s: float) -> None:
        """As `Gpu.begin`."""
        self.ready_s[engine] = now_s + work.host_s
        self.left_s[engine] = max(work.weights_s, work.compute_s) + work.kv_s

    def run(self, to_s: float) -> tuple[float, int] | None:
        """As `_State.run`."""
        while True:
            end = self._next_end()
            ready = min([(at_s, engine) for engine, at_s in self.ready_s.items() if self.left_s[engine]], default=None)
            end_s = math.inf if end is None else end[0]
            ready_s = math.inf if ready is None else ready[0]
            turn_s = self._turn_end_s()
            event_s = min(end_s, ready_s, turn_s)
            if event_s > to_s or event_s == math.inf:
                return None
            self.event_s = event_s
            if event_s == end_s:
                return end
            if event_s == ready_s:
                assert ready is not None
                del self.ready_s[ready[1]]
                self.queue.append(ready[1])
                if len(self.queue) == 1:
                    self._next_turn()
            else:
                self._change_turns(to_s, ready_s)

    def end(self, engine: int, now_s: float) -> None:
        """As `Gpu.end`."""
        self.event_s = now_s
        del self.left_s[engine]
        if engine in self.ready_s:
            del self.ready_s[engine]
            return
        assert self.queue[0] == engine
        del self.queue[0]
        if self.queue:
            self._next_turn()

    def _next_end(self) -> tuple[float, int] | None:
        # A step with nothing for the GPU to do ends with its host's part.
        ends = [(at_s, engine) for engine, at_s in self.ready_s.items() if not self.left_s[engine]]
        if self.queue:
            ends.append((self.computes_from_s + self.left_s[self.queue[0]], self.queue[0]))
        return min(ends, default=None)

    def _turn_end_s(self) -> float:
        if len(self.queue) < 2:
            return math.inf
        turn_end_s = max(self.computes_from_s + self.quantum_s, self.event_s)
        left_s = self.computes_from_s + self.left_s[self.queue[0]] - turn_end_s
        return math.inf if left_s <= _NEGLIGIBLE_S else turn_end_s

    def _change_turns(self, to_s: float, before_s: float) -> None:
        """A turn ends now, and so do all up to `to_s` and before `before_s` until one in which a step ends."""
        queue, left_s = self.queue, self.left_s
        turn_end_s = self.event_s
        while True:
            self.event_s = turn_end_s
            first = queue.pop(0)
            left_s[first] -= turn_end_s - self.computes_from_s
            queue.append(first)
            self.computes_from_s = turn_end_s + self.switch_s
            turn_end_s = self.computes_from_s + self.quantum_s
            ends = self.computes_from_s + left_s[queue[0]] - turn_end_s <= _NEGLIGIBLE_S
            if ends or turn_end_s > to_s or turn_end_s >= before_s:
                break
        self.last = queue[0]

    def _next_turn(self) -> None:
        first = self.queue[0]
        self.computes_from_s = self.event_s + (0.0 if self.last in (None, first) else self.switch_s)
        self.last = first


class Concurrent(_Foreseen):
    """Engines use the GPU together: `caps` has the most that each may have of the SMs, above 0 and at most 1.

    `loss`: the share of speed, 0 to less than 1, that each loses while more than one uses the GPU.
    """

    def __init__(self, caps: Sequence[float], loss: float) -> None:
        super().__init__(_Fluid(tuple(caps), loss))


class _Segment(NamedTuple):
    """How long it lasts alone, and the shares of the bandwidth and of the SMs that it takes then."""

    alone_s: float
    memory: float
    compute: float


@dataclass(slots=True)
class _Flow:
    """A step under way. `pace`: seconds of the segment, as it would be alone, in one second."""

    segment: _Segment
    left_s: float
    rest: tuple[_Segment, ...]
    pace: float = 1.0


class _Fluid:
    """The steps under way, each in a segment of its own."""

    def __init__(self, caps: tuple[float, ...], loss: float) -> None:
        self.caps, self.loss = caps, loss
        self.flows: dict[int, _Flow] = {}
        self.now_s = -math.inf

    def copy(self) -> _Fluid:
        """One that goes its own way."""
        other = _Fluid(self.caps, self.loss)
        other.flows = {engine: _Flow(f.segment, f.left_s, f.rest, f.pace) for engine, f in self.flows.items()}
        other.now_s = self.now_s
        return other

    def begin(self, engine: int, work: Work, now_s: float) -> None:
        """As `Gpu.begin`."""
        self.now_s = now_s
        first, *rest = _segments(work, self.caps[engine])
        self.flows[engine] = _Flow(first, first.alone_s, tuple(rest))  # the host's: nobody else's pace changes

    def run(self, to_s: float) -> tuple[float, int] | None:
        """As `_State.run`."""
        flows = self.flows
        while flows:
            ends_s = {engine: self.now_s + flow.left_s / flow.pace for engine, flow in flows.items()}
            event_s = min(ends_s.values())
            now_s = min(event_s, to_s)
            if (elapsed_s := now_s - self.now_s) > 0:
                for flow in flows.values():
                    flow.left_s = max(0.0, flow.left_s - flow.pace * elapsed_s)
                self.now_s = now_s
            if event_s > to_s:
                return None
            over = []
            for engine, end_s in ends_s.items():
                if end_s <= event_s:
                    flow = flows[engine]
                    flow.left_s = 0.0
                    if flow.rest:
                        flow.segment, *rest = flow.rest
                        flow.left_s, flow.rest = flow.segment.alone_s, tuple(rest)
                    else:
                        over.append(engine)
            self._pace()
            if over:
                return event_s, min(over)
        return None

    def end(self, engine: int, now_s: float) -> None:
        """As `Gpu.end`."""
        self.now_s = now_s
        del self.flows[engine]
        self._pace()

    def _pace(self) -> None:
        on_gpu = [flow for flow in self.flows.values() if flow.segment.memory or flow.segment.compute]
        memory = sum(flow.segment.memory for flow in on_gpu)
        compute = sum(flow.segment.compute for flow in on_gpu)
        whole = 1.0 - self.loss if len(on_gpu) > 1 else 1.0
        for flow in self.flows.values():
            segment = flow.segment
            reads, computes = memory if segment.memory else 0.0, compute if segment.compute else 0.0
            flow.pace = whole / max(1.0, reads, computes) if reads or computes else 1.0


def _segments(work: Work, cap: float) -> list[_Segment]:
    """The host's, and those on the GPU that last at all."""
    segments = [_Segment(work.host_s, 0.0, 0.0)]
    alone_s = max(work.weights_s, work.compute_s / cap)
    if alone_s > 0:
        segments.append(_Segment(alone_s, work.weights_s / alone_s, work.compute_s / alone_s))
    if work.kv_s > 0:
        segments.append(_Segment(work.kv_s, 1.0, 0.0))
    return segments
