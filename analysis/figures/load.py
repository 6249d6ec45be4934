"""What happens to each tenant as the load rises."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.figures.counts import counted
from analysis.figures.scale import log_ms
from analysis.figures.style import interval_bars, legend, new_figure, no_data, shown, tenant_line
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "load"
TITLE = "SLO attainment and tail against load"
CAPTION = (
    "Each load multiplies the profile's rates and concurrency. Dotted across: the attainment, or the TTFT, that the "
    "tenant's SLO asks for; bars: 95 % intervals, dotted where the requests do not reach that far; a hollow mark rests "
    "on too few requests; n: requests scheduled at each load."
)


def draw(summary: Summary) -> Figure:
    """SLO attainment and p99 of TTFT side by side, a line per tenant and a mark per load."""
    figure, (attainment, wait) = new_figure(summary, 2)
    loads = summary.content["window"]["loads"]
    _attainment(attainment, summary)
    _wait(wait, summary)
    for axes in (attainment, wait):
        axes.set_xlabel("load")
        axes.set_xticks([one["load"] for one in loads], [f"{one['load']:g}" for one in loads])
    legend(figure, wait if wait.lines else attainment)
    return figure


def _attainment(axes: Axes, summary: Summary) -> None:
    metric = METRICS["slo_attainment"]
    axes.set_title(metric.label)
    loads = summary.content["window"]["loads"]
    for index, (tenant, slo) in enumerate(zip(summary.content["tenants"], summary.slos, strict=True)):
        points = [(one["load"], one["tenants"][tenant]) for one in loads if tenant in one["tenants"]]
        shares = [math.nan if entry["slo_attainment"] is None else entry["slo_attainment"] for _, entry in points]
        if slo is None or all(math.isnan(share) for share in shares):
            continue
        line = tenant_line(index)
        label = f"{shown(tenant)} ({counted(entry['scheduled'] for _, entry in points)})"
        axes.plot([load for load, _ in points], shares, marker="o", ms=4, label=label, **line)
        intervals = [(entry.get("ci95") or {}).get("slo_attainment") or (None, None) for _, entry in points]
        interval_bars(axes, [load for load, _ in points], shares, intervals, color=line["color"])
        axes.axhline(slo.attainment, color=line["color"], linestyle=(0, (1, 2)), linewidth=1)
    if not axes.lines:
        no_data(axes, "no tenant has an SLO")
        return
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.set_ylabel("requests that met their SLO")


def _wait(axes: Axes, summary: Summary) -> None:
    metric = METRICS["ttft_scheduled_ms"]
    axes.set_title(f"{metric.label}, p99")
    loads = summary.content["window"]["loads"]
    for index, (tenant, slo) in enumerate(zip(summary.content["tenants"], summary.slos, strict=True)):
        points = [
            (one["load"], one["tenants"][tenant][metric.name])
            for one in loads
            if tenant in one["tenants"] and one["tenants"][tenant][metric.name]["count"]
        ]
        scheduled = [one["tenants"][tenant]["scheduled"] for one in loads if tenant in one["tenants"]]
        if not points:
            continue
        line = tenant_line(index)
        label = f"{shown(tenant)} ({counted(scheduled)})"
        axes.plot([load for load, _ in points], [wait["p99"] for _, wait in points], label=label, **line)
        interval_bars(
            axes,
            [load for load, _ in points],
            [wait["p99"] for _, wait in points],
            [wait["ci95"]["p99"] for _, wait in points],
            color=line["color"],
        )
        for load, wait in points:
            face = line["color"] if wait["certified"]["p99"] else "white"
            axes.plot(load, wait["p99"], "o", ms=4, mfc=face, mec=line["color"], mew=1)
        if slo is not None and slo.ttft_ms is not None:
            axes.axhline(slo.ttft_ms, color=line["color"], linestyle=(0, (1, 2)), linewidth=1)
    if not axes.lines:
        no_data(axes, "no request got a token")
        return
    axes.set_yscale("log")
    log_ms(axes.yaxis)
    axes.set_ylabel(f"TTFT p99 [{metric.unit}]")
