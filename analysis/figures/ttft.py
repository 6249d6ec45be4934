"""Distribution of the time to the first token, per tenant."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.figures.scale import log_ms
from analysis.figures.style import legend, new_figure, no_data, shown, tenant_line
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "ttft_cdf"
TITLE = "Time to first token, from schedule"
CAPTION = "Share of requests whose first token came within the time on the axis; dotted: the tenant's SLO."


def draw(summary: Summary) -> Figure:
    """Cumulative distribution of `ttft_scheduled_ms`, one line per tenant."""
    figure, (axes,) = new_figure(summary)
    metric = METRICS["ttft_scheduled_ms"]
    axes.set_title(TITLE)
    curves = summary.curves.ttft_scheduled
    if not any(curve.count for curve in curves):
        no_data(axes, "no request in the window got a token")
        return figure
    for index, (tenant, curve) in enumerate(zip(summary.content["tenants"], curves, strict=True)):
        line = tenant_line(index)
        if not curve.count:
            continue
        axes.step(
            [curve.values_ms[0], *curve.values_ms],
            [0, *curve.share],
            where="post",
            label=f"{shown(tenant)} (n = {curve.count:,})",
            **line,
        )
        slo = summary.slos[index]
        if slo is not None and slo.ttft_ms is not None:
            axes.axvline(slo.ttft_ms, color=line["color"], linestyle=(0, (1, 2)), linewidth=1)
    axes.set_xscale("log")
    log_ms(axes.xaxis)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"{metric.label} [{metric.unit}]")
    axes.set_ylabel("share of requests")
    legend(figure, axes)
    return figure
