"""Steady: whether the run had settled when its window began, and stayed that way until it ended.

Both are told from series in the order of time: output tokens per second of all tenants, cell by cell, and each tenant's
TTFT from schedule, request by request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from analysis.entry import Basis
from analysis.latency import Floats
from analysis.load import Phase
from analysis.requests import Int64s
from analysis.timeline import spans_between

__all__ = ["Drift", "Series", "describe_steady", "drift", "edges_of", "mann_kendall", "mser5", "suggest", "whole_load"]

STATISTIC = "MSER-5"
_BATCH = 5
_FEWEST_BATCHES = 10
_PARTS = 10  # of the window, of which the drift is told
_SURE = 0.001  # a suggestion is the most extreme of many cuts, so it has to stand out more than one cut's 5 % would
_MATTERS = 0.05  # relative difference
_TREND = 0.02  # parts of a short window still depend on each other a little: 3 % of steady runs are told to drift


@dataclass(frozen=True, eq=False)
class Series:
    """Values in the order of time.

    Attributes:
        name: a metric, after the tenant that it is of.
        at_s: when each value is from, ascending; shape (n,).
        values: shape (n,).
    """

    name: str
    at_s: Floats
    values: Floats

    def since(self, start_s: float) -> Series:
        """What is left from then on."""
        first = int(np.searchsorted(self.at_s, start_s))
        return Series(self.name, self.at_s[first:], self.values[first:])


def mser5(values: Floats) -> int | None:
    """How many of the first values to leave out by MSER-5, a multiple of 5; None if there are too few to tell.

    The means of batches of 5 are cut where the standard error of what remains is smallest:
    `Σ (y - mean)² / (n - d)²` over the n - d batches left (White 1997; White, Cobb, Spratt 2000). A cut in the
    second half is no answer: the series had not settled (Hoad, Robinson, Davies 2010).

    Args:
        values: shape (n,), in the order of time.
    """
    batches = len(values) // _BATCH
    if batches < _FEWEST_BATCHES:
        return None
    means = values[: batches * _BATCH].reshape(-1, _BATCH).mean(axis=1)
    means = means - means.mean()  # squares of small numbers lose less
    left = np.arange(batches, 0, -1)
    sums, squares = (np.cumsum(terms[::-1])[::-1] for terms in (means, np.square(means)))
    errors = (np.maximum(squares - np.square(sums) / left, 0.0) / np.square(left))[: batches - _BATCH]
    cut = int(np.flatnonzero(errors <= errors.min() + 1e-12 * errors.max())[0])  # zeros come out as almost zero
    return cut * _BATCH if cut <= batches // 2 else None


def suggest(series: Series, sure: float = _SURE) -> float | None:
    """The warm-up in seconds that a series asks for: from 0 to its first value that MSER-5 keeps.

    0 where the values left out differ from the others by no more than noise, or by less than 5 %: MSER always finds
    a smallest error, in a steady series too. None where MSER-5 has no answer.

    Args:
        sure: p-value below which a difference is no noise.
    """
    cut = mser5(series.values)
    if cut is None:
        return None
    if not cut or not _differs(series.values[:cut], series.values[cut:], sure):
        return 0.0
    return float(series.at_s[cut])


def _differs(early: Floats, later: Floats, sure: float) -> bool:
    """Whether two adjacent parts have different means, by Welch's idea with the variance of means of long batches."""
    from scipy.special import stdtr  # scipy loads when the first interval is asked for

    if len(later) < 2 * _PARTS:
        return False
    ends = np.linspace(0, len(later), _PARTS + 1).astype(np.int64)
    sizes = np.diff(ends)
    means = np.add.reduceat(later, ends[:-1]) / sizes
    mean = float(later.mean())
    off = float(early.mean()) - mean
    if abs(off) <= _MATTERS * abs(mean):
        return False
    variance = float(np.square(means - mean).sum() / (_PARTS - 1)) * float(sizes.mean())  # of one value, were it alone
    error = math.sqrt(variance * (1 / len(early) + 1 / len(later)))
    return error == 0 or 2 * float(stdtr(_PARTS - 1, -abs(off) / error)) < sure


@dataclass(frozen=True)
class Drift:
    """How a figure moved over the window.

    Attributes:
        p_value: of Mann and Kendall's test for a trend, times the number of figures tested; None with too few values.
        start, end: the figure in the first and in the last fifth.
    """

    p_value: float | None
    start: float | None
    end: float | None

    @property
    def drifts(self) -> bool:
        """Whether it moved by more than noise, and by enough to matter."""
        if self.p_value is None or self.start is None or self.end is None:
            return False
        return self.p_value < _TREND and abs(self.end - self.start) > _MATTERS * abs(self.start)

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {"p_value": self.p_value, "from": self.start, "to": self.end, "drifts": self.drifts}


def drift(values: Floats, *, median: bool, tests: int = 1) -> Drift:
    """Whether a series drifts: a trend over the figures of ten long parts, which hardly depend on each other.

    Args:
        values: shape (n,), in the order of time.
        median: whether the figure is the median of the values, else their mean.
        tests: how many series are tested (Bonferroni).
    """
    if len(values) < 2 * _PARTS:
        return Drift(None, None, None)

    def figure(part: Floats) -> float:
        return float(np.median(part) if median else part.mean())

    parts = np.array_split(values, _PARTS)
    p_value = min(1.0, tests * mann_kendall([figure(part) for part in parts]))
    fifth = _PARTS // 5
    return Drift(p_value, figure(np.concatenate(parts[:fifth])), figure(np.concatenate(parts[-fifth:])))


