"""What a run has lost with a load process that did not come to its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from fairshare_locust.arrival import arrival_queue, shares
from fairshare_locust.parts import PhaseTimes
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.trace import TraceRows, row_times

__all__ = ["Loss", "Recorded", "lost_share", "recorded_by"]

Recorded = Mapping[tuple[str, str], set[int]]
"""Indices on record, by phase prefix and tenant id."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is missing of a tenant: requests that were due (None: of a closed loop nobody knows), and for how long."""

    requests: int | None
    seconds: float

    def __str__(self) -> str:
        requests = "an unknown number of requests" if self.requests is None else f"{self.requests:,} requests"
        return f"{requests} in {self.seconds:.1f} s"


def recorded_by(requests: Path, workers: Iterable[int]) -> dict[int, dict[tuple[str, str], set[int]]]:
    """What these load processes have on record, by worker. Reads the whole file."""
    found: dict[int, dict[tuple[str, str], set[int]]] = {worker: {} for worker in workers}
    with open(requests, "rb") as lines:
        for line in lines:
            record = orjson.loads(line)
            if record["worker"] in found:
                key = (record["phase"].rpartition("/")[0], record["tenant"])
                found[record["worker"]].setdefault(key, set()).add(record["index"])
    return found


def lost_share(
    profile: Profile,
    traces: Mapping[str, TraceRows],
    phases: Iterable[tuple[int, float, float]],
    worker: int,
    workers: int,
    since_s: float,
    recorded: Recorded,
) -> dict[str, Loss]:
    """What is missing of a worker that was last heard of at `since_s`, by the tenants that miss anything.

    Args:
        phases: number, start and end of the load, in seconds on the run clock, of each that has begun.
        recorded: what this worker has on record.
    """
    plan = phases_of(profile)
    lost: dict[str, Loss] = {}
    for number, start_s, end_s in phases:
        times = PhaseTimes(profile, plan[number], start_s)
        end_s = min(end_s, times.window.end_s)
        for tenant in times.tenants:
            arrival = scaled_arrival(tenant.arrival, plan[number].load)
            share = shares(tenant.id, arrival, workers)[worker]
            if not share.slots:
                continue
            seconds = max(0.0, end_s - max(start_s, since_s))
            missing: int | None = None
            if not isinstance(arrival, ClosedArrival | BatchArrival):
                window = replace(times.window, end_s=end_s)
                row = row_times(tenant, traces)
                queue = arrival_queue(arrival, profile.seed, tenant.id, window, times=row, share=share)
                known = recorded.get((plan[number].prefix.rstrip("/"), tenant.id), set())
                missing = sum(due.index not in known for due in queue.untaken())
            if seconds > 0 or missing:
                lost[tenant.id] = _added(lost.get(tenant.id), Loss(missing, seconds))
    return lost


def _added(one: Loss | None, other: Loss) -> Loss:
    if one is None:
        return other
    unknown = one.requests is None or other.requests is None
    requests = None if unknown else (one.requests or 0) + (other.requests or 0)
    return Loss(requests, one.seconds + other.seconds)
