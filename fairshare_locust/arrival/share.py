"""Shares: the part of a tenant's load that each of several load processes makes. All parts together are the whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fairshare_locust.profile.arrivals import Arrival as ArrivalProcess
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival

__all__ = ["Share", "shares"]


@dataclass(frozen=True, slots=True)
class Share:
    """A load process's part of a tenant: `slots` streams, and the requests with these indices.

    Its indices are those that leave one of `residues` (ascending) when divided by `modulus`.
    """

    slots: int
    residues: tuple[int, ...] = (0,)
    modulus: int = 1

    def index(self, nth: int) -> int:
        """Its nth index, from 0, in rising order."""
        rounds, place = divmod(nth, len(self.residues))
        return rounds * self.modulus + self.residues[place]

    def count_below(self, end: int) -> int:
        """How many of its indices are smaller than `end`."""
        rounds, rest = divmod(end, self.modulus)
        return rounds * len(self.residues) + sum(residue < rest for residue in self.residues)


def shares(tenant_id: str, arrival: ArrivalProcess, processes: int) -> tuple[Share, ...]:
    """The share of each of so many load processes, by its number.

    Slots are dealt evenly; who has one more than others differs by tenant. Process i of n makes the requests with
    index ≡ i modulo n, of an open loop; one with fewer slots than processes is dealt in the same way to those that
    have a slot. Of a closed loop each process makes requests in proportion to its slots, so that a number of requests
    ends everywhere at about the same time. Batches can't be split: one process makes them all. More slots in a later
    phase are never fewer for anybody.
    """
    first = int.from_bytes(hashlib.sha256(tenant_id.encode()).digest()[:8], "big") % processes
    total = arrival.slots
    if isinstance(arrival, BatchArrival):
        return tuple(Share(total) if process == first else _NONE for process in range(processes))
    slots = [total // processes + ((process - first) % processes < total % processes) for process in range(processes)]
    if isinstance(arrival, ClosedArrival):
        return tuple(_closed(slots, process) if slots[process] else _NONE for process in range(processes))
    there = [process for process in range(processes) if slots[process]]
    return tuple(
        Share(slots[process], (there.index(process),), len(there)) if slots[process] else _NONE
        for process in range(processes)
    )


_NONE = Share(0, (), 1)


def _closed(slots: list[int], process: int) -> Share:
    """Every slot stands for one residue: first one for each process that has any, then the second ones, and so on."""
    rounds = [(turn, other) for other, count in enumerate(slots) for turn in range(count)]
    residues = tuple(place for place, (_, owner) in enumerate(sorted(rounds)) if owner == process)
    return Share(slots[process], residues, sum(slots))