def mann_kendall(values: Sequence[float]) -> float:
    """Two-sided p-value of no trend: how often values in random order rise or fall as much (Mann 1945, Kendall 1948).

    Exact; with ties, which the exact distribution does not have, a little too large.
    """
    rising = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    pairs = len(values) * (len(values) - 1) // 2
    fewest = (pairs - abs(rising)) // 2 + (pairs - abs(rising)) % 2  # inversions of an order that rises as much
    orders = _inversions(len(values))
    return min(1.0, 2 * sum(orders[: fewest + 1]) / math.factorial(len(values)))


@lru_cache(maxsize=16)
def _inversions(count: int) -> tuple[int, ...]:
    """How many orders of so many values have 0, 1, 2, ... pairs that fall."""
    orders = [1]
    for size in range(2, count + 1):
        longer = [0] * (len(orders) + size - 1)
        for before, ways in enumerate(orders):
            for added in range(size):
                longer[before + added] += ways
        orders = longer
    return tuple(orders)


def whole_load(phases: Sequence[Phase], parts: Sequence[Phase]) -> Phase | None:
    """The only part that is measured, if its tenants, and no others, offered load from 0 to its end; else None."""
    if len(parts) != 1:
        return None
    (part,) = parts
    before = [phase for phase in phases if phase.start_s < part.start_s]
    return part if all(set(phase.tenants) == set(part.tenants) for phase in before) else None


def edges_of(cells: Sequence[tuple[int, int]]) -> Int64s:
    """Edges, in ns, of cells from the start of the load: the adjacent ones of a window, and as long ones before it."""
    if not cells:
        return np.zeros(1, np.int64)
    step = max(1, cells[0][1] - cells[0][0])
    before = np.arange(cells[0][0], -1, -step, dtype=np.int64)[::-1]
    return np.concatenate((before, np.array([end for _, end in cells], np.int64)))


def describe_steady(basis: Basis, part: Phase, edges_ns: Int64s) -> dict[str, Any]:
    """Whether the chosen warm-up was long enough, and what drifts in the window.

    Args:
        part: see `whole_load`.
        edges_ns: of cells from the start of the load to the end of the part, all edges of the token table.
    """
    throughput, *waits = _series(basis, part, edges_ns)
    every = [throughput, *waits]
    suggestions = {series.name: suggest(series, _SURE / len(every)) for series in every}
    told = [seconds for seconds in suggestions.values() if seconds is not None]
    suggested_s = max(told, default=None)
    drifts = {
        series.name: drift(series.since(part.start_s).values, median=series is not throughput, tests=len(every))
        for series in every
    }
    too_short = _too_short(every, suggestions, part.start_s)
    return {
        "chosen_warmup_s": part.start_s,
        "too_short": bool(too_short),
        "suggested_warmup_s": suggested_s,
        "statistic": STATISTIC,
        "drift": {name: one.as_json() for name, one in drifts.items()},
        "warnings": [*too_short, *_drifting(drifts)],
    }


def _series(basis: Basis, part: Phase, edges_ns: Int64s) -> list[Series]:
    lengths_s = np.diff(edges_ns) / 1e9
    tokens = basis.table.in_spans(spans_between(edges_ns)).sum(axis=0) if len(lengths_s) else np.empty(0)
    every = [Series("output_tokens_per_s", edges_ns[:-1] / 1e9, tokens / lengths_s)]
    ttft_ms, scheduled_ns = basis.latencies["ttft_scheduled_ms"], basis.requests.scheduled_ns
    for code, tenant in enumerate(basis.profile.tenants):
        if tenant.id in part.tenants:
            due = basis.of_tenant(code) & (scheduled_ns >= 0) & (scheduled_ns < part.end_s * 1e9) & ~np.isnan(ttft_ms)
            rows = basis.in_time(due)
            every.append(Series(f"{tenant.id} ttft_scheduled_ms", scheduled_ns[rows] / 1e9, ttft_ms[rows]))
    return every


def _too_short(every: Sequence[Series], suggestions: Mapping[str, float | None], chosen_s: float) -> list[str]:
    """A warning if what the window would have to give up differs from the rest of it by more than noise."""
    longer = {}
    for series in every:
        suggested_s = suggestions[series.name]
        if suggested_s is None or suggested_s <= chosen_s:
            continue
        within = series.since(chosen_s)
        cut = int(np.searchsorted(within.at_s, suggested_s))
        if cut and _differs(within.values[:cut], within.values[cut:], _SURE / len(every)):
            longer[series.name] = suggested_s
    if not longer:
        return []
    name, suggested_s = max(longer.items(), key=lambda item: item[1])
    return [
        f"the warm-up of {chosen_s:g} s is too short: {name} settles at about {suggested_s:.1f} s ({STATISTIC}); "
        f"set run.warmup_s to {math.ceil(suggested_s)} or more"
    ]


def _drifting(drifts: Mapping[str, Drift]) -> list[str]:
    return [
        f"{name} drifts inside the window: {one.start:.4g} in its first fifth, {one.end:.4g} in its last "
        f"(p = {one.p_value:.2g}); it is no steady state, so run longer or ask for less"
        for name, one in drifts.items()
        if one.drifts
    ]
