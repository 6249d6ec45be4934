"""Uncertainty: 95 % intervals of rates, SLO attainment and fairness, from what came in each cell of a window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from analysis.bootstrap import FEWEST_CELLS, bias_corrected, draws, interval
from analysis.entry import Basis
from analysis.fairness import Indices, Shares, index_rows, indices, shares
from analysis.intervals import BATCHES, design_effects, share_interval
from analysis.latency import Floats
from analysis.load import Profile
from analysis.requests import OK, Mask
from analysis.tokens import TokenTable
from analysis.window import Window, Windows

__all__ = [
    "CELLS",
    "RATES",
    "Cells",
    "add_intervals",
    "attainment_ci95",
    "cells_of",
    "count_cells",
    "equal",
    "fairness_ci95",
    "rates_ci95",
]

CELLS = 100
"""Cells of the shortest window that a tenant is measured in; ten blocks of ten are drawn anew."""

RATES = ("requests_per_s", "output_tokens_per_s", "goodput_requests_per_s", "goodput_tokens_per_s", "slo_attainment")
"""What each tenant, and all together, have an interval of."""

Interval = tuple[float | None, float | None]
_NEITHER: Interval = (None, None)


def cells_of(windows: Windows) -> list[tuple[int, int]]:
    """Adjacent stretches of about equal length that make up every window: `[start, end)` in ns, ascending.

    Each lies wholly inside or outside of each tenant's window.
    """
    own = [window for window in windows.tenants if window]
    if not own:
        return []
    step_ns = max(1.0, min(window.length_s for window in own) * 1e9 / CELLS)
    cuts = np.unique([stamp for window in own for span in window.spans for stamp in span])
    cells: list[tuple[int, int]] = []
    for start, end in windows.whole.spans:
        ends = cuts[(cuts >= start) & (cuts <= end)].tolist()
        for first, last in pairwise(ends):
            edges = np.linspace(first, last, max(1, round((last - first) / step_ns)) + 1).round().astype(np.int64)
            cells += [(low, high) for low, high in pairwise(edges.tolist()) if low < high]
    return cells


@dataclass(frozen=True, eq=False)
class Cells:
    """What came in each cell, of one tenant or of several together.

    Attributes:
        length_s: shape (cells,).
        finished, finished_good: `ok` requests that ended; those that met their SLOs. Shape (cells,), like all others.
        tokens, tokens_good: output tokens that arrived; those of requests that met their SLOs.
        with_slo, met: requests scheduled by a tenant with SLO; those that met it.
    """

    length_s: Floats
    finished: Floats
    finished_good: Floats
    tokens: Floats
    tokens_good: Floats
    with_slo: Floats
    met: Floats

    @classmethod
    def together(cls, parts: Sequence[tuple[Cells, Mask]]) -> Cells:
        """Several tenants pooled, each in its own cells alone; a cell that is no tenant's is left out."""
        anyone = np.any([inside for _, inside in parts], axis=0)
        sums = {
            field.name: np.sum([getattr(cells, field.name) * inside for cells, inside in parts], axis=0)[anyone]
            for field in fields(cls)
            if field.name != "length_s"
        }
        return cls(length_s=parts[0][0].length_s[anyone], **sums)


def count_cells(basis: Basis, spans: Sequence[tuple[int, int]]) -> tuple[Shares, list[Cells]]:
    """What each tenant asked for and got in each cell.

    Args:
        spans: not empty; disjoint, ascending, and their ends among the edges of the table.
    """
    requests, tenants = basis.requests, basis.profile.tenants
    counted = shares(requests, basis.profile, basis.table, basis.met, spans)
    good = TokenTable(basis.table.edges_ns, basis.table.tokens[:, 1:]).in_spans(spans)
    starts, ends = np.array(spans, np.int64).T
    done = np.flatnonzero(requests.outcome == OK)
    cell = np.searchsorted(starts, requests.ended_ns[done], side="right") - 1
    inside = (cell >= 0) & (requests.ended_ns[done] < ends[cell])
    done, cell = done[inside], cell[inside]
    place = (requests.tenant[done].astype(np.int64) * 2 + basis.met[done]) * len(spans) + cell
    finished = np.bincount(place, minlength=len(tenants) * 2 * len(spans)).reshape(-1, 2, len(spans)).astype(np.float64)
    return counted, [
        Cells(
            length_s=(ends - starts) / 1e9,
            finished=finished[code].sum(axis=0),
            finished_good=finished[code, 1],
            tokens=counted.tokens[code],
            tokens_good=good[code],
            with_slo=counted.scheduled[code] * float(tenant.slo is not None),
            met=counted.met[code] * float(tenant.slo is not None),
        )
        for code, tenant in enumerate(tenants)
    ]


