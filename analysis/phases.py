"""What each tenant got in each measured part of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from analysis import health
from analysis.entry import Basis, entry, slo_broken
from analysis.fairness import Gaps, indices, shares
from analysis.load import Phase
from analysis.rates import Tally
from analysis.uncertainty import attainment_ci95, cells_of
from analysis.window import Window, Windows

__all__ = ["by_load", "by_part", "span_of"]


def span_of(part: Phase) -> tuple[int, int]:
    """A part's ends in ns."""
    return round(part.start_s * 1e9), round(part.end_s * 1e9)


def by_part(
    basis: Basis, parts: Sequence[Phase], gaps_in: Callable[[tuple[tuple[int, int], ...]], Gaps]
) -> list[dict[str, Any]]:
    """The entry of each measured part: its tenants, all of them together, and how they compare.

    Args:
        parts: disjoint and ascending.
        gaps_in: the gaps between the tenants' services in each of several spans.
    """
    spans = tuple(span_of(part) for part in parts)
    compared = shares(basis.requests, basis.profile, basis.table, basis.met, spans)
    drifts = gaps_in(spans)
    entries = []
    for place, (part, span) in enumerate(zip(parts, spans, strict=True)):
        tenants, totals, reasons = _tenants(basis, part, Window((span,)))
        entries.append(
            {
                "name": part.name,
                "start_s": span[0] / 1e9,
                "end_s": span[1] / 1e9,
                "load": part.load,
                "reasons": reasons,
                "tenants": tenants,
                "totals": totals,
                "fairness": {
                    **asdict(indices(compared, basis.profile, place)),
                    **{field.name: getattr(drifts, field.name)[place] for field in fields(Gaps)},
                }
                if len(tenants) > 1
                else None,
            }
        )
    return entries


def _tenants(basis: Basis, part: Phase, window: Window) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The entries of a part's tenants and of all together, and why they can't be believed, if so."""
    tenants: dict[str, Any] = {}
    tallies: list[Tally] = []
    checks: list[health.Check] = []
    codes = [code for code, tenant in enumerate(basis.profile.tenants) if tenant.id in part.tenants]
    for code in codes:
        name = basis.profile.tenants[code].id
        counted = basis.tally(code, window)
        latencies = basis.described(basis.scheduled([(code, window)]))
        tenants[name] = _judged(basis, code, counted, entry(counted, window.length_s, latencies))
        tallies.append(counted)
        checks += health.tenant_checks(name, counted, latencies["send_lag_ms"], latencies["ttft_ms"])
    pooled = basis.described(basis.scheduled((code, window) for code in codes))
    totals = entry(Tally.total(tallies), window.length_s, pooled)
    return tenants, totals, list(health.judge(checks).reasons)


def by_load(basis: Basis, load: float, windows: Windows) -> dict[str, Any]:
    """The entry of each tenant over all parts at one load."""
    tenants, cells = {}, cells_of(windows)
    for code, (tenant, window) in enumerate(zip(basis.profile.tenants, windows.tenants, strict=True)):
        if window:
            counted = basis.tally(code, window)
            latencies = basis.described(basis.scheduled([(code, window)]))
            tenants[tenant.id] = {
                **_judged(basis, code, counted, entry(counted, window.length_s, latencies)),
                "ci95": {"slo_attainment": list(attainment_ci95(basis, code, window, cells))},
            }
    return {"load": load, "phases": list(windows.phases), "tenants": tenants}


def _judged(basis: Basis, code: int, counted: Tally, content: dict[str, Any]) -> dict[str, Any]:
    slo = basis.profile.tenants[code].slo
    return {**content, "slo_broken": slo_broken(counted.slo_attainment, slo.attainment) if slo else None}
