"""Latencies of requests in ms, and what is said of a set of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.intervals import BATCHES, PERCENTILES, design_effects, minimum_count, rank, woodruff
from analysis.requests import NEVER, OK, Int64s, Mask, Requests

__all__ = [
    "ADJUSTED",
    "Curve",
    "Floats",
    "Latency",
    "Sample",
    "curve",
    "describe",
    "icl_ms",
    "itl_ms",
    "per_request_ms",
]

Floats = npt.NDArray[np.float64]


def per_request_ms(requests: Requests) -> dict[str, Floats]:
    """Every latency that a request has one of, by name; arrays of n, NaN where undefined."""
    ok = requests.outcome == OK
    return {
        "ttft_ms": _between_ms(requests.sent_ns, requests.first_token_ns),
        "ttft_scheduled_ms": _between_ms(requests.scheduled_ns, requests.first_token_ns),
        "tpot_ms": _tpot_ms(requests),
        "e2e_ms": np.where(ok, _between_ms(requests.sent_ns, requests.last_token_ns), np.nan),
        "e2e_scheduled_ms": np.where(ok, _between_ms(requests.scheduled_ns, requests.last_token_ns), np.nan),
        "send_lag_ms": _between_ms(requests.scheduled_ns, requests.sent_ns),
    }


ADJUSTED = ("ttft_ms", "ttft_scheduled_ms", "tpot_ms", "e2e_ms", "e2e_scheduled_ms")
"""Latencies that also come with `_adjusted`: every failed request counts as +inf, whatever value it has."""


def _between_ms(start_ns: Int64s, end_ns: Int64s) -> Floats:
    known = (start_ns != NEVER) & (end_ns != NEVER)
    return np.where(known, np.where(known, end_ns - start_ns, 0) / 1e6, np.nan)


def _tpot_ms(requests: Requests) -> Floats:
    """Time per token after the first chunk; undefined with fewer than two chunks or no token after the first."""
    first_chunk_tokens = np.ones(len(requests), np.int64)
    told = requests.tells_tokens
    first_chunk_tokens[told] = requests.chunk_tokens[requests.chunk_start[:-1][told]]
    later_tokens = requests.output_tokens - first_chunk_tokens
    defined = (requests.chunks >= 2) & (later_tokens > 0)
    spent_ms = _between_ms(requests.first_token_ns, requests.last_token_ns)
    return np.where(defined, spent_ms / np.where(defined, later_tokens, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Sample:
    """Values with how often each occurs, in any order; most of a run's gaps are alike, so this stays small.

    Attributes:
        batch: which of up to BATCHES batches of requests, in the order of time, it is from; -1 where that is not known.
    """

    values: Floats
    counts: Int64s
    batch: npt.NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))

    def __post_init__(self) -> None:
        if len(self.batch) != len(self.values):
            object.__setattr__(self, "batch", np.full(len(self.values), -1, np.int8))

    @classmethod
    def pooled(cls, samples: list[Sample]) -> Sample:
        """All samples as one."""
        return cls(
            np.concatenate([sample.values for sample in samples]) if samples else np.empty(0),
            np.concatenate([sample.counts for sample in samples]) if samples else np.empty(0, np.int64),
            np.concatenate([sample.batch for sample in samples]) if samples else np.empty(0, np.int8),
        )


def _batches(chosen: Mask) -> Iterator[tuple[int, slice]]:
    """The requests from the first to the last chosen one in batches, by their rows: a file is in the order of time."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return
    ends = np.unique(np.linspace(rows[0], rows[-1] + 1, BATCHES + 1).astype(np.int64)).tolist()
    yield from enumerate(slice(first, last) for first, last in pairwise(ends))


def icl_ms(requests: Requests, chosen: Mask) -> Sample:
    """Gaps between consecutive content chunks, pooled over the chosen requests."""
    parts = []
    for batch, rows in _batches(chosen):
        starts = requests.gap_start[rows.start : rows.stop + 1]
        gaps = requests.gap_us[starts[0] : starts[-1]][np.repeat(chosen[rows], np.diff(starts))]
        values, counts = np.unique(gaps, return_counts=True)
        parts.append(Sample(values / 1e3, counts, np.full(len(values), batch, np.int8)))
    return Sample.pooled(parts)


