"""Distributions of the latencies, per tenant."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.counts import counted
from analysis.figures.scale import log_ms
from analysis.figures.style import legend, new_figure, no_data, shown, tenant_line
from analysis.latency import Curve
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "latency_cdf"
TITLE = "Latency distributions"
CAPTION = (
    "Share of requests whose latency was at most that on the axis; dotted: the tenant's SLO. Requests without the "
    "value (failures) are not in it."
)

_LIMITS = {"ttft_scheduled_ms": "ttft_ms", "tpot_ms": "tpot_ms", "e2e_scheduled_ms": "e2e_ms"}
"""The field of an SLO that limits each latency."""


def draw(summary: Summary) -> Figure:
    """Cumulative distributions of TTFT, TPOT and e2e side by side, one line per tenant."""
    figure, panels = new_figure(summary, 3)
    curves = (summary.curves.ttft_scheduled, summary.curves.tpot, summary.curves.e2e_scheduled)
    labels = []
    for tenant, *of_tenant in zip(summary.content["tenants"], *curves, strict=True):
        counts = [curve.count for curve in of_tenant if curve.count]
        labels.append(f"{shown(tenant)} ({counted(counts)})" if counts else "")
    for axes, name, of_tenants in zip(panels, _LIMITS, curves, strict=True):
        _panel(axes, summary, name, of_tenants, labels)
    panels[0].set_ylabel("share of requests")
    legend(figure, next((axes for axes in panels if axes.lines), panels[0]))
    return figure


def _panel(axes: Axes, summary: Summary, name: str, curves: tuple[Curve, ...], labels: list[str]) -> None:
    metric = METRICS[name]
    axes.set_title(metric.label)
    if not any(curve.count for curve in curves):
        no_data(axes, "no request in the window has one")
        return
    for index, (curve, slo) in enumerate(zip(curves, summary.slos, strict=True)):
        if not curve.count:
            continue
        line = tenant_line(index)
        axes.step([curve.values_ms[0], *curve.values_ms], [0, *curve.share], where="post", label=labels[index], **line)
        limit_ms = None if slo is None else getattr(slo, _LIMITS[name])
        if limit_ms is not None:
            axes.axvline(limit_ms, color=line["color"], linestyle=(0, (1, 2)), linewidth=1)
    axes.set_xscale("log")
    log_ms(axes.xaxis, 6)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"{metric.label} [{metric.unit}]")
