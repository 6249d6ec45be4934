"""Profile → profile: what the command line changes in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile.arrivals import (
    Arrival,
    BatchArrival,
    ClosedArrival,
    OnOffArrival,
    RampArrival,
    StepsArrival,
    TraceArrival,
)
from fairshare_locust.profile.model import Profile
from fairshare_locust.profile.traces import Trace

__all__ = ["only_tenants", "scaled", "scaled_arrival", "with_duration", "with_endpoint", "with_slots"]


def scaled(profile: Profile, factor: float) -> Profile:
    """Every rate times `factor`; slots too, rounded up, and never fewer than one."""
    tenants = tuple(replace(tenant, arrival=scaled_arrival(tenant.arrival, factor)) for tenant in profile.tenants)
    return replace(profile, tenants=tenants)


def scaled_arrival(arrival: Arrival, factor: float) -> Arrival:
    """The same process with every rate times `factor`; slots too, rounded up, and never fewer than one.

    Times, such as those of a ramp, of a burst or of thinking, stay.
    """
    arrival = _with_slots(arrival, max(1, math.ceil(arrival.slots * factor - 1e-9)))
    match arrival:
        case ClosedArrival() | BatchArrival():
            return arrival
        case OnOffArrival():
            return replace(
                arrival,
                rate_per_s=arrival.rate_per_s * factor,
                off_rate_per_s=arrival.off_rate_per_s * factor,
            )
        case RampArrival():
            return replace(arrival, from_per_s=arrival.from_per_s * factor, to_per_s=arrival.to_per_s * factor)
        case StepsArrival():
            steps = tuple(replace(step, rate_per_s=step.rate_per_s * factor) for step in arrival.steps)
            return replace(arrival, steps=steps)
        case TraceArrival():
            if arrival.rate_per_s is None:
                return replace(arrival, speed=arrival.speed * factor)
            return replace(arrival, rate_per_s=arrival.rate_per_s * factor)
        case _:
            return replace(arrival, rate_per_s=arrival.rate_per_s * factor)


def _with_slots(arrival: Arrival, slots: int) -> Arrival:
    match arrival:
        case ClosedArrival():
            return replace(arrival, concurrency=slots)
        case BatchArrival():
            return replace(arrival, size=slots)
        case _:
            return replace(arrival, max_in_flight=slots)


def with_slots(profile: Profile, slots: int) -> Profile:
    """`slots` in all, shared out in proportion to the profile's (largest remainder), one at least for each tenant.

    Raises ProfileError when there are fewer slots than tenants.
    """
    if slots < len(profile.tenants):
        raise ProfileError(
            [f"users (-u): found {slots}; must be at least {len(profile.tenants)}, a slot for each of the tenants"]
        )
    exact = [tenant.arrival.slots * slots / profile.slots for tenant in profile.tenants]
    shares = [max(1, math.floor(share)) for share in exact]
    while sum(shares) < slots:
        most_owed = max(range(len(shares)), key=lambda i: exact[i] - shares[i])
        shares[most_owed] += 1
    while sum(shares) > slots:  # tenants lifted to one slot: those with most to spare give
        least_owed = min((i for i in range(len(shares)) if shares[i] > 1), key=lambda i: exact[i] - shares[i])
        shares[least_owed] -= 1

    tenants = tuple(
        replace(tenant, arrival=_with_slots(tenant.arrival, share))
        for tenant, share in zip(profile.tenants, shares, strict=True)
    )
    return replace(profile, tenants=tenants)


def only_tenants(profile: Profile, class_names: set[str]) -> Profile:
    """The profile with the tenants whose user classes are named; phases that were for others alone vanish.

    A phase whose tenants now have no SLO that could break stops nothing.
    """
    tenants = tuple(tenant for tenant in profile.tenants if tenant.class_name in class_names)
    phases = []
    for phase in profile.phases:
        there = [tenant for tenant in tenants if not phase.tenants or tenant.id in phase.tenants]
        ids = {tenant.id for tenant in there}
        if there:
            phases.append(
                replace(
                    phase,
                    tenants=tuple(tenant_id for tenant_id in phase.tenants if tenant_id in ids),
                    stop_if_slo_breaks=phase.stop_if_slo_breaks and any(tenant.slo for tenant in there),
                )
            )
    kept = tuple(phases)
    if profile.phases and not kept:
        raise ProfileError([f"phases: none is left with {', '.join(sorted(class_names))} alone"])
    chosen = {tenant.id for tenant in tenants}
    traces = tuple(_without_others(trace, chosen) for trace in profile.traces)
    server, simulator = profile.deployment.server, profile.deployment.simulator
    deployment = replace(
        profile.deployment,
        server=replace(server, **_of_chosen(server.by_tenant, chosen)),
        simulator=replace(simulator, **_of_chosen(simulator.by_tenant, chosen)),
    )
    return replace(profile, tenants=tenants, phases=kept, traces=traces, deployment=deployment)


def _of_chosen(by_tenant: Mapping[str, Mapping[str, object]], chosen: set[str]) -> dict[str, Any]:
    return {
        key: {tenant: value for tenant, value in given.items() if tenant in chosen} for key, given in by_tenant.items()
    }


def _without_others(trace: Trace, chosen: set[str]) -> Trace:
    """The same rows for the same tenants; those of the others go to nobody."""
    shares = () if trace.assign is None else tuple(trace.assign.shares)
    return replace(trace, others=tuple(dict.fromkeys((*trace.others, *(id_ for id_ in shares if id_ not in chosen)))))


def with_duration(profile: Profile, duration_s: float) -> Profile:
    """Measured for `duration_s`, each phase too, whatever the profile said."""
    return replace(
        profile,
        run=replace(profile.run, duration_s=duration_s, requests=None),
        phases=tuple(replace(phase, duration_s=duration_s, requests=None) for phase in profile.phases),
    )


def with_endpoint(profile: Profile, url: str) -> Profile:
    """Every tenant sends to `url`, a server that runs already."""
    return replace(
        profile,
        deployment=replace(profile.deployment, engine="external"),
        tenants=tuple(replace(tenant, endpoint=(url,)) for tenant in profile.tenants),
    )