def rates_ci95(cells: Cells) -> dict[str, Interval]:
    """Intervals of the rates and of the SLO attainment; (None, None) where there is none."""
    drawn = draws(len(cells.length_s))

    def per_s(counts: Floats, *, whole: bool) -> Interval:
        length_s = float(cells.length_s.sum())
        if not length_s:
            return _NEITHER
        if not counts.any():  # what did not happen once may still happen: exact for a Poisson process; Garwood 1936
            return (0.0, -math.log(0.025) / length_s) if whole else _NEITHER
        return interval(float(counts.sum()) / length_s, (drawn @ counts) / (drawn @ cells.length_s))

    return {
        "requests_per_s": per_s(cells.finished, whole=True),
        "output_tokens_per_s": per_s(cells.tokens, whole=False),
        "goodput_requests_per_s": per_s(cells.finished_good, whole=True),
        "goodput_tokens_per_s": per_s(cells.tokens_good, whole=False),
        "slo_attainment": _attainment(cells.met, cells.with_slo),
    }


def attainment_ci95(basis: Basis, code: int, window: Window, spans: Sequence[tuple[int, int]]) -> Interval:
    """Interval of one tenant's SLO attainment; (None, None) without an SLO or a request.

    Args:
        code: the tenant's place in the profile.
        window: where it is measured.
        spans: cells, ascending, that make up the window among others.
    """
    if basis.profile.tenants[code].slo is None or not window:
        return _NEITHER
    own = [start for start, _ in spans if any(low <= start < high for low, high in window.spans)]
    chosen = basis.scheduled([(code, window)])
    cell = np.searchsorted(np.array(own, np.int64), basis.requests.scheduled_ns[chosen], side="right") - 1
    scheduled = np.bincount(cell, minlength=len(own)).astype(np.float64)
    return _attainment(np.bincount(cell, basis.met[chosen], len(own)).astype(np.float64), scheduled)


def _attainment(met_of_cells: Floats, with_slo: Floats) -> Interval:
    """Exact for the number of independent requests that those of the window are worth: sure even where all met."""
    scheduled = float(with_slo.sum())
    if not scheduled:
        return _NEITHER
    ends = np.linspace(0, len(with_slo), BATCHES + 1).astype(np.int64)
    if len(with_slo) < BATCHES:
        return _NEITHER
    met, sizes = (np.add.reduceat(counts, ends[:-1]).astype(np.int64) for counts in (met_of_cells, with_slo))
    (effect,) = design_effects(met[np.newaxis], sizes)
    return share_interval(float(met_of_cells.sum()) / scheduled, scheduled / effect)


def fairness_ci95(counted: Shares, profile: Profile) -> dict[str, Interval]:
    """Intervals of the indices over all cells.

    A bound that equality sets is reached where the tenants' values differ by no more than chance lets equal ones.

    Args:
        counted: what each tenant asked for and got in each cell of the common window.
    """
    names = [field.name for field in fields(Indices)]
    drawn = draws(counted.tokens.shape[1])
    if len(drawn[0]) < FEWEST_CELLS:
        return dict.fromkeys(names, _NEITHER)
    estimate = indices(counted.together(), profile)
    again = Shares(*(getattr(counted, field.name) @ drawn.T for field in fields(Shares)))
    every = index_rows(again, profile)
    found: dict[str, Interval] = {}
    for name, (values, bound) in _compared(counted, again, profile).items():
        low, high = bias_corrected(getattr(estimate, name), every[name])
        if low is not None and high is not None and equal(*values):
            low, high = min(low, bound), max(high, bound)
        found[name] = (low, high)
    return found


