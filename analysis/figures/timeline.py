"""What was asked for, and what came of it, over the whole run."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.scale import log_ms
from analysis.figures.shading import name_phases, shade
from analysis.figures.style import legend, new_figure, no_data, shown, tenant_line
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "timeline"
TITLE = "The run over time"
CAPTION = (
    "Requests that fell due, tokens that arrived, and TTFT p95 of the requests that fell due, all in the same "
    "sub-windows; shaded: not measured; dotted: the tenant's SLO."
)


def draw(summary: Summary) -> Figure:
    """Three panels on one time axis, a line per tenant in each."""
    figure, panels = new_figure(summary, 3, stacked=True, height=7.0)
    series = summary.content["timeline"]
    panels[0].set_title(TITLE, pad=14)
    if not any(sum(one["asked_requests_per_s"]) for one in series["tenants"].values()):
        for axes in panels:
            no_data(axes, "no request fell due")
        return figure
    edges_s = [*series["t_s"], series["end_s"]]
    asked, tokens, ttft = (
        METRICS[name] for name in ("asked_requests_per_s", "output_tokens_per_s", "ttft_scheduled_ms")
    )
    for axes in panels:
        shade(axes, summary.curves.phases)
    name_phases(panels[0], summary.curves.phases, series["end_s"])
    for index, (tenant, one) in enumerate(series["tenants"].items()):
        count = summary.content["sources"]["tenants"][tenant]["records"]
        line = {**tenant_line(index), "baseline": None, "linewidth": 1.6}
        panels[0].stairs(one["asked_requests_per_s"], edges_s, label=f"{shown(tenant)} (n = {count:,})", **line)
        panels[1].stairs(one["output_tokens_per_s"], edges_s, **line)
        waits = one["ttft_scheduled_ms"]["p95"]
        panels[2].stairs([math.nan if value is None else value for value in waits], edges_s, **line)
    for axes in panels[:2]:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,g}")
    panels[0].set_ylabel(f"{asked.label} [{asked.unit}]")
    panels[1].set_ylabel(f"{tokens.label} [{tokens.unit}]")
    _waits(panels[2], summary, series)
    panels[2].set_ylabel(f"TTFT p95 [{ttft.unit}]")
    panels[2].set_xlabel(f"time since the load started [s]; sub-windows of {_width(summary)} s")
    panels[2].set_xlim(0, series["end_s"])
    legend(figure, panels[0])
    return figure


def _width(summary: Summary) -> str:
    return f"{summary.content['window']['fairness_window_s']:g}"


def _waits(axes: Axes, summary: Summary, series: dict[str, Any]) -> None:
    """A logarithmic axis and the SLOs, or why there is no line."""
    if all(value is None for one in series["tenants"].values() for value in one["ttft_scheduled_ms"]["p95"]):
        axes.text(0.5, 0.5, "no request got a token", transform=axes.transAxes, ha="center", color="#777777")
        axes.set_yticks([])
        return
    for index, slo in enumerate(summary.slos):
        if slo is not None and slo.ttft_ms is not None:
            axes.axhline(slo.ttft_ms, color=tenant_line(index)["color"], linestyle=(0, (1, 2)), linewidth=1)
    axes.set_yscale("log")
    log_ms(axes.yaxis)
