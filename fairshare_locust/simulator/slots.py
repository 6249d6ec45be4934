"""A tenant's slots in virtual time: each holds one request at a time, as a Locust user does in a run.

They take from the same queue and the same prompts, so they send the same requests at the same times wherever that does
not hang on the server's speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fairshare_locust.arrival import REST_AFTER_FAILURE_S, Arrival, ArrivalQueue, RowTimes, Share, arrival_queue
from fairshare_locust.parts import PhaseTimes
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival
from fairshare_locust.profile.model import Tenant
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.record.record import Outcome
from fairshare_locust.simulator.engine import Sequence
from fairshare_locust.simulator.prompts import Blocks
from fairshare_locust.simulator.token_times import Stretch
from fairshare_locust.workload import PromptRequest, PromptSource

__all__ = ["Flight", "Held", "TenantSlots"]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A request that a slot has taken. `before`: the blocks of the turn before; None if it opens a conversation."""

    arrival: Arrival
    request: PromptRequest
    before: Blocks | None = None


@dataclass(slots=True, eq=False)
class Flight:
    """A request that was sent, `sent_s` on the run clock, to the engine of a part.

    Attributes:
        scheduled_s: the first step that it took part in began; None before.
        begun: the number of the step that gave the first token of the present stretch; -1 while none goes on.
        stretches: those before it.
    """

    slots: TenantSlots
    slot: int
    held: Held
    sha: str
    prompt_tokens: int
    blocks: Blocks
    part: int
    sent_s: float
    sequence: Sequence | None = None
    scheduled_s: float | None = None
    begun: int = -1
    stretches: list[Stretch] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Tokens in the stretches that are over."""
        return sum(last - first + 1 for first, last in self.stretches)


class TenantSlots:
    """Deals a tenant's requests to its slots, phase by phase.

    Attributes:
        scheduled: requests that were due.
    """

    def __init__(
        self,
        tenant: Tenant,
        seed: int,
        prompts: PromptSource,
        times: RowTimes | None,
        most: int,
        on_held: Callable[[TenantSlots, int, Held], None],
        on_unsent: Callable[[TenantSlots, Held, Outcome, str, float], None],
    ) -> None:
        """`most` slots in whichever phase has most.

        `on_held` is told of each request that a slot will send when it is due, and sends it with `send` then;
        `on_unsent` of each that is not, with why, and when that was settled.
        """
        self.tenant = tenant
        self.scheduled = 0
        self._seed = seed
        self._prompts = prompts
        self._times = times
        self._on_held = on_held
        self._on_unsent = on_unsent
        self._queue: ArrivalQueue | None = None
        self._slots = 0
        self._gate = list(range(most))  # slots that have been told there is nothing
        self._opened = False
        self._served: set[int] = set()
        self._held: dict[int, Held] = {}
        self._next_turns: dict[int, Held] = {}
        self._rested_s: dict[int, float] = {}  # until when a slot of a closed loop rests

    @property
    def waiting(self) -> int:
        """Requests that a slot has taken and not sent."""
        return len(self._held)

    def begin(self, times: PhaseTimes, now_s: float) -> ArrivalQueue:
        """A phase begins: its queue. Slots ask at once."""
        arrival = scaled_arrival(self.tenant.arrival, times.phase.load)
        share = Share(arrival.slots)
        queue = arrival_queue(arrival, self._seed, self.tenant.id, times.window, times=self._times, share=share)
        queue.on_release = self._open
        self._queue, self._slots = queue, arrival.slots
        self._served.clear()
        self._next_turns.clear()
        gate, self._gate = sorted(self._gate), []
        self._ask(gate, now_s)
        return queue

    def _open(self) -> None:
        self._opened = True

    def _ask(self, slots: Iterable[int], now_s: float) -> None:
        """Each takes its next request, or waits at the gate; whoever is called from there comes first."""
        asking = deque(slots)
        while asking:
            slot = asking.popleft()
            held = self._take(slot, now_s)
            if held is None:
                self._gate.append(slot)
            else:
                self._held[slot] = held
                self._on_held(self, slot, held)
            if self._opened:
                self._opened = False
                asking.extendleft(reversed(self._gate))
                self._gate.clear()

    def _take(self, slot: int, now_s: float) -> Held | None:
        if slot >= self._slots or self._queue is None:
            return None
        turn = self._next_turns.pop(slot, None)
        if turn is not None and self._queue.admits(turn.arrival.due_s):
            self.scheduled += 1
            return turn
        free_s = max(now_s, self._rested_s.get(slot, 0.0))
        while (arrival := self._queue.take(free_s, first=slot not in self._served)) is not None:
            self.scheduled += 1
            self._served.add(slot)
            held = Held(arrival, self._prompts.request(arrival.index))
            if not arrival.shed:
                return held
            self._on_unsent(self, held, "shed", "no slot was free when it was due", arrival.due_s)
        return None

    def send(self, slot: int, held: Held) -> bool:
        """The slot's request is due; False if it is not to be sent any more."""
        if self._held.get(slot) is not held:
            return False
        del self._held[slot]
        return True

    def ended(self, flight: Flight, outcome: Outcome, output_tokens: int, now_s: float) -> None:
        """A slot's request is over; the slot asks for another."""
        held = flight.held
        if outcome == "ok":
            if held.request.turn is not None:
                self._continue(flight, output_tokens, now_s)
        elif isinstance(self.tenant.arrival, ClosedArrival | BatchArrival):
            self._rested_s[flight.slot] = flight.sent_s + REST_AFTER_FAILURE_S
        self._ask((flight.slot,), now_s)

    def _continue(self, flight: Flight, output_tokens: int, now_s: float) -> None:
        """The next turn of a conversation, if there is one. What was answered is not in its text, only its length."""
        index = flight.held.arrival.index
        turn = self._prompts.follow_up(index, flight.held.request, "", output_tokens)
        if turn is not None:
            self._next_turns[flight.slot] = Held(Arrival(index, now_s + turn.think_s), turn.request, flight.blocks)

    def end(self, why: str, now_s: float) -> None:
        """The phase is over: what was due and not sent is cancelled."""
        if self._queue is None:
            return
        for held in self._held.values():
            self._on_unsent(self, held, "cancelled", why, now_s)
        self._gate += self._held
        self._held.clear()
        for held in self._untaken(self._queue):
            self._on_unsent(self, held, "cancelled", f"{why}; no slot was free", max(now_s, held.arrival.due_s))
        self._queue = None

    def _untaken(self, queue: ArrivalQueue) -> Iterator[Held]:
        for arrival in queue.untaken():
            self.scheduled += 1
            yield Held(arrival, self._prompts.request(arrival.index))
