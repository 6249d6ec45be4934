"""What a run has lost with a load process that did not come to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import orjson

from fairshare_locust.arrival import Arrival, Share, arrival_queue, shares
from fairshare_locust.parts import LoadSpan, PhaseTimes
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival
from fairshare_locust.profile.model import Tenant
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.trace import TraceRows, row_times

__all__ = ["Loss", "Recorded", "due_by_schedule", "lost_share", "recorded_by"]

_TOLD_FROM_S = 0.05


@dataclass(slots=True)
class Recorded:
    """What a worker has on record: indices by phase prefix and tenant id, and the number of records by tenant id.

    All turns of a conversation have one index.
    """

    indices: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Loss:
    """What is missing of a tenant: requests that were due (None: of a closed loop nobody knows), and for how long."""

    requests: int | None
    seconds: float

    def __str__(self) -> str:
        requests = "an unknown number of requests" if self.requests is None else f"{self.requests:,} requests"
        return f"{requests} in {self.seconds:.1f} s"


def recorded_by(lines: Iterable[bytes], workers: Iterable[int]) -> dict[int, Recorded]:
    """What these load processes have on record, by worker, of all records as JSON."""
    found = {worker: Recorded() for worker in workers}
    for line in lines:
        record = orjson.loads(line)
        if (own := found.get(record["worker"])) is not None:
            key = (record["phase"].rpartition("/")[0], record["tenant"])
            own.indices.setdefault(key, set()).add(record["index"])
            own.counts[record["tenant"]] += 1
    return found


def lost_share(
    profile: Profile,
    traces: Mapping[str, TraceRows],
    spans: Iterable[LoadSpan],
    worker: int,
    workers: int,
    since_s: float,
    recorded: Recorded,
) -> dict[str, Loss]:
    """What is missing of a worker that was last heard of at `since_s`, by the tenants that miss anything.

    Args:
        spans: of each phase that has begun.
        recorded: what this worker has on record.
    """
    plan = phases_of(profile)
    lost: dict[str, Loss] = {}
    for span in spans:
        times = PhaseTimes(profile, plan[span.number], span.start_s)
        for tenant in times.tenants:
            arrival = scaled_arrival(tenant.arrival, times.phase.load)
            share = shares(tenant.id, arrival, workers)[worker]
            if not share.slots:
                continue
            seconds = max(0.0, span.end_s - max(span.start_s, since_s))
            missing: int | None = None
            if not isinstance(arrival, ClosedArrival | BatchArrival):
                known = recorded.indices.get((times.phase.prefix.rstrip("/"), tenant.id), set())
                missing = sum(due.index not in known for due in _due(profile, traces, tenant, times, span, share))
            if missing or seconds >= _TOLD_FROM_S:
                lost[tenant.id] = _added(lost.get(tenant.id), Loss(missing, seconds))
    return lost


def due_by_schedule(profile: Profile, traces: Mapping[str, TraceRows], spans: Iterable[LoadSpan]) -> dict[str, int]:
    """What the schedules of the open-loop tenants had due in the phases' loads, by tenant id.

    Of conversations it is their first turns.
    """
    plan = phases_of(profile)
    counts: dict[str, int] = {}
    for span in spans:
        times = PhaseTimes(profile, plan[span.number], span.start_s)
        for tenant in times.tenants:
            if not isinstance(tenant.arrival, ClosedArrival | BatchArrival):
                due = sum(1 for _ in _due(profile, traces, tenant, times, span, None))
                counts[tenant.id] = counts.get(tenant.id, 0) + due
    return counts


def _due(
    profile: Profile,
    traces: Mapping[str, TraceRows],
    tenant: Tenant,
    times: PhaseTimes,
    span: LoadSpan,
    share: Share | None,
) -> Iterator[Arrival]:
    """What an open-loop tenant's schedule had due in a span, in all or of a share."""
    arrival = scaled_arrival(tenant.arrival, times.phase.load)
    window = replace(times.window, end_s=min(span.end_s, times.window.end_s))
    part = {} if share is None else {"share": share}
    queue = arrival_queue(arrival, profile.seed, tenant.id, window, times=row_times(tenant, traces), **part)
    return queue.untaken()


def _added(one: Loss | None, other: Loss) -> Loss:
    if one is None:
        return other
    unknown = one.requests is None or other.requests is None
    requests = None if unknown else (one.requests or 0) + (other.requests or 0)
    return Loss(requests, one.seconds + other.seconds)
