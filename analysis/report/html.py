"""The summary as one self-contained page: figures, style and script inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable
from typing import Any

from analysis.figures import Picture
from analysis.intervals import PERCENTILES
from analysis.metrics import METRICS, Metric
from analysis.report import costs, interference, locust, numbers, phases, processes, telemetry, warmup
from analysis.report.environment import environment
from analysis.summary import Summary

__all__ = ["page"]

_HEADLINE = (
    *(("ttft_scheduled_ms", name) for name in ("p50", "p95", "p99")),
    *(("tpot_ms", name) for name in ("p50", "p99")),
)
_RATES = (
    "asked_requests_per_s",
    "requests_per_s",
    "output_tokens_per_s",
    "goodput_requests_per_s",
    "goodput_tokens_per_s",
    "makespan_tokens_per_s",
)
_LATENCIES = (
    "ttft_scheduled_ms",
    "ttft_ms",
    "tpot_ms",
    "icl_ms",
    "itl_ms",
    "e2e_scheduled_ms",
    "e2e_ms",
    "send_lag_ms",
)
_RATIOS = ("jain_throughput", "jain_service", "jain_demand", "jain_progress", "attainment_gap")
_ADJUSTED_NOTE = "every failed request counted as +inf"


def page(summary: Summary, pictures: Iterable[Picture]) -> str:
    """`report.html`. Whatever comes from the run is escaped."""
    templates = environment()
    templates.filters |= {
        "interval": _interval,
        "spread": _spread,
        "moment": _moment,
        "failures_beside_valid": numbers.failures_beside_valid,
    }
    content = summary.content
    compared = content["interference"]
    return templates.get_template("template.html").render(
        **content,
        rates=[METRICS[name] for name in _RATES],
        rows=_rows(content),
        latencies=list(_latency_groups(content)),
        headline=_HEADLINE,
        percentiles=list(PERCENTILES),
        fairness_rows=_fairness_rows(content["fairness"]),
        compared=interference.compared(compared) if compared else "",
        slowdown_columns=[(METRICS[name], rank) for name, rank in interference.COLUMNS],
        slowdowns=list(interference.rows(compared)) if compared else [],
        interference_totals=list(interference.totals(compared)) if compared else [],
        matrix_rows=list(interference.matrix_rows(compared["matrix"])) if compared and compared["matrix"] else [],
        cost_columns=costs.COLUMNS,
        cost_rows=costs.rows(content),
        warmup=warmup.line(content["steady"]),
        drift_rows=list(warmup.drift_rows(content["steady"])),
        definitions=list(_definitions(content)),
        figures_from=phases.headline(content),
        phase_columns=[(METRICS[name], rank) for name, rank in phases.COLUMNS],
        parts=phases.titled(content),
        doubts=list(phases.doubts(content)),
        conversations=phases.conversations(content),
        locust_rows=locust.rows(content),
        processes=list(processes.rows(content)),
        process_warnings=list(processes.warnings(content)),
        server_lines=list(telemetry.server_lines(content)),
        gpu_lines=list(telemetry.gpu_lines(content)),
        sampled=list(_sampled(content)),
        pictures=[
            {
                "title": picture.title,
                "caption": picture.caption,
                "data": base64.b64encode(picture.path.read_bytes()).decode("ascii"),
            }
            for picture in pictures
        ],
    )


def _sampled(content: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """One group of rows for each endpoint, device and process that was sampled."""
    for endpoint, entry in content["server"]["endpoints"].items() if content["server"] else ():
        tenants = ", ".join(entry["tenants"])
        yield {
            **entry,
            "title": f"server {endpoint}{f' ({tenants})' if tenants else ''}",
            "rows": telemetry.server_rows(entry),
            "figures": telemetry.server_figures(entry),
            "missing": telemetry.unsupported(entry),
        }
    gpu = content["gpu"] or {"devices": [], "processes": []}
    for device in gpu["devices"]:
        yield {
            **device,
            "title": f"GPU {telemetry.device_name(device, gpu['devices'])}",
            "rows": telemetry.gpu_rows(device),
            "figures": telemetry.gpu_figures(device),
            "missing": telemetry.unsupported(device),
        }
    for process in gpu["processes"]:
        rows = telemetry.gpu_rows(process)
        yield {**process, "title": telemetry.process_title(process), "rows": rows, "figures": [], "missing": []}


def _rows(content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each tenant's entry, and that of all together where there are several."""
    rows = list(content["tenants"].items())
    return [*rows, ("total", content["totals"])] if len(rows) > 1 else rows


def _latency_groups(content: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """One group of rows for each latency that some request has, tenant by tenant."""
    any_failed = sum(content["totals"]["failed"].values()) > 0
    for name in _LATENCIES:
        metric = METRICS[name]
        if not content["totals"][name]["count"]:
            continue
        for key, label, note in (
            (name, metric.label, ""),
            (f"{name}_adjusted", f"{metric.label}, adjusted", _ADJUSTED_NOTE),
        ):
            if key not in content["totals"] or (key != name and not any_failed):
                continue
            yield {
                "label": label,
                "unit": metric.unit,
                "metric": metric,
                "note": note,
                "rows": [(tenant, entry[key]) for tenant, entry in _rows(content)],
            }


def _interval(latency: dict[str, Any], name: str) -> str:
    """What stands behind a percentile."""
    if not latency["count"]:
        return "no samples"
    low, high = (numbers.number(bound) for bound in latency["ci95"][name])
    known = f"{latency['count']:,} samples, 95 % interval {low} to {high}"
    return known if latency["certified"][name] else f"{known}; indicative: too few samples"


def _spread(ci95: list[float | None] | None, name: str) -> str:
    """The interval of a rate, or of a share."""
    return numbers.spread(ci95, numbers.share if name == "slo_attainment" else numbers.number)


def _moment(unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _fairness_rows(fairness: dict[str, Any] | None) -> list[dict[str, Any]]:
    if fairness is None:
        return []
    intervals = fairness.get("ci95") or {}
    rows = []
    for name, value in fairness.items():
        if name in ("series", "ci95"):
            continue
        show = numbers.ratio if name in _RATIOS else numbers.number
        low, high = intervals.get(name) or (None, None)
        known = low is not None or high is not None
        between = f"{show(low)} to {show(high)}" if known else numbers.UNDEFINED
        rows.append({"metric": METRICS[name], "value": show(value), "interval": between})
    return rows


def _definitions(content: dict[str, Any]) -> Iterable[Metric]:
    """Every metric that the page shows, in the registry's order."""
    shown = {*content["totals"], *(content["fairness"] or ()), *(name for name, _, _ in costs.COLUMNS)}
    if content["interference"]:
        shown |= {"slowdown", "throughput_ratio", "isolation_leakage", "sharing_efficiency"}
    if content["steady"]:
        shown.add("suggested_warmup_s")
    for device in [*content["gpu"]["devices"], *content["gpu"]["processes"]] if content["gpu"] else ():
        shown |= set(device["metrics"])
    if content["server"]:
        shown |= {name for entry in content["server"]["endpoints"].values() for name in entry}
    return (metric for name, metric in METRICS.items() if name in shown)
