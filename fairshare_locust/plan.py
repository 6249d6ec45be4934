"""Plans: the phases of a run. A phase is a stretch in which some tenants offer load, with a drain after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairshare_locust.profile.model import Profile

__all__ = ["PLANS", "Phase", "mixed", "solo"]


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


def mixed(profile: Profile) -> tuple[Phase, ...]:
    """All tenants at once."""
    return (_phase(profile, "", tuple(tenant.id for tenant in profile.tenants)),)


def solo(profile: Profile) -> tuple[Phase, ...]:
    """Each tenant alone, one after another."""
    return tuple(_phase(profile, f"solo-{tenant.id}/", (tenant.id,)) for tenant in profile.tenants)


def _phase(profile: Profile, prefix: str, tenants: tuple[str, ...]) -> Phase:
    run = profile.run
    return Phase(prefix, tenants, run.warmup_s, run.duration_s, run.requests, run.drain_s)


PLANS: dict[str, Callable[[Profile], tuple[Phase, ...]]] = {"mixed": mixed, "solo": solo}
