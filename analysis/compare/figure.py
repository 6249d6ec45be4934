"""One figure of one run's summary, with its interval; what the columns and the limits are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from analysis.compare.model import UNDEFINED, Value
from analysis.repeats import t_interval

__all__ = ["FAIRNESS", "LATENCIES", "OF_RUN", "OF_TENANT", "PERCENTILES", "RATES", "figure", "pooled"]

_LATENCY_NAMES = ("ttft_ms", "ttft_scheduled_ms", "tpot_ms", "icl_ms", "itl_ms", "e2e_ms", "e2e_scheduled_ms")
_ADJUSTED = ("ttft_ms", "ttft_scheduled_ms", "tpot_ms", "e2e_ms", "e2e_scheduled_ms")
LATENCIES = (*_LATENCY_NAMES, "send_lag_ms", *(f"{name}_adjusted" for name in _ADJUSTED))
PERCENTILES = ("mean", "p50", "p90", "p95", "p99", "p99_9")
RATES = (
    "asked_requests_per_s",
    "offered_requests_per_s",
    "requests_per_s",
    "output_tokens_per_s",
    "makespan_tokens_per_s",
    "goodput_requests_per_s",
    "goodput_tokens_per_s",
    "slo_attainment",
    "starvation_s_max",
)
FAIRNESS = (
    "jain_throughput",
    "jain_service",
    "jain_demand",
    "jain_progress",
    "max_min_ratio",
    "attainment_gap",
    "service_gap_max_tokens",
    "service_gap_window_max_tokens",
)
OF_RUN = ("sharing_efficiency", "mean_running", "kv_cache_peak")
OF_TENANT = ("isolation_leakage", "cost_per_million_output_tokens", "joules_per_output_token")
"""What a run has as a whole, and by tenant, too."""


def figure(content: Mapping[str, Any], metric: str, percentile: str | None = None, tenant: str | None = None) -> Value:
    """A figure of all tenants together, or of one; undefined where the summary has none.

    Cost and energy per token go with 1 / tokens per second, and so does their interval: price and energy of the
    window are taken as they were measured.

    Args:
        metric: of `RATES`, `LATENCIES` with a percentile, `FAIRNESS`, `OF_RUN` or `OF_TENANT`.
    """
    entry = content["totals"] if tenant is None else content["tenants"].get(tenant)
    if entry is None:
        return UNDEFINED
    if metric in LATENCIES:
        return _latency(entry[metric], percentile or "p50")
    if metric in RATES:
        return _value(entry.get(metric), (entry.get("ci95") or {}).get(metric))
    if metric in FAIRNESS:
        fairness = content["fairness"] or {}
        return _value(fairness.get(metric), (fairness.get("ci95") or {}).get(metric))
    if metric == "cost_per_million_output_tokens":
        return _per_token(_cost(content, tenant), entry)
    if metric == "joules_per_output_token":
        return _per_token(_energy(content, tenant), entry)
    if metric in ("isolation_leakage", "sharing_efficiency"):
        return _interference(content["interference"], metric, tenant)
    return _value({"mean_running": _mean_running, "kv_cache_peak": _kv_cache_peak}[metric](content))


def _value(value: float | None, ci95: Sequence[float | None] | None = None, *, certified: bool = True) -> Value:
    low, high = ci95 or (None, None)
    return UNDEFINED if value is None else Value(value, (low, high), certified)


def _latency(latency: Mapping[str, Any], percentile: str) -> Value:
    certified = bool(latency["certified"].get(percentile, True))
    return _value(latency[percentile], latency["ci95"].get(percentile), certified=certified)


def _cost(content: Mapping[str, Any], tenant: str | None) -> float | None:
    cost = content["cost"] or {}
    value = cost.get("cost_per_million_output_tokens") if tenant is None else cost.get("tenants", {}).get(tenant)
    return None if value is None else float(value)


def _energy(content: Mapping[str, Any], tenant: str | None) -> float | None:
    gpu = content["gpu"] or {}
    if tenant is not None:
        value = (gpu.get("tenants_joules_per_output_token") or {}).get(tenant)
    else:
        value = gpu.get("joules_per_output_token")
    return None if value is None else float(value)


def _per_token(value: float | None, entry: Mapping[str, Any]) -> Value:
    rate = entry["output_tokens_per_s"]
    low, high = (entry.get("ci95") or {}).get("output_tokens_per_s") or (None, None)
    if value is None or not rate:
        return _value(value)
    return _value(value, [value * rate / bound if bound else None for bound in (high, low)])


def _interference(interference: Mapping[str, Any] | None, metric: str, tenant: str | None) -> Value:
    of = interference if interference is None or tenant is None else interference["tenants"].get(tenant)
    found = (of or {}).get(metric) or {}
    return _value(found.get("value"), found.get("ci95"))


def _endpoints(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(((content["server"] or {}).get("endpoints") or {}).values())


def _mean_running(content: Mapping[str, Any]) -> float | None:
    """Requests in the engines' batches, added up; where an engine was not sampled, those in flight at the client."""
    sampled = [(endpoint.get("requests_running") or {}).get("mean") for endpoint in _endpoints(content)]
    known = [float(mean) for mean in sampled if mean is not None]
    return sum(known) if known and len(known) == len(sampled) else _mean_in_flight(content)


def _mean_in_flight(content: Mapping[str, Any]) -> float | None:
    """Mean over the window, of stretches that lie partly in it with that part's weight."""
    timeline = content["timeline"]
    edges = [*timeline["t_s"], timeline["end_s"]]
    total = length = 0.0
    for place, (start_s, end_s) in enumerate(pairwise(edges)):
        inside = sum(max(0.0, min(end_s, to) - max(start_s, since)) for since, to in content["window"]["spans"])
        total += inside * sum(series["in_flight"][place] for series in timeline["tenants"].values())
        length += inside
    return total / length if length else None


def _kv_cache_peak(content: Mapping[str, Any]) -> float | None:
    peaks = [(endpoint.get("kv_cache_peak") or {}).get("value") for endpoint in _endpoints(content)]
    return max((float(peak) for peak in peaks if peak is not None), default=None)


def pooled(values: Sequence[Value]) -> Value:
    """One run's own value; of repeats the mean of those that have one, with its t interval.

    Repeats of which some are undefined have the mean of the rest, and no interval: why they are undefined may have to
    do with what the others show.
    """
    if len(values) == 1:
        return values[0]
    known = [value for value in values if value.value is not None]
    certified = all(value.certified for value in known)
    mean, interval = t_interval([value.value for value in known if value.value is not None])
    if mean is None:
        endless = bool(known)  # a value is inf
        return Value(float("inf"), certified=certified) if endless else UNDEFINED
    return Value(mean, interval if len(known) == len(values) else (None, None), certified)