def _compared(counted: Shares, again: Shares, profile: Profile) -> dict[str, tuple[tuple[Floats, Floats], float]]:
    """For each index the values that it compares, in all and in each replicate, and what it is when they are equal."""
    part = counted.scheduled.sum(axis=1) > 0
    weights = np.array([tenant.weight for tenant in profile.tenants])[:, np.newaxis]
    whole = counted.together()

    def both(name: str, over: str | None, chosen: Mask) -> tuple[Floats, Floats]:
        sides = []
        for one in (whole, again):
            above = getattr(one, name)[chosen].astype(np.float64)
            below = weights[chosen] if over is None else getattr(one, over)[chosen].astype(np.float64)
            sides.append(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))
        return sides[0][:, 0], sides[1].T

    promised = part & np.array([tenant.slo is not None for tenant in profile.tenants])
    asking = part & (whole.service_asked[:, 0] > 0)
    tokens = both("tokens", None, part)
    satisfied = both("service", "service_asked", asking)
    return {
        "jain_throughput": (tokens, 1.0),
        "jain_service": (both("service", None, part), 1.0),
        "jain_demand": ((np.minimum(satisfied[0], 1.0), np.minimum(satisfied[1], 1.0)), 1.0),
        "max_min_ratio": (tokens, 1.0),
        "attainment_gap": (both("met", "scheduled", promised), 0.0),
    }


def equal(values: Floats, replicates: Floats) -> bool:
    """Whether values differ by no more than equal ones do in 19 of 20 cases.

    Wald's test of equality, `d' S⁺ d` against chi-square, over their differences d from the first and the covariance S
    of these in the replicates.

    Args:
        values: shape (k,).
        replicates: shape (replicates, k); those with a NaN are left out.
    """
    from scipy.special import chdtri

    known = replicates[~np.isnan(replicates).any(axis=1)]
    if len(values) < 2 or not len(known):
        return True
    off = values[1:] - values[0]
    spread = np.atleast_2d(np.cov(known[:, 1:] - known[:, :1], rowvar=False))
    inverse = np.linalg.pinv(spread, hermitian=True)
    beyond = off - spread @ inverse @ off  # where the replicates do not differ at all
    if np.abs(beyond).max() > 1e-9 * np.abs(values).max():
        return False
    return float(off @ inverse @ off) <= float(chdtri(len(off), 0.05))


def add_intervals(content: dict[str, Any], basis: Basis, windows: Windows, spans: Sequence[tuple[int, int]]) -> None:
    """Fill `ci95` of each tenant, of the totals and of the fairness in a summary.

    Args:
        spans: `cells_of(windows)`, their ends among the edges of the table.
    """
    starts = np.array([start for start, _ in spans], np.int64)
    parts: list[tuple[Cells, Mask]] = []
    if spans:
        counted, cells = count_cells(basis, spans)
        parts = [(one, window.contains(starts)) for one, window in zip(cells, windows.tenants, strict=True)]
    for code, tenant in enumerate(basis.profile.tenants):
        own = rates_ci95(Cells.together([parts[code]])) if spans else dict.fromkeys(RATES, _NEITHER)
        content["tenants"][tenant.id]["ci95"] = _lists(own)
    content["totals"]["ci95"] = _lists(rates_ci95(Cells.together(parts)) if spans else dict.fromkeys(RATES, _NEITHER))
    if content["fairness"] is not None:
        common = windows.common.contains(starts)
        within = Shares(*(getattr(counted, field.name)[:, common] for field in fields(Shares)))
        content["fairness"]["ci95"] = _lists(fairness_ci95(within, basis.profile)) | content["fairness"].get("ci95", {})


def _lists(intervals: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    return {name: list(bounds) for name, bounds in intervals.items()}
