"""How much slower each tenant was than alone."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.counts import counted
from analysis.figures.scale import log_ratio
from analysis.figures.style import interval_bars, legend, new_figure, no_data, shown, tenant_area
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "slowdown"
TITLE = "Slowdown by the other tenants"
CAPTION = (
    "Latency together with the others / latency alone, with 95 % intervals: 1 = as fast as alone; a cross where it is "
    "undefined."
)

_ROOM = 0.8  # of the step between two percentiles, for the bars of all tenants


def draw(summary: Summary) -> Figure:
    """A panel per latency, a group of bars per percentile, a bar per tenant that starts at 1."""
    figure, panels = new_figure(summary, 3)
    interference = summary.content.get("interference")
    tenants = interference["tenants"] if interference else {}
    metrics = list(next(iter(tenants.values()))["slowdown"]) if tenants else []
    if not metrics:
        for axes in panels:
            no_data(axes, "no tenant ran alone")
        return figure
    for axes, metric in zip(panels, metrics, strict=True):
        _panel(axes, summary, metric, tenants)
    panels[0].set_ylabel("together / alone")
    legend(figure, panels[0])
    return figure


def _panel(axes: Axes, summary: Summary, metric: str, tenants: dict[str, Any]) -> None:
    axes.set_title(METRICS[metric].label)
    percentiles = list(next(iter(tenants.values()))["slowdown"][metric])
    width = _ROOM / len(tenants)
    ends = [1.0]
    for place, (tenant, entry) in enumerate(tenants.items()):
        cells = entry["slowdown"][metric]
        values = [cells[percentile]["value"] for percentile in percentiles]
        some = [value if value is not None and math.isfinite(value) and value > 0 else None for value in values]
        ats = [group + (place - (len(tenants) - 1) / 2) * width for group in range(len(percentiles))]
        area = tenant_area(list(summary.content["tenants"]).index(tenant))
        axes.bar(
            ats,
            [0.0 if value is None else value - 1 for value in some],
            width=width * 0.9,
            bottom=1,
            label=f"{shown(tenant)} ({_count(entry)})",
            **area,
        )
        intervals = [tuple(cells[percentile]["ci95"]) for percentile in percentiles]
        known = [(at, value, ci) for at, value, ci in zip(ats, some, intervals, strict=True) if value is not None]
        if known:
            interval_bars(axes, *zip(*known, strict=True), color="#222222")
        missing = [at for at, value in zip(ats, some, strict=True) if value is None]
        axes.plot(missing, [1.0] * len(missing), "x", color="#777777", ms=4, zorder=4)
        ends += [value for value in some if value is not None]
        ends += [end for _, _, ci in known for end in ci if end is not None and math.isfinite(end) and end > 0]
    axes.axhline(1, color="#222222", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylim(min(0.9, min(ends) / 1.05), max(1.12, max(ends) * 1.05))
    log_ratio(axes.yaxis)
    axes.grid(False, axis="x")
    axes.set_xticks(range(len(percentiles)), percentiles)
    axes.set_xlim(-0.55, len(percentiles) - 0.45)


def _count(entry: dict[str, Any]) -> str:
    return counted(cell["count"] for percentiles in entry["slowdown"].values() for cell in percentiles.values())
