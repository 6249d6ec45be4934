"""Parts: the stretches of a phase's measurement, between which tenants join and leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fairshare_locust.profile.model import Tenant

__all__ = ["Part", "measured_parts"]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a phase, `[start_s, end_s)` on the run clock, in which the same tenants are active."""

    name: str
    start_s: float
    end_s: float
    tenants: tuple[str, ...]


def measured_parts(tenants: Sequence[Tenant], start_s: float, measure_s: float, end_s: float) -> tuple[Part, ...]:
    """The measurement `[measure_s, end_s)` of a phase that began at `start_s`, cut wherever a tenant joins or leaves.

    One part is called `measure`; several are `measure-1`, `measure-2` and so on.
    """
    bounds = {measure_s, end_s}
    for tenant in tenants:
        bounds |= {start_s + at for stretch in tenant.arrival.active_s for at in stretch}
    cuts = sorted(at for at in bounds if measure_s <= at <= end_s)
    spans = list(pairwise(cuts))
    return tuple(
        Part(
            "measure" if len(spans) == 1 else f"measure-{number}",
            begins_s,
            ends_s,
            tuple(tenant.id for tenant in tenants if _active(tenant, begins_s - start_s)),
        )
        for number, (begins_s, ends_s) in enumerate(spans, start=1)
    )


def _active(tenant: Tenant, phase_s: float) -> bool:
    """Whether a tenant is active `phase_s` seconds into a phase; a part begins there, give or take a rounding."""
    stretches = tenant.arrival.active_s
    return not stretches or any(begins - 1e-9 <= phase_s < ends - 1e-9 for begins, ends in stretches)
