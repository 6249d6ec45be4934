"""Parts: the stretches of a phase's measurement, between which tenants join and leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fairshare_locust.arrival import Window
from fairshare_locust.plan import Phase
from fairshare_locust.profile.model import Profile, Tenant

__all__ = ["LoadSpan", "Part", "PhaseTimes", "absences", "measured_parts", "open_part", "present", "window_end"]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a phase, `[start_s, end_s)` on the run clock, in which the same tenants are active."""

    name: str
    start_s: float
    end_s: float
    tenants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadSpan:
    """The stretch of a phase, by its number in the plan, in which load was offered, on the run clock."""

    number: int
    start_s: float
    end_s: float


class PhaseTimes:
    """When a phase that begins at `start_s` on the run clock warms up, measures and ends.

    Attributes:
        tenants: those who take part.
        window: the stretch in which they offer load.
        parts: of the measurement, see `measured_parts`.
    """

    def __init__(self, profile: Profile, phase: Phase, start_s: float) -> None:
        self.phase = phase
        self.tenants = tuple(tenant for tenant in profile.tenants if tenant.id in phase.tenants)
        measure_s = start_s + phase.warmup_s
        end_s = math.inf if phase.duration_s is None else measure_s + phase.duration_s
        self.window = Window(start_s, measure_s, end_s, phase.requests)
        self.parts = measured_parts(self.tenants, start_s, phase.warmup_s, phase.duration_s)

    @property
    def warmup(self) -> Part | None:
        """What goes before the measurement; None if nothing does."""
        if self.phase.warmup_s == 0:
            return None
        warming = tuple(tenant.id for tenant in self.tenants if present(tenant, 0.0, self.phase.warmup_s))
        return Part("warmup", self.window.start_s, self.window.measure_s, warming)

    def name_at(self, due_s: float, exhausted_s: float = math.inf) -> str:
        """The part that holds a time, as records name it; `exhausted_s` ends a phase of a number of requests."""
        if due_s < self.window.measure_s:
            return self.phase.prefix + "warmup"
        if due_s >= exhausted_s:
            return self.phase.prefix + "drain"
        return self.phase.prefix + next((part.name for part in self.parts if due_s < part.end_s), "drain")


def measured_parts(
    tenants: Sequence[Tenant], start_s: float, warmup_s: float, duration_s: float | None
) -> tuple[Part, ...]:
    """The measurement of a phase that began at `start_s`, cut wherever a tenant joins or leaves.

    One part is called `measure`; several are `measure-1`, `measure-2` and so on. Without `duration_s` the end is not
    known: inf.
    """
    ends_s = math.inf if duration_s is None else warmup_s + duration_s
    # Reckoned in the phase's own seconds: on the run clock, equal times would differ by a rounding.
    bounds = {at for tenant in tenants for stretch in tenant.arrival.active_s for at in stretch}
    cuts = sorted({warmup_s, ends_s, *(at for at in bounds if warmup_s < at < ends_s)})
    spans = list(pairwise(cuts))
    return tuple(
        Part(
            "measure" if len(spans) == 1 else f"measure-{number}",
            start_s + begins_s,
            start_s + ends_s,
            tuple(tenant.id for tenant in tenants if present(tenant, begins_s, ends_s)),
        )
        for number, (begins_s, ends_s) in enumerate(spans, start=1)
    )


def present(tenant: Tenant, begins_s: float, ends_s: float) -> bool:
    """Whether a tenant is active at some time in `[begins_s, ends_s)` of a phase."""
    stretches = tenant.arrival.active_s
    return not stretches or any(begin < ends_s and begins_s < end for begin, end in stretches)


def absences(profile: Profile, phases: Sequence[Phase]) -> list[str]:
    """What to tell a user of tenants that take part in a phase and are never active while it is measured."""
    return [
        f"tenant {tenant.id!r} is never active while {phase.prefix.rstrip('/') or 'the run'} is measured, "
        f"{phase.warmup_s:g} to {phase.warmup_s + phase.duration_s:g} s: its active_s are "
        f"{', '.join(f'[{begin:g}, {end:g}]' for begin, end in tenant.arrival.active_s)}"
        for phase in phases
        for tenant in profile.tenants
        if tenant.id in phase.tenants
        and phase.duration_s is not None
        and not present(tenant, phase.warmup_s, phase.warmup_s + phase.duration_s)
    ]


def open_part(parts: list[dict[str, Any]], phase: Phase, part: Part, *, measured: bool) -> None:
    """A part of a phase begins, as `phases` of `run.json` has it; the one before it ends, if it has not."""
    start_s = round(part.start_s, 6)
    if parts and parts[-1]["end_s"] is None:
        parts[-1]["end_s"] = start_s
    parts.append(
        {
            "name": phase.prefix + part.name,
            "start_s": start_s,
            "end_s": None,
            "measured": measured,
            "tenants": list(part.tenants),
            "load": phase.load,
        }
    )


def window_end(exhausted_s: Mapping[str, float | None], requests: int | None, now_s: float) -> tuple[float, str | None]:
    """When the window of a number of requests ends: once the first tenant has had its own. And what to tell of it.

    Args:
        exhausted_s: by tenant id; None of one that has not had its number.
    """
    known_s = {tenant_id: end_s for tenant_id, end_s in exhausted_s.items() if end_s is not None}
    if not known_s:
        return now_s, None
    first = min(known_s, key=known_s.__getitem__)
    note = None
    if max(known_s.values()) > known_s[first]:
        note = (
            f"tenant {first!r} had its {requests} requests first, {known_s[first]:.1f} s after t = 0; the "
            "window ends there, with fewer requests of the others in it"
        )
    return min(known_s[first], now_s), note
