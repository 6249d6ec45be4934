"""The queue in front of the batch: who comes next, by each policy.

`fcfs` and `priority` rank single sequences; `vtc` and `drr` are fair by tenant, and within a tenant by arrival. Service
is weighted tokens: `INPUT_WEIGHT` for each of a prompt, due when it is admitted for the first time, and `OUTPUT_WEIGHT`
for each of an answer, due when it is there. What a preemption makes the engine compute again is no service, and what it
finds in the prefix cache is one.

U below is the most that can be due to one tenant after it was last chosen: max(w_in · L_input, w_out · M), with
L_input the longest prompt and M the most tokens that fit into a running batch. The engine doesn't reserve room for
answers, so that sequences of one batch may come to more tokens in all than the KV cache holds at once. Here M is what
they may come to: at most `max_num_seqs` times the longest prompt and answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence as Many
from typing import Literal

from fairshare_locust.simulator.sequence import Sequence

__all__ = [
    "DRR_QUANTUM",
    "INPUT_WEIGHT",
    "OUTPUT_WEIGHT",
    "DeficitRoundRobin",
    "Policy",
    "Ranked",
    "Scheduler",
    "VirtualTokenCounter",
    "scheduler_of",
]

Policy = Literal["fcfs", "priority", "vtc", "drr"]

INPUT_WEIGHT = 1
OUTPUT_WEIGHT = 2
DRR_QUANTUM = 1024  # weighted tokens: a prompt of some length, or an answer of half of it


class Scheduler(ABC):
    """Sequences that wait.

    Attributes:
        services: what each tenant was served so far, in weighted tokens.
    """

    def __init__(self) -> None:
        self.services: defaultdict[str, int] = defaultdict(int)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def add(self, sequence: Sequence) -> None:
        """Queue one that has arrived."""

    @abstractmethod
    def put_back(self, sequence: Sequence) -> None:
        """Queue one that was preempted: before all of its tenant or rank that came after it."""

    @abstractmethod
    def remove(self, sequence: Sequence) -> None:
        """Drop one; one that doesn't wait is left alone."""

    @abstractmethod
    def first(self) -> Sequence | None:
        """Who comes next; the same until the queue or a service changes."""

    def take(self) -> Sequence:
        """Take the first out, to be admitted.

        Raises:
            IndexError: nobody waits.
        """
        sequence = self.first()
        if sequence is None:
            raise IndexError("take from an empty queue")
        if not sequence.preemptions:
            self.charge(sequence.tenant, INPUT_WEIGHT * sequence.prompt_tokens)
        self.remove(sequence)
        return sequence

    def charge(self, tenant: str, service: int) -> None:
        """Count what a tenant was served, in weighted tokens."""
        self.services[tenant] += service

    def victim(self, running: Many[Sequence]) -> Sequence:
        """Whom to preempt of those in the batch, in order of admission: the last."""
        return running[-1]


class Ranked(Scheduler):
    """First come, first served; with `by_priority` lower priorities first, and then who came first.

    The order of first admission under first come, first served is that of arrival: nobody overtakes, and the last to
    come is the first to be preempted, so nobody starves. Strict priorities can starve.
    """

    def __init__(self, by_priority: bool = False) -> None:
        super().__init__()
        self._by_priority = by_priority
        self._queue: list[tuple[int, int, Sequence]] = []  # arrivals differ, so sequences are never compared

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, sequence: Sequence) -> None:
        """Queue one, in its place by rank."""
        insort(self._queue, (*self._rank(sequence), sequence))

    put_back = add

    def remove(self, sequence: Sequence) -> None:
        """Drop one; one that doesn't wait is left alone."""
        place = bisect_left(self._queue, self._rank(sequence))
        if place < len(self._queue) and self._queue[place][2] is sequence:
            del self._queue[place]

    def first(self) -> Sequence | None:
        """Who is first in rank."""
        return self._queue[0][2] if self._queue else None

    def victim(self, running: Many[Sequence]) -> Sequence:
        """Whom to preempt: the last in rank."""
        return max(running, key=self._rank)

    def _rank(self, sequence: Sequence) -> tuple[int, int]:
        return (sequence.priority if self._by_priority else 0, sequence.arrival)


