"""Slowdown: what a tenant's latencies and throughput became beside others, over what they are alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.bootstrap import draws, interval
from analysis.intervals import PERCENTILES, rank
from analysis.latency import Floats
from analysis.requests import Int32s, Int64s

__all__ = [
    "LATENCIES",
    "MOST_CELLS",
    "SLOWDOWN_PERCENTILES",
    "Interval",
    "Ratio",
    "Side",
    "Slowdown",
    "SoloRuns",
    "paired",
    "slowdowns",
    "throughput_ratio",
]

Interval = tuple[float | None, float | None]

LATENCIES = ("ttft_scheduled_ms", "tpot_ms", "e2e_scheduled_ms")
SLOWDOWN_PERCENTILES = ("p50", "p95", "p99")
MOST_CELLS = 120
"""Cells of time that a window is cut into for the bootstrap."""

_BINS = 4096  # of values, by rank: a percentile of a replicate is off by at most 1/4096 of the requests
_AT_ONCE_NS = 1_000_000  # two stamps of one schedule differ by rounding, those of two by far more
_SHARE_PAIRED = 0.9  # of the requests due in both windows: a few records may be lost
_SHARED, _ALONE = 0, 1  # seeds: what is drawn for one side must not decide what is drawn for the other


@dataclass(frozen=True, eq=False)
class Side:
    """One tenant's n requests under one condition, alone or beside others, and m adjacent cells of its window.

    Attributes:
        seed: of the schedule and the requests; None where it is not known.
        index: place in the tenant's schedule, -1 where unknown; shape (n,).
        due_ns: when it was due, from the start of its phase; shape (n,).
        cell: the cell in which it was due; shape (n,).
        latencies_ms: each of LATENCIES, NaN where undefined; arrays of shape (n,).
        starts_ns: start of each cell, from the start of its phase; shape (m,).
        lengths_ns: length of each cell; shape (m,).
        tokens: output tokens that arrived in each cell; shape (m,).
    """

    seed: int | None
    index: Int32s
    due_ns: Int64s
    cell: Int64s
    latencies_ms: Mapping[str, Floats]
    starts_ns: Int64s
    lengths_ns: Int64s
    tokens: Floats

    @property
    def cells(self) -> int:
        """How many there are."""
        return len(self.tokens)

    @property
    def tokens_per_s(self) -> float | None:
        """Throughput over the window; None where it has no length."""
        length_ns = int(self.lengths_ns.sum())
        return float(self.tokens.sum()) / (length_ns / 1e9) if length_ns else None

    def due_in(self, other: Side) -> int:
        """How many of its requests were due while the other side's window lasted, each from the start of its phase."""
        start, end = other.starts_ns.min(), (other.starts_ns + other.lengths_ns).max()
        return int(((self.due_ns >= start) & (self.due_ns < end)).sum())


