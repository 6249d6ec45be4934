"""How evenly the tenants were treated. All indices follow Jain, Chiu, Hawe 1984, or VTC (OSDI '24) for service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from analysis.latency import Floats
from analysis.load import Profile
from analysis.requests import OK, Int64s, Mask, Requests
from analysis.service import Intervals, ServiceCurve, backlogged, largest_gaps, outstanding, starvation_s
from analysis.tokens import TokenTable

__all__ = [
    "Gaps",
    "Indices",
    "Shares",
    "gaps",
    "index_rows",
    "indices",
    "jain",
    "service_asked",
    "shares",
    "starvation",
]


def jain(values: npt.ArrayLike) -> float | None:
    """Jain's index `(Σ y)² / (n Σ y²)`: 1 = equal, 1/n = one has all; None when all are 0 or there are none."""
    y = np.asarray(values, np.float64)[:, np.newaxis]
    return _known(_jain(y, np.ones(y.shape, np.bool_))[0])


def max_min_ratio(values: Floats) -> float | None:
    """Largest over smallest; None when the smallest is 0 or there are none."""
    return _known(_max_min_ratio(values[:, np.newaxis], np.ones((len(values), 1), np.bool_))[0])


def _jain(y: Floats, part: Mask) -> Floats:
    """Jain's index of each column, over the values that take part; NaN where undefined. Shapes (tenants, stretches)."""
    y = np.where(part, y, 0.0)
    largest = y.max(axis=0, initial=0.0)
    y = np.divide(y, largest, out=y, where=largest > 0)  # the scale does not matter: squares can't overflow
    below = part.sum(axis=0) * np.square(y).sum(axis=0)
    index: Floats = np.divide(y.sum(axis=0) ** 2, below, out=np.full(y.shape[1], np.nan), where=largest > 0)
    return index


def _max_min_ratio(values: Floats, part: Mask) -> Floats:
    """Of each column, as for `_jain`."""
    largest = np.where(part, values, -np.inf).max(axis=0, initial=-np.inf)
    smallest = np.where(part, values, np.inf).min(axis=0, initial=np.inf)
    defined = part.any(axis=0) & (smallest > 0)
    ratio: Floats = np.divide(largest, smallest, out=np.full(values.shape[1], np.nan), where=defined)
    return ratio


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True, eq=False)
class Shares:
    """What each tenant asked for and got, in each of several stretches of time; all of shape (tenants, stretches).

    Attributes:
        tokens: output tokens that arrived.
        service, service_asked: weighted tokens credited, and asked for by requests scheduled then.
        scheduled, met: requests scheduled then; those that met their SLOs.
    """

    tokens: Floats
    service: Floats
    service_asked: Floats
    scheduled: Int64s
    met: Int64s

    def together(self) -> Shares:
        """All stretches as one."""
        return Shares(*(getattr(self, name).sum(axis=1, keepdims=True) for name in self.__dataclass_fields__))


def service_asked(requests: Requests, profile: Profile) -> Floats:
    """Service that each request asked for: what it got if `ok`, else input + 2 · requested output; shape (n,)."""
    ok = requests.outcome == OK
    output_tokens = np.where(ok, requests.output_tokens, requests.requested_tokens)
    asked = profile.input_weight * requests.input_tokens + profile.output_weight * output_tokens
    return np.where(ok & ~requests.got_token, 0.0, asked)


def shares(
    requests: Requests, profile: Profile, table: TokenTable, met: Mask, spans: Sequence[tuple[int, int]]
) -> Shares:
    """Count what each tenant asked for and got in each span.

    Args:
        table: token arrivals, with the ends of all spans among its edges.
        met: shape (n,), requests that met their SLOs.
        spans: disjoint `[start, end)` in ns, ascending.
    """
    tenants, shape = len(profile.tenants), (len(profile.tenants), len(spans))
    tokens = table.in_spans(spans)

    def sums(stamps_ns: Int64s, weights: Floats | None, chosen: Mask | None = None) -> npt.NDArray[np.float64]:
        """Sum of weights (None: count) by tenant and by the span that holds the stamp."""
        if not spans:
            return np.zeros(shape)
        index, inside = _span_of(stamps_ns, spans)
        if chosen is not None:
            inside &= chosen
        cell = requests.tenant[inside].astype(np.int64) * len(spans) + index[inside]
        counted = np.bincount(cell, None if weights is None else weights[inside], tenants * len(spans))
        return counted.reshape(shape).astype(np.float64)

    input_service = sums(requests.first_token_ns, profile.input_weight * requests.input_tokens.astype(np.float64))
    return Shares(
        tokens=tokens,
        service=input_service + profile.output_weight * tokens,
        service_asked=sums(requests.scheduled_ns, service_asked(requests, profile)),
        scheduled=sums(requests.scheduled_ns, None).astype(np.int64),
        met=sums(requests.scheduled_ns, None, met).astype(np.int64),
    )


