"""Plans: profile → profile with other phases. A phase is a stretch in which some tenants offer load, then a drain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile.model import PhaseOptions, Profile, Tenant
from fairshare_locust.profile.transform import scaled_arrival

__all__ = ["LOADS", "PLANS", "Phase", "apply_plan", "phases_of", "slots_of"]

# The loads of a sweep, as factors of the profile's own.
LOADS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, slots=True)
class Phase:
    """Warm-up, measurement and drain with these tenants active. Either `duration_s` or `requests` is None.

    `prefix` goes before the names of its parts on records: `warmup`, `measure`, `drain`.
    """

    prefix: str
    tenants: tuple[str, ...]
    warmup_s: float
    duration_s: float | None
    requests: int | None
    drain_s: float
    load: float = 1.0
    stop_if_slo_breaks: bool = False


def phases_of(profile: Profile) -> tuple[Phase, ...]:
    """The phases of a profile with nothing left open; one with all tenants if it names none."""
    if not profile.phases:
        return (_phase(profile, PhaseOptions(name="all"), ""),)
    return tuple(_phase(profile, options, f"{options.name}/") for options in profile.phases)


def _phase(profile: Profile, options: PhaseOptions, prefix: str) -> Phase:
    run = profile.run
    bounded = options.duration_s is not None or options.requests is not None
    return Phase(
        prefix,
        tuple(tenant.id for tenant in profile.tenants if not options.tenants or tenant.id in options.tenants),
        run.warmup_s if options.warmup_s is None else options.warmup_s,
        options.duration_s if bounded else run.duration_s,
        options.requests if bounded else run.requests,
        run.drain_s if options.drain_s is None else options.drain_s,
        options.load,
        options.stop_if_slo_breaks,
    )


def slots_of(profile: Profile) -> dict[str, int]:
    """The streams that each tenant may have open at once, in whichever phase needs most."""
    phases = phases_of(profile)
    return {
        tenant.id: max(
            (scaled_arrival(tenant.arrival, phase.load).slots for phase in phases if tenant.id in phase.tenants),
            default=1,
        )
        for tenant in profile.tenants
    }


def mixed(profile: Profile) -> Profile:
    """The profile as it is: all tenants at once, unless it names phases of its own."""
    return profile


def solo(profile: Profile) -> Profile:
    """Each tenant alone, one after another."""
    return replace(profile, phases=tuple(_solo(tenant) for tenant in profile.tenants))


def pairs(profile: Profile) -> Profile:
    """Each two tenants together: in each pair both are the other's victim and aggressor."""
    if len(profile.tenants) < 2:
        raise ProfileError(["tenants: found one; the plan 'pairs' needs two at least"])
    return replace(profile, phases=tuple(_pair(one, other) for one, other in combinations(profile.tenants, 2)))


def interference(profile: Profile) -> Profile:
    """Each tenant alone, then each two together, then all."""
    couples = pairs(profile).phases if len(profile.tenants) > 2 else ()
    return replace(profile, phases=(*solo(profile).phases, *couples, PhaseOptions(name="all")))


def noisy_neighbour(profile: Profile) -> Profile:
    """The last tenant joins for the middle third of the measurement, unless tenants come and go already."""
    if any(tenant.arrival.active_s for tenant in profile.tenants):
        return profile
    run = profile.run
    if run.duration_s is None:
        raise ProfileError(["run.requests: the plan noisy_neighbour needs run.duration_s, to take a third of it"])
    *others, last = profile.tenants
    third_s = run.duration_s / 3
    stretch = (run.warmup_s + third_s, run.warmup_s + 2 * third_s)
    return replace(profile, tenants=(*others, replace(last, arrival=replace(last.arrival, active_s=(stretch,)))))


def steps(profile: Profile) -> Profile:
    """All tenants at one load after another, until a tenant's SLO breaks."""
    promised = any(tenant.slo is not None for tenant in profile.tenants)
    return replace(
        profile,
        phases=tuple(PhaseOptions(name=f"load-{load:g}", load=load, stop_if_slo_breaks=promised) for load in LOADS),
    )


def _solo(tenant: Tenant) -> PhaseOptions:
    return PhaseOptions(name=f"solo-{tenant.id}", tenants=(tenant.id,))


def _pair(one: Tenant, other: Tenant) -> PhaseOptions:
    return PhaseOptions(name=f"{one.id}+{other.id}", tenants=(one.id, other.id))


PLANS: dict[str, Callable[[Profile], Profile]] = {
    "mixed": mixed,
    "solo": solo,
    "pairs": pairs,
    "interference": interference,
    "noisy_neighbour": noisy_neighbour,
    "steps": steps,
}


def apply_plan(name: str, profile: Profile) -> Profile:
    """The profile as the plan wants it. Raises ProfileError when both name phases, or the plan can't be made."""
    planned = PLANS[name](profile)
    if profile.phases and planned.phases != profile.phases:
        raise ProfileError(
            [f"phases: the plan {name!r} writes its own; leave them out, or use the plan mixed, which keeps them"]
        )
    return planned
