"""Histogram: what a server counted in buckets, over a window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from analysis.intervals import PERCENTILES, rank
from analysis.latency import Floats
from analysis.requests import Int64s
from analysis.telemetry import Metrics, Series, increments
from analysis.window import Window

__all__ = ["Bucket", "Histogram", "Scrapes", "scrapes"]

_BUCKET = "_bucket_le_"


@dataclass(frozen=True)
class Bucket:
    """The bucket that holds a percentile, `(low, high]`, and where in it the percentile would be were it evenly filled.

    `high` is inf, and `estimate` None, in the last one.
    """

    low: float
    high: float
    estimate: float | None

    def agrees(self, value: float) -> bool:
        """Whether a value differs from the estimate by no more than the bucket is wide."""
        return value > self.low if self.estimate is None else abs(value - self.estimate) <= self.high - self.low


@dataclass(frozen=True, eq=False)
class Histogram:
    """Observations of a window.

    Attributes:
        bounds: inclusive upper ends, ascending, inf last.
        counts: observations in each bucket, like `bounds`.
        spans: the stretches `(from, to]` of the run clock in ns that the observations are from, between scrapes.
    """

    bounds: tuple[float, ...]
    counts: Floats
    total: float
    spans: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many observations there are."""
        return round(float(self.counts.sum()))

    @property
    def mean(self) -> float | None:
        """Their mean; exact, whatever the buckets."""
        return self.total / self.count if self.count else None

    def percentile(self, name: str) -> Bucket | None:
        """The bucket that holds a nearest-rank percentile; None without observations."""
        if not self.count:
            return None
        wanted, reached = rank(PERCENTILES[name], self.count), np.cumsum(self.counts)
        place = int(np.searchsorted(reached, wanted))
        low, high = self.bounds[place - 1] if place else 0.0, self.bounds[place]
        inside = (wanted - (reached[place] - self.counts[place])) / self.counts[place]
        return Bucket(low, high, None if math.isinf(high) else float(low + (high - low) * inside))


@dataclass(frozen=True, eq=False)
class Scrapes:
    """A histogram as it was scraped n times.

    Attributes:
        times_ns: shape (n,), ascending.
        bounds: m inclusive upper ends, ascending, inf last.
        counted: shape (n, m + 1): cumulative counts up to each bound, and the sum of all observations.
    """

    times_ns: Int64s
    bounds: tuple[float, ...]
    counted: Floats

    def over(self, window: Window) -> Histogram | None:
        """What was observed from the last scrape at or before each start of the window to that at or before its end.

        None where its scrapes don't tell it.
        """
        ends = Series(self.times_ns, self.counted[:, -1]).stretches(window)
        if not ends:
            return None
        steps = increments(self.counted)
        grown = sum(steps[start:end].sum(axis=0) for start, end in ends)
        return Histogram(
            bounds=self.bounds,
            counts=np.diff(grown[:-1], prepend=0.0),
            total=float(grown[-1]),
            spans=tuple((int(self.times_ns[start]), int(self.times_ns[end])) for start, end in ends),
        )


def scrapes(metrics: Metrics) -> Iterator[tuple[str, Scrapes]]:
    """Every histogram among an endpoint's metrics, by name; a scrape that was cut short is left out.

    Its series are `NAME_bucket_le_BOUND` and `NAME_sum`.
    """
    for name in sorted({metric.partition(_BUCKET)[0] for metric in metrics if _BUCKET in metric}):
        start = f"{name}{_BUCKET}"
        buckets = sorted((float(key.removeprefix(start)), metrics[key]) for key in metrics if key.startswith(start))
        bounds = tuple(bound for bound, _ in buckets)
        if f"{name}_sum" not in metrics or not math.isinf(bounds[-1]):
            continue
        every = [*(series for _, series in buckets), metrics[f"{name}_sum"]]
        times_ns = reduce(np.intersect1d, (series.times_ns for series in every))
        columns = [series.values[np.searchsorted(series.times_ns, times_ns)] for series in every]
        yield name, Scrapes(times_ns, bounds, np.column_stack(columns))