@dataclass(frozen=True, eq=False)
class SoloRuns:
    """Tenants alone in other runs.

    Attributes:
        sides: by tenant and load.
        names: the directory of the run that each tenant's are from.
        warnings: what makes the comparison less than it could be.
    """

    sides: Mapping[str, Mapping[float, Side]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def paired(solo: Side, shared: Side) -> tuple[Int64s, Int64s] | None:
    """Places of the requests that are the same on both sides, by index; None where the schedule is not the same.

    It is the same if the seed is, if each index stands once, and if at least 90 % of what was due in both windows is
    found on both sides, due at the same time after the start of the phase. A closed loop's never is: when a request
    is due depends on the answers before it.
    """
    if solo.seed is None or solo.seed != shared.seed or not len(solo.index) or not len(shared.index):
        return None
    if any(side.index.min() < 0 or len(np.unique(side.index)) < len(side.index) for side in (solo, shared)):
        return None
    _, of_solo, of_shared = np.intersect1d(solo.index, shared.index, assume_unique=True, return_indices=True)
    wanted = max(solo.due_in(shared), shared.due_in(solo))
    if not len(of_solo) or len(of_solo) < _SHARE_PAIRED * wanted:
        return None
    at_once = np.abs(solo.due_ns[of_solo] - shared.due_ns[of_shared]) <= _AT_ONCE_NS
    return (of_solo, of_shared) if at_once.all() else None


@dataclass(frozen=True, eq=False)
class Ratio:
    """Shared over solo, with what bootstrap replicates of it say; `value` is None where it is undefined.

    Attributes:
        replicates: NaN where undefined; shape (replicates,).
    """

    value: float | None
    replicates: Floats

    @property
    def ci95(self) -> Interval:
        """Its 95 % interval."""
        return interval(self.value, self.replicates)

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {"value": self.value, "ci95": list(self.ci95)}


@dataclass(frozen=True, eq=False)
class Slowdown(Ratio):
    """Slowdown of one percentile of one latency.

    Attributes:
        solo_ms, shared_ms: the percentile on either side; None without a request that has the latency.
        count: requests that have it, of the side that has fewer.
        paired: whether both sides are the same requests of the same schedule.
    """

    solo_ms: float | None
    shared_ms: float | None
    count: int
    paired: bool

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {
            **super().as_json(),
            "solo": self.solo_ms,
            "shared": self.shared_ms,
            "count": self.count,
            "paired": self.paired,
        }


def slowdowns(
    solo: Side, shared: Side, *, tenant: int = 0, latencies: Sequence[str] = LATENCIES
) -> dict[str, dict[str, Slowdown]]:
    """Slowdown of each of some of LATENCIES at each of SLOWDOWN_PERCENTILES.

    Percentiles are nearest ranks of raw values. Intervals come from a moving-block bootstrap over cells of time.
    Where the schedule is the same, only the requests that have the latency on both sides count (else a side that lost
    its slow ones would look fast), a cell holds requests with adjacent indices, and both sides are resampled together;
    else each side is by its own cells.

    Args:
        tenant: its place among the tenants: what is drawn for the solo sides of two must differ.
    """
    pairs = paired(solo, shared)
    drawn = draws(shared.cells, seed=_SHARED)
    if pairs is None:
        of_solo: Int64s | slice = slice(None)
        of_shared: Int64s | slice = slice(None)
        solo_cell, solo_drawn = solo.cell, draws(solo.cells, seed=_ALONE + tenant)
    else:
        of_solo, of_shared = pairs
        solo_cell, solo_drawn = shared.cell[of_shared], drawn
    found: dict[str, dict[str, Slowdown]] = {}
    for name in latencies:
        solo_ms_of, shared_ms_of = solo.latencies_ms[name][of_solo], shared.latencies_ms[name][of_shared]
        if pairs is not None:
            either = np.isnan(solo_ms_of) | np.isnan(shared_ms_of)
            solo_ms_of, shared_ms_of = (np.where(either, np.nan, values) for values in (solo_ms_of, shared_ms_of))
        alone = _Percentiles(solo_ms_of, solo_cell, solo_drawn)
        beside = _Percentiles(shared_ms_of, shared.cell[of_shared], drawn)
        found[name] = {}
        for percentile in SLOWDOWN_PERCENTILES:
            solo_ms, shared_ms = alone.value(percentile), beside.value(percentile)
            found[name][percentile] = Slowdown(
                value=_over(shared_ms, solo_ms),
                replicates=_all_over(beside.replicates[percentile], alone.replicates[percentile]),
                solo_ms=solo_ms,
                shared_ms=shared_ms,
                count=min(alone.count, beside.count),
                paired=pairs is not None,
            )
    return found


def throughput_ratio(solo: Side, shared: Side, *, tenant: int = 0) -> Ratio:
    """Output tokens per second beside others / alone. Arguments as for `slowdowns`.

    Both sides are resampled together where the schedule is the same and so are their cells.
    """
    drawn = draws(shared.cells, seed=_SHARED)
    together = (
        paired(solo, shared) is not None
        and np.array_equal(solo.starts_ns, shared.starts_ns)
        and np.array_equal(solo.lengths_ns, shared.lengths_ns)
    )
    solo_drawn = drawn if together else draws(solo.cells, seed=_ALONE + tenant)
    return Ratio(
        _over(shared.tokens_per_s, solo.tokens_per_s),
        _all_over(
            _all_over(drawn @ shared.tokens, drawn @ shared.lengths_ns),
            _all_over(solo_drawn @ solo.tokens, solo_drawn @ solo.lengths_ns),
        ),
    )


def _over(shared: float | None, solo: float | None) -> float | None:
    return shared / solo if shared is not None and solo else None


def _all_over(above: Floats, below: Floats) -> Floats:
    """NaN where it is undefined."""
    ratios: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratios


class _Percentiles:
    """Percentiles of a side's values, and of what bootstrap replicates hold of them.

    A replicate draws whole cells, so all that is needed of a cell is how many of its values lie in each of at most
    4,096 bins. Bins are by rank among all values; a replicate's percentile is the largest value of the bin it is in.
    """

    def __init__(self, values_ms: Floats, cell: Int64s, drawn: Floats) -> None:
        """`values_ms` and `cell` of shape (n,), NaN = left out; `drawn` of shape (replicates, cells)."""
        defined = ~np.isnan(values_ms)
        values, cell = values_ms[defined], cell[defined]
        order = np.argsort(values)
        self.count = len(values)
        self._ordered = values[order]
        self.replicates = {name: np.full(len(drawn), np.nan) for name in SLOWDOWN_PERCENTILES}
        if not self.count:
            return
        bins = min(self.count, _BINS)
        bin_of_rank = np.arange(self.count) * bins // self.count
        counted = np.bincount(cell[order] * bins + bin_of_rank, minlength=drawn.shape[1] * bins)
        up_to = drawn @ np.cumsum(counted.reshape(-1, bins), axis=1).astype(np.float64)
        largest = self._ordered[np.searchsorted(bin_of_rank, np.arange(bins), side="right") - 1]
        total = up_to[:, -1]
        for name in SLOWDOWN_PERCENTILES:
            wanted = PERCENTILES[name] / 1000 * total * (1 - 1e-12)  # not above a rank that it should be
            place = (up_to < wanted[:, np.newaxis]).sum(axis=1)
            self.replicates[name] = np.where(total > 0, largest[np.minimum(place, bins - 1)], np.nan)

    def value(self, percentile: str) -> float | None:
        return float(self._ordered[rank(PERCENTILES[percentile], self.count) - 1]) if self.count else None
