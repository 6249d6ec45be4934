"""Latencies of requests in ms, and what is said of a set of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.intervals import PERCENTILES, minimum_count, order_statistics, rank
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
    """Values with how often each occurs, in any order; most of a run's gaps are alike, so this stays small."""

    values: Floats
    counts: Int64s

    @classmethod
    def pooled(cls, samples: list[Sample]) -> Sample:
        """All samples as one."""
        return cls(
            np.concatenate([sample.values for sample in samples]) if samples else np.empty(0),
            np.concatenate([sample.counts for sample in samples]) if samples else np.empty(0, np.int64),
        )


def icl_ms(requests: Requests, chosen: Mask) -> Sample:
    """Gaps between consecutive content chunks, pooled over the chosen requests."""
    values, counts = np.unique(requests.gap_us[np.repeat(chosen, np.diff(requests.gap_start))], return_counts=True)
    return Sample(values / 1e3, counts)


def itl_ms(requests: Requests, chosen: Mask) -> Sample:
    """Inter-token latency: a chunk of k tokens gives k samples of gap / k; requests that do not tell k give none."""
    telling = chosen & requests.tells_tokens
    gaps = requests.gap_us[np.repeat(telling, np.diff(requests.gap_start))].astype(np.int64)
    told = np.repeat(telling, np.diff(requests.chunk_start))
    told[requests.chunk_start[:-1][telling]] = False  # no gap leads to the first chunk
    tokens = requests.chunk_tokens[told]
    bits = int(tokens.max(initial=0)).bit_length()
    pairs, counts = np.unique((gaps << bits) | tokens, return_counts=True)
    tokens_of_pair = pairs & ((1 << bits) - 1)
    some = tokens_of_pair > 0
    tokens_of_pair = tokens_of_pair[some]
    return Sample((pairs[some] >> bits) / tokens_of_pair / 1e3, counts[some] * tokens_of_pair)


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

    Args:
        values: shape (n,) in ms, NaN = left out; or a Sample.
        failed: so many more samples of +inf.
    """
    if isinstance(values, Sample):
        order = np.argsort(values.values)
        ordered, last_rank = values.values[order], np.cumsum(values.counts[order])
        total = float(np.dot(values.values, values.counts))
    else:
        ordered = np.sort(values[~np.isnan(values)])
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

    intervals = {name: order_statistics(per_mille, count) for name, per_mille in PERCENTILES.items()}
    return Latency(
        count=count,
        mean=None if not count else float("inf") if failed else total / count,
        percentiles={name: at(rank(per_mille, count)) for name, per_mille in PERCENTILES.items()},
        ci95={name: (at(lower), at(upper)) for name, (lower, upper) in intervals.items()},
        certified={name: count >= minimum_count(per_mille) for name, per_mille in PERCENTILES.items()},
    )


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