def itl_ms(requests: Requests, chosen: Mask) -> Sample:
    """Inter-token latency: a chunk of k tokens gives k samples of gap / k; requests that do not tell k give none."""
    telling = chosen & requests.tells_tokens
    parts = []
    for batch, rows in _batches(telling):
        starts, chunk_starts = (
            all_starts[rows.start : rows.stop + 1] for all_starts in (requests.gap_start, requests.chunk_start)
        )
        own = telling[rows]
        gaps = requests.gap_us[starts[0] : starts[-1]][np.repeat(own, np.diff(starts))].astype(np.int64)
        told = np.repeat(own, np.diff(chunk_starts))
        told[chunk_starts[:-1][own] - chunk_starts[0]] = False  # no gap leads to the first chunk
        tokens = requests.chunk_tokens[chunk_starts[0] : chunk_starts[-1]][told]
        bits = int(tokens.max(initial=0)).bit_length()
        pairs, counts = np.unique((gaps << bits) | tokens, return_counts=True)
        tokens_of_pair = pairs & ((1 << bits) - 1)
        some = tokens_of_pair > 0
        tokens_of_pair = tokens_of_pair[some]
        values = (pairs[some] >> bits) / tokens_of_pair / 1e3
        parts.append(Sample(values, counts[some] * tokens_of_pair, np.full(len(values), batch, np.int8)))
    return Sample.pooled(parts)


@dataclass(frozen=True)
class Latency:
    """`count` samples in ms. A percentile without samples is None; inf where failures reach that far."""

    count: int
    mean: float | None
    percentiles: dict[str, float | None]
    ci95: dict[str, tuple[float | None, float | None]]
    certified: dict[str, bool]

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {
            "count": self.count,
            "mean": self.mean,
            **self.percentiles,
            "ci95": {name: list(interval) for name, interval in self.ci95.items()},
            "certified": self.certified,
        }


def describe(values: Floats | Sample, *, failed: int = 0) -> Latency:
    """Nearest-rank percentiles of raw values, with 95 % order-statistic intervals.

    The intervals allow for what values close in time have in common, as far as they are given in that order and are
    enough to tell: 20, or a Sample of 10 batches. See `intervals.design_effects`.

    Args:
        values: shape (n,) in ms, in the order of time, NaN = left out; or a Sample.
        failed: so many more samples of +inf, at times that are not known.
    """
    if isinstance(values, Sample):
        order = np.argsort(values.values)
        ordered, last_rank = values.values[order], np.cumsum(values.counts[order])
        total = float(np.dot(values.values, values.counts))
    else:
        values = values[~np.isnan(values)]
        ordered = np.sort(values)
        last_rank = np.arange(1, len(ordered) + 1)
        total = float(ordered.sum())
    finite = int(last_rank[-1]) if len(last_rank) else 0
    count = finite + failed

    def at(position: int | None) -> float | None:
        if position is None or not count:
            return None
        if position > finite:
            return float("inf")
        return float(ordered[np.searchsorted(last_rank, position)])

    percentiles = {name: at(rank(per_mille, count)) for name, per_mille in PERCENTILES.items()}
    effects = _effects(values, [value for value in percentiles.values() if value is not None])
    intervals = {
        name: woodruff(per_mille, count, effect)
        for (name, per_mille), effect in zip(PERCENTILES.items(), effects, strict=True)
    }
    return Latency(
        count=count,
        mean=None if not count else float("inf") if failed else total / count,
        percentiles=percentiles,
        ci95={name: (at(lower), at(upper)) for name, (lower, upper) in intervals.items()},
        certified={name: count >= minimum_count(per_mille) for name, per_mille in PERCENTILES.items()},
    )


_FEWEST_TOLD = 2 * BATCHES


def _effects(values: Floats | Sample, percentiles: list[float]) -> list[float]:
    """The design effect at each percentile; 1 where values are too few, or their order is not known."""
    if isinstance(values, Sample):
        known = bool(len(values.batch)) and values.batch.min() == 0 and values.batch.max() == BATCHES - 1
        if known and percentiles:
            sizes = np.bincount(values.batch, values.counts, BATCHES)
            below = [np.bincount(values.batch, values.counts * (values.values <= q), BATCHES) for q in percentiles]
            return design_effects(np.array(below), sizes)
    elif len(values) >= _FEWEST_TOLD:
        ends = np.linspace(0, len(values), BATCHES + 1).astype(np.int64)
        below = [np.add.reduceat(values <= q, ends[:-1], dtype=np.int64) for q in percentiles]
        return design_effects(np.array(below), np.diff(ends))
    return [1.0] * len(PERCENTILES)


@dataclass(frozen=True, eq=False)
class Curve:
    """An empirical distribution thinned for drawing: `share` of the `count` samples is at most `values_ms`."""

    count: int
    values_ms: Floats
    share: Floats


def curve(values: Floats) -> Curve:
    """The distribution of values of shape (n,), NaN left out, with enough points for both the middle and the tail."""
    ordered = np.sort(values[~np.isnan(values)])
    count = len(ordered)
    if not count:
        return Curve(0, np.empty(0), np.empty(0))
    middle = np.linspace(1, count, min(count, 500))
    tail = count + 1 - np.geomspace(1, count, min(count, 300))
    ranks = np.unique(np.rint(np.concatenate((middle, tail))).astype(np.int64))
    return Curve(count, ordered[ranks - 1], ranks / count)
