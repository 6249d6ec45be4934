"""Interference: what tenants on one GPU do to each other, beside what each of them is alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fairness import jain
from analysis.slowdown import Interval, Ratio, Side, Slowdown, slowdowns, throughput_ratio

__all__ = [
    "LATENCY",
    "PERCENTILE",
    "Interference",
    "Leakage",
    "Observed",
    "interference",
    "isolation_leakage",
    "jain_progress",
    "sharing_efficiency",
]

LATENCY, PERCENTILE = "e2e_scheduled_ms", "p95"
"""The slowdown that stands for a tenant in the matrix, in isolation leakage and in jain_progress."""


@dataclass(frozen=True)
class Leakage:
    """Isolation leakage; `victim` is the tenant that it is of. `value` is None where the slowdown is undefined."""

    value: float | None = None
    ci95: Interval = (None, None)
    victim: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {"value": self.value, "ci95": list(self.ci95)}


def isolation_leakage(slowdown_of: Mapping[str, Ratio]) -> Leakage:
    """`1 - 1/slowdown` of the tenant with the largest slowdown; 0: nobody suffers, near 1: somebody stands still.

    Below 0 where even the worst is faster beside others than alone. The interval is the victim's own: that another
    tenant might be the worst is not part of it.

    Args:
        slowdown_of: by tenant; one whose slowdown is undefined or 0 takes no part.
    """
    known = {tenant: ratio.value for tenant, ratio in slowdown_of.items() if ratio.value}
    if not known:
        return Leakage()
    victim = max(known, key=lambda tenant: known[tenant])
    low, high = slowdown_of[victim].ci95
    return Leakage(1 - 1 / known[victim], (_leaked(low), _leaked(high)), victim)


def _leaked(slowdown: float | None) -> float | None:
    return 1 - 1 / slowdown if slowdown else None


def sharing_efficiency(ratios: Sequence[Ratio]) -> Ratio:
    """Sum over tenants of throughput beside others / alone: 1 = no better than taking turns, above: sharing pays.

    Undefined without tenants, or where a tenant's ratio is. The tenants' replicates are added as they stand: those of
    the shared side are of the same draw of its cells.
    """
    values = [ratio.value for ratio in ratios]
    if not values or None in values:
        return Ratio(None, np.empty(0))
    total = float(sum(value for value in values if value is not None))
    return Ratio(total, np.sum([ratio.replicates for ratio in ratios], axis=0))


def jain_progress(slowdown_of: Sequence[Ratio]) -> Ratio:
    """Jain's index over `1 / slowdown`, not divided by weight; 1: all are slowed down alike.

    Undefined without tenants, or where a tenant's slowdown is undefined or 0.
    """
    values = [ratio.value for ratio in slowdown_of]
    if not values or not all(values):
        return Ratio(None, np.empty(0))
    slow = np.array([ratio.replicates for ratio in slowdown_of])
    progress = 1 / np.where(slow > 0, slow, np.nan)
    replicates = progress.sum(axis=0) ** 2 / (len(values) * np.square(progress).sum(axis=0))
    return Ratio(jain([1 / value for value in values if value]), replicates)


@dataclass(frozen=True, eq=False)
class Observed:
    """What there is to compare; tenants by id.

    Attributes:
        tenants: in the profile's order.
        solo: each tenant alone, where it was.
        shared: each tenant while all were there; empty where they never were.
        beside: by victim and aggressor, the victim while only these two were there.
        solo_names, shared_name: which phase, or which run, that was.
    """

    tenants: tuple[str, ...]
    solo: Mapping[str, Side]
    shared: Mapping[str, Side]
    beside: Mapping[tuple[str, str], Side]
    solo_names: Mapping[str, str]
    shared_name: str | None


@dataclass(frozen=True, eq=False)
class Interference:
    """`content` is what stands in `summary.json`; `jain_progress` stands there beside the other indices."""

    content: dict[str, Any]
    jain_progress: Ratio


def interference(observed: Observed) -> Interference | None:
    """Every tenant beside the others against the same tenant alone; None with nothing to compare."""
    taking_part = [tenant for tenant in observed.tenants if tenant in observed.shared]
    compared = [tenant for tenant in taking_part if tenant in observed.solo]
    matrix = _matrix(observed)
    if not compared and matrix is None:
        return None
    places = {tenant: place for place, tenant in enumerate(observed.tenants)}
    slow: dict[str, dict[str, dict[str, Slowdown]]] = {}
    ratios: dict[str, Ratio] = {}
    for tenant in compared:
        sides = observed.solo[tenant], observed.shared[tenant]
        slow[tenant] = slowdowns(*sides, tenant=places[tenant])
        ratios[tenant] = throughput_ratio(*sides, tenant=places[tenant])
    chosen = {tenant: slow[tenant][LATENCY][PERCENTILE] for tenant in compared}
    worst = isolation_leakage(chosen)
    everybody = bool(taking_part) and compared == taking_part  # a sum over some of the tenants would be no such sum
    return Interference(
        content={
            "solo": dict(observed.solo_names),
            "shared": observed.shared_name,
            "tenants": {
                tenant: {
                    "slowdown": {
                        latency: {percentile: one.as_json() for percentile, one in by_percentile.items()}
                        for latency, by_percentile in slow[tenant].items()
                    },
                    "throughput_ratio": ratios[tenant].as_json(),
                    "isolation_leakage": isolation_leakage({tenant: chosen[tenant]}).as_json(),
                }
                for tenant in compared
            },
            "matrix": matrix,
            "isolation_leakage": {
                **worst.as_json(),
                "victim": worst.victim,
                "metric": LATENCY,
                "percentile": PERCENTILE,
            },
            "sharing_efficiency": sharing_efficiency(list(ratios.values()) if everybody else []).as_json(),
        },
        jain_progress=jain_progress(list(chosen.values()) if everybody else []),
    )


def _matrix(observed: Observed) -> dict[str, Any] | None:
    """Slowdown of each victim (row) beside each aggressor (column); None without two tenants that were alone together.

    A victim that never was alone, or never with only this aggressor, has None there.
    """
    rows: list[list[dict[str, Any] | None]] = []
    for place, victim in enumerate(observed.tenants):
        row: list[dict[str, Any] | None] = []
        for aggressor in observed.tenants:
            side = observed.beside.get((victim, aggressor))
            solo = observed.solo.get(victim)
            if side is None or solo is None:
                row.append(None)
            else:
                row.append(slowdowns(solo, side, tenant=place, latencies=[LATENCY])[LATENCY][PERCENTILE].as_json())
        rows.append(row)
    if not any(cell is not None for row in rows for cell in row):
        return None
    return {"metric": LATENCY, "percentile": PERCENTILE, "tenants": list(observed.tenants), "slowdown": rows}