def _span_of(stamps_ns: Int64s, spans: Sequence[tuple[int, int]]) -> tuple[Int64s, Mask]:
    """Index of the span that holds each stamp, and whether there is one."""
    starts = np.array([start for start, _ in spans], np.int64)
    ends = np.array([end for _, end in spans], np.int64)
    index = np.searchsorted(starts, stamps_ns, side="right") - 1
    return index, (index >= 0) & (stamps_ns < ends[index])


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """How far the tenants' service drifted apart, and who went without, per stretch of time; None where undefined."""

    service_gap_max_tokens: list[float | None]
    service_gap_window_max_tokens: list[float | None]
    starvation_s_max: list[float | None]


def gaps(
    requests: Requests, profile: Profile, curves: Sequence[ServiceCurve], spans: Sequence[tuple[int, int]]
) -> Gaps:
    """Compare the tenants' service over time in each span: the largest gap of any two, the longest starvation of any.

    Args:
        curves: each tenant's service, in all of the spans at least.
        spans: disjoint `[start, end)` in ns, ascending.
    """
    stretches = Intervals.of_spans(spans)
    last_ns = round(profile.fairness_window_s * 1e9)
    queues = [backlogged(requests, tenant) for tenant in range(len(curves))]
    whole, sliding = [], []
    for one, other in combinations(range(len(curves)), 2):
        both = queues[one].intersect(queues[other]).intersect(stretches)
        whole.append(largest_gaps(curves[one], curves[other], both, len(spans)))
        # In spans no longer than the last `fairness_window_s`, that is all of them.
        slides = any(end - start > last_ns for start, end in spans)
        sliding.append(largest_gaps(curves[one], curves[other], both, len(spans), last_ns) if slides else whole[-1])
    starved = [starvation(requests, tenant, curve, spans) for tenant, curve in enumerate(curves)]
    return Gaps(
        service_gap_max_tokens=_worst(whole, len(spans)),
        service_gap_window_max_tokens=_worst(sliding, len(spans)),
        starvation_s_max=_worst(starved, len(spans)),
    )


def starvation(
    requests: Requests, tenant: int, curve: ServiceCurve, spans: Sequence[tuple[int, int]]
) -> list[float | None]:
    """Seconds of a tenant's longest starvation in each span."""
    stretches = Intervals.of_spans(spans)
    waiting = outstanding(requests, tenant).intersect(stretches).to_the_end_of(stretches)
    return starvation_s(curve.times_ns, waiting, len(spans))


def _worst(rows: Sequence[Sequence[float | None]], spans: int) -> list[float | None]:
    """Largest defined value of each column."""
    columns = ([row[span] for row in rows] for span in range(spans))
    return [max((value for value in column if value is not None), default=None) for column in columns]


@dataclass(frozen=True, kw_only=True)
class Indices:
    """Fairness in one stretch of time; None where undefined."""

    jain_throughput: float | None
    jain_service: float | None
    jain_demand: float | None
    max_min_ratio: float | None
    attainment_gap: float | None


def indices(counted: Shares, profile: Profile, stretch: int = 0) -> Indices:
    """Compare the tenants in one stretch. A tenant that had no request scheduled in it takes no part."""
    alone = Shares(*(getattr(counted, name)[:, stretch : stretch + 1] for name in Shares.__dataclass_fields__))
    return Indices(**{name: _known(values[0]) for name, values in index_rows(alone, profile).items()})


def index_rows(counted: Shares, profile: Profile) -> dict[str, Floats]:
    """Each of the indices in every stretch: shape (stretches,), NaN where it is undefined."""
    part = counted.scheduled > 0
    weights = np.array([tenant.weight for tenant in profile.tenants])[:, np.newaxis]
    tokens = counted.tokens / weights
    asking = part & (counted.service_asked > 0)  # one whose requests all ended ok without a token asked for nothing
    satisfied = np.divide(counted.service, counted.service_asked, out=np.zeros(tokens.shape), where=asking)
    promised = part & np.array([[tenant.slo is not None] for tenant in profile.tenants])
    attainment = np.divide(counted.met, counted.scheduled, out=np.zeros(tokens.shape), where=promised)
    best = np.where(promised, attainment, -np.inf).max(axis=0, initial=-np.inf)
    worst = np.where(promised, attainment, np.inf).min(axis=0, initial=np.inf)
    return {
        "jain_throughput": _jain(tokens, part),
        "jain_service": _jain(counted.service / weights, part),
        "jain_demand": _jain(np.minimum(1.0, satisfied), asking),
        "max_min_ratio": _max_min_ratio(tokens, part),
        "attainment_gap": np.subtract(best, worst, out=np.full(len(best), np.nan), where=promised.any(axis=0)),
    }
