"""Comparable: which stretches of a run, and of solo runs, show the same tenant alone and beside others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.conditions import Condition, side_of
from analysis.entry import Basis
from analysis.interference import Interference, Observed
from analysis.load import Run
from analysis.slowdown import Side

__all__ = ["Comparable", "comparable", "observe", "solo_warnings"]


@dataclass(frozen=True)
class Comparable:
    """Conditions of one run at one load; all empty where there is nothing to compare.

    Attributes:
        together: where all tenants of the run were there.
        alone: by tenant, where only it was.
        pairs: by two tenants, where only they were; of a run with two tenants that is `together`.
    """

    load: float = 1.0
    together: Condition | None = None
    alone: Mapping[str, Condition] = field(default_factory=dict)
    pairs: Mapping[frozenset[str], Condition] = field(default_factory=dict)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Stretches in which tokens have to be counted."""
        together = () if self.together is None else (self.together,)
        for condition in (*together, *self.alone.values(), *self.pairs.values()):
            yield from condition.cells()


def _surely_below_1(slowdown: Mapping[str, Any]) -> bool:
    high = slowdown["ci95"][1]
    return high is not None and bool(high < 1)


def comparable(found: Sequence[Condition], chosen: Collection[str], elsewhere: Collection[str]) -> Comparable:
    """What can be compared among the conditions of a run: who was there decides, not what a phase is called.

    Args:
        chosen: names of the parts that the headline figures are of: the load is theirs.
        elsewhere: tenants that other runs show alone.
    """
    everybody = frozenset(tenant for condition in found for tenant in condition.tenants)
    several = [condition for condition in found if len(condition.tenants) > 1]
    together = next(
        (one for one in several if one.tenants == everybody and not set(one.parts).isdisjoint(chosen)), None
    )
    if not several:
        return Comparable()
    load = (together or several[-1]).load
    at_load = {condition.tenants: condition for condition in found if condition.load == load}
    alone = {tenant: at_load[one] for tenant in sorted(everybody) if (one := frozenset([tenant])) in at_load}
    if not alone and everybody.isdisjoint(elsewhere):
        return Comparable()
    pairs = {tenants: condition for tenants, condition in at_load.items() if len(tenants) == 2}
    return Comparable(load, together, alone, pairs)


def observe(run: Run, basis: Basis, found: Comparable) -> Observed:
    """Each tenant's requests and tokens alone and beside others; a solo run goes before a phase of this run.

    `basis.table` has the ends of `found.spans()` among its edges.
    """
    codes = {tenant.id: code for code, tenant in enumerate(basis.profile.tenants)}

    def side(tenant: str, condition: Condition) -> Side:
        tokens = basis.table.in_spans(condition.cells())[codes[tenant]]
        seed = run.info.get("seed")
        return side_of(basis.requests, basis.latencies, codes[tenant], condition, tokens, seed)

    solo = {tenant: side(tenant, condition) for tenant, condition in found.alone.items()}
    names = {tenant: condition.name(run.path.name) for tenant, condition in found.alone.items()}
    for tenant, by_load in run.solo.sides.items():
        if found.load in by_load:
            solo[tenant], names[tenant] = by_load[found.load], run.solo.names[tenant]
    together = found.together
    there = () if together is None else [tenant for tenant in codes if tenant in together.tenants]
    return Observed(
        tenants=tuple(codes),
        solo=solo,
        shared={tenant: side(tenant, together) for tenant in there if together is not None},
        beside={
            (victim, aggressor): side(victim, condition)
            for tenants, condition in found.pairs.items()
            for victim in tenants
            for aggressor in tenants - {victim}
        },
        solo_names={tenant: names[tenant] for tenant in codes if tenant in names},
        shared_name=None if together is None else together.name(run.path.name),
    )


def solo_warnings(run: Run, observed: Observed, slowed: Interference | None, load: float) -> Iterator[str]:
    """What keeps the comparison with tenants alone from being whole, or from being fair."""
    yield from run.solo.warnings
    if slowed is not None:
        sooner = [
            tenant
            for tenant, entry in slowed.content["tenants"].items()
            if tenant not in run.solo.sides and _surely_below_1(entry["slowdown"]["ttft_scheduled_ms"]["p50"])
        ]
        if sooner:
            yield (
                f"first tokens of {', '.join(sooner)} came sooner beside others than alone: the phases of this run "
                "send the same prompts, and later ones find them in the prefix cache; compare with a run of each alone "
                "(--solo), or switch prefix caching off"
            )
    for tenant in [name for name in observed.shared if name in observed.solo]:
        lost = int(np.isnan(observed.shared[tenant].latencies_ms["e2e_scheduled_ms"]).sum())
        if lost:
            yield (
                f"{lost:,} of {len(observed.shared[tenant].due_ns):,} requests of {tenant} had no end-to-end time "
                "beside others: they failed, or got no token; its slowdown and "
                "leakage are of the rest, and may be too low"
            )
    for tenant in [name for name in observed.shared if name not in observed.solo] if observed.solo else ():
        at_load = "" if load == 1 else f" at load {load:g}"
        yield f"{tenant} never ran alone{at_load}: no slowdown of it, and none of the figures that sum over all tenants"
