"""The live figures for Prometheus: counters and histograms per tenant that only grow, gauges of now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fairshare_locust.live.histogram import LogHistogram
from fairshare_locust.live.tally import Cell, LiveTally
from fairshare_locust.simulator.exposition import label_set, metric

__all__ = ["REQUEST_S", "TOKEN_S", "exposition"]

REQUEST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)

_HISTOGRAMS: tuple[tuple[str, str, tuple[float, ...], Callable[[Cell], LogHistogram]], ...] = (
    ("fairshare_ttft_seconds", "First token, from when the request was due.", REQUEST_S, lambda c: c.ttft_ms),
    ("fairshare_ttft_sent_seconds", "First token, from sending.", REQUEST_S, lambda c: c.ttft_sent_ms),
    ("fairshare_tpot_seconds", "Time per output token after the first chunk.", TOKEN_S, lambda c: c.tpot_ms),
    ("fairshare_e2e_seconds", "Last token of ok requests, from when due.", REQUEST_S, lambda c: c.e2e_ms),
)


def exposition(tally: LiveTally, snapshot: Mapping[str, Any]) -> str:
    """Text in Prometheus's format (version 0.0.4). What is undefined has no sample.

    Buckets are added up from finer ones: a duration within 1 % of a bound may be counted on either side of it.

    Args:
        tally: what has ended, which is newer than the snapshot.
        snapshot: of the LiveView over that tally.
    """
    entries = {entry["id"]: entry for entry in snapshot["tenants"]}
    cells = {tenant_id: tally.whole(tenant_id) for tenant_id in entries}
    labels = {tenant_id: label_set(tenant=tenant_id) for tenant_id in entries}
    parts = [
        metric(
            "counter",
            "fairshare_requests_total",
            "Requests that have ended, by outcome.",
            [
                (label_set(tenant=tenant_id, outcome=outcome), count)
                for tenant_id, cell in cells.items()
                for outcome, count in {"ok": cell.completed, **cell.failed}.items()
            ],
        ),
        metric(
            "counter",
            "fairshare_output_tokens_total",
            "Output tokens of requests that have ended.",
            [(labels[tenant_id], cell.output_tokens) for tenant_id, cell in cells.items()],
        ),
        metric(
            "counter",
            "fairshare_slo_requests_total",
            "Requests that have ended, of tenants with an SLO, by whether they met it.",
            [
                (label_set(tenant=tenant_id, met=met), count)
                for tenant_id, cell in cells.items()
                if cell.slo_judged
                for met, count in (("true", cell.slo_met), ("false", cell.slo_judged - cell.slo_met))
            ],
        ),
    ]
    for name, text, bounds_s, of in _HISTOGRAMS:
        histograms = [(labels[tenant_id], of(cell)) for tenant_id, cell in cells.items()]
        parts.append(_histogram(name, text, bounds_s, histograms))
    for key in ("streams", "in_flight", "waiting"):
        samples = [(labels[tenant_id], entry[key]) for tenant_id, entry in entries.items()]
        parts.append(metric("gauge", f"fairshare_{key}", _GAUGES[key], samples))
    parts.extend(_single(snapshot))
    return "".join(parts)


_GAUGES = {
    "streams": "Requests that the tenant may have in flight.",
    "in_flight": "Requests sent and not ended.",
    "waiting": "Requests that are due and not sent.",
}


def _single(snapshot: Mapping[str, Any]) -> Iterable[str]:
    """Gauges of the run, those that are defined."""
    lag_ms = snapshot["health"]["event_loop_lag_ms_p99"]
    gauges = (
        (
            "fairshare_jain_throughput",
            "Jain's index of output tokens/s over weight, last 10 s.",
            snapshot["fairness"]["jain_throughput"],
        ),
        (
            "fairshare_event_loop_lag_p99_seconds",
            "Event-loop lag of the load process, p99 while measuring.",
            None if lag_ms is None else lag_ms / 1000,
        ),
        ("fairshare_cpu_share_p95", "CPU of the load process over its core, p95.", snapshot["health"]["cpu_share_p95"]),
    )
    run = label_set(run=snapshot["run"] or "")
    for name, text, value in gauges:
        if value is not None:
            yield metric("gauge", name, text, [(run, value)])


def _histogram(
    name: str, text: str, bounds_s: tuple[float, ...], histograms: Iterable[tuple[str, LogHistogram]]
) -> str:
    lines = [f"# HELP {name} {text}\n# TYPE {name} histogram\n"]
    limits_ms = [bound_s * 1000 for bound_s in bounds_s]
    for labels, histogram in histograms:
        counts = histogram.counts_at_most(limits_ms)
        lines += [f'{name}_bucket{{{labels},le="{b}"}} {n}\n' for b, n in zip(bounds_s, counts, strict=True)]
        lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {histogram.count}\n')
        lines.append(f"{name}_count{{{labels}}} {histogram.count}\n")
        lines.append(f"{name}_sum{{{labels}}} {histogram.sum_ms / 1000!r}\n")
    return "".join(lines)