class _ByTenant(Scheduler):
    """A queue per tenant, in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, deque[Sequence]] = {}  # of tenants that have someone waiting
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, sequence: Sequence) -> None:
        self._queue(sequence.tenant).append(sequence)
        self._waiting += 1

    def put_back(self, sequence: Sequence) -> None:
        # The last to be admitted is the first to be preempted, so this keeps the order of arrival.
        self._queue(sequence.tenant).appendleft(sequence)
        self._waiting += 1

    def remove(self, sequence: Sequence) -> None:
        queue = self._queues.get(sequence.tenant)
        if queue is None or sequence not in queue:
            return
        queue.remove(sequence)
        self._waiting -= 1
        if not queue:
            del self._queues[sequence.tenant]
            self._leave(sequence.tenant)

    def _queue(self, tenant: str) -> deque[Sequence]:
        queue = self._queues.get(tenant)
        if queue is None:
            self._join(tenant)
            queue = self._queues[tenant] = deque()
        return queue

    @abstractmethod
    def _join(self, tenant: str) -> None:
        """A tenant is about to have someone waiting, after it had nobody."""

    @abstractmethod
    def _leave(self, tenant: str) -> None:
        """Nobody of a tenant waits any more."""


class VirtualTokenCounter(_ByTenant):
    """The waiting tenant with the least counter comes first; its counter grows by what it is served.

    Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024. A tenant that comes back to the queue is
    lifted to the least counter of those waiting, and if nobody waits to that of who left the queue last: it can't save
    up what it didn't ask for. So is one whose sequence is preempted when nobody of it waits.

    The bound proved there: of two tenants that both have someone waiting throughout [t1, t2), W being their services,

        |W_f(t1, t2) - W_g(t1, t2)| ≤ 2 · max(w_in · L_input, w_out · M).
    """

    def __init__(self) -> None:
        super().__init__()
        self._counters: defaultdict[str, int] = defaultdict(int)
        self._last_left: str | None = None

    def first(self) -> Sequence | None:
        """Whose tenant has the least counter; of equals who came first."""
        if not self._queues:
            return None
        heads = (queue[0] for queue in self._queues.values())
        return min(heads, key=lambda head: (self._counters[head.tenant], head.arrival))

    def charge(self, tenant: str, service: int) -> None:
        """Count what a tenant was served, in its counter too."""
        super().charge(tenant, service)
        self._counters[tenant] += service

    def _join(self, tenant: str) -> None:
        if self._queues:
            least = min(self._counters[other] for other in self._queues)
        elif self._last_left is not None:
            least = self._counters[self._last_left]
        else:
            return
        self._counters[tenant] = max(self._counters[tenant], least)

    def _leave(self, tenant: str) -> None:
        self._last_left = tenant


class DeficitRoundRobin(_ByTenant):
    """Tenants take turns; each turn adds a quantum to a tenant's deficit, and is over when there is none left.

    Shreedhar & Varghese, "Efficient Fair Queuing Using Deficit Round-Robin", 1996, for requests whose size isn't known
    until they are over: a tenant whose deficit is above 0 may start another, and what it draws beyond its deficit comes
    off its next turns. A tenant with nobody waiting keeps what it owes and loses what it had left.

    Of two tenants that both have someone waiting throughout [t1, t2):

        |W_f(t1, t2) - W_g(t1, t2)| ≤ quantum + 2 · max(w_in · L_input, w_out · M).

    For the quanta used up differ by at most one, whoever's turn it is, and a debt is at most the U of the module: it
    was none when the tenant was last chosen.

    Args:
        quantum: weighted tokens a turn, at least 1.
    """

    def __init__(self, quantum: int = DRR_QUANTUM) -> None:
        super().__init__()
        self._quantum = quantum
        self._deficits: defaultdict[str, int] = defaultdict(int)
        self._turns: deque[str] = deque()  # tenants that have someone waiting; the first has its turn, or is about to
        self._begun = False  # the first has its quantum

    def first(self) -> Sequence | None:
        """Whose tenant has its turn."""
        if not self._turns:
            return None
        deficits, turns = self._deficits, self._turns
        if self._begun and deficits[turns[0]] <= 0:
            self._end_turn()
        if not self._begun:
            # Rounds in which everybody only pays debts are taken in one go.
            rounds = min(-deficits[tenant] // self._quantum for tenant in turns)
            for tenant in turns:
                deficits[tenant] += rounds * self._quantum
        while True:
            tenant = turns[0]
            if not self._begun:
                deficits[tenant] += self._quantum
                self._begun = True
            if deficits[tenant] > 0:
                return self._queues[tenant][0]
            self._end_turn()

    def charge(self, tenant: str, service: int) -> None:
        """Count what a tenant was served, and take it off its deficit."""
        super().charge(tenant, service)
        self._deficits[tenant] -= service

    def _end_turn(self) -> None:
        self._turns.rotate(-1)
        self._begun = False

    def _join(self, tenant: str) -> None:
        self._turns.append(tenant)

    def _leave(self, tenant: str) -> None:
        if self._turns[0] == tenant:
            self._begun = False
        self._turns.remove(tenant)
        self._deficits[tenant] = min(self._deficits[tenant], 0)


def scheduler_of(policy: Policy) -> Scheduler:
    """An empty queue of such a policy."""
    match policy:
        case "fcfs":
            return Ranked()
        case "priority":
            return Ranked(by_priority=True)
        case "vtc":
            return VirtualTokenCounter()
        case "drr":
            return DeficitRoundRobin()
