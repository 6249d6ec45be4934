"""Profile → profile: what the command line changes in it."""

from __future__ import annotations

import math
from dataclasses import replace

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile.arrivals import Arrival, ClosedArrival
from fairshare_locust.profile.model import Profile

__all__ = ["scaled", "with_duration", "with_endpoint", "with_slots"]


def scaled(profile: Profile, factor: float) -> Profile:
    """Every rate times `factor`; slots too, rounded up, and never fewer than one."""

    def scale(arrival: Arrival) -> Arrival:
        slots = max(1, math.ceil(arrival.slots * factor - 1e-9))
        if isinstance(arrival, ClosedArrival):
            return replace(arrival, concurrency=slots)
        return replace(arrival, rate_per_s=arrival.rate_per_s * factor, max_in_flight=slots)

    return replace(profile, tenants=tuple(replace(t, arrival=scale(t.arrival)) for t in profile.tenants))


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

    def resize(arrival: Arrival, share: int) -> Arrival:
        if isinstance(arrival, ClosedArrival):
            return replace(arrival, concurrency=share)
        return replace(arrival, max_in_flight=share)

    tenants = tuple(
        replace(tenant, arrival=resize(tenant.arrival, share))
        for tenant, share in zip(profile.tenants, shares, strict=True)
    )
    return replace(profile, tenants=tenants)


def with_duration(profile: Profile, duration_s: float) -> Profile:
    """Measured for `duration_s`, whatever the profile said."""
    return replace(profile, run=replace(profile.run, duration_s=duration_s, requests=None))


def with_endpoint(profile: Profile, url: str) -> Profile:
    """Every tenant sends to `url`, a server that runs already."""
    return replace(
        profile,
        deployment=replace(profile.deployment, engine="external"),
        tenants=tuple(replace(tenant, endpoint=(url,)) for tenant in profile.tenants),
    )
