"""Output tokens per second over the run, per tenant."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.figures.shading import name_phases, shade
from analysis.figures.style import legend, new_figure, no_data, shown, tenant_line
from analysis.summary import Summary

NAME = "throughput"
TITLE = "Output tokens per second"
CAPTION = "Tokens that arrived, whatever became of their request; shaded: outside the measured window."


def draw(summary: Summary) -> Figure:
    """One line per tenant over the whole run; what is not measured is shaded."""
    figure, (axes,) = new_figure(summary)
    axes.set_title(TITLE, pad=14)
    timeline = summary.curves.timeline
    if not timeline.tokens_per_s.any():
        no_data(axes, "no token arrived")
        return figure
    shade(axes, summary.curves.phases)
    name_phases(axes, summary.curves.phases, float(timeline.edges_s[-1]))
    for index, (tenant, entry) in enumerate(summary.content["tenants"].items()):
        label = f"{shown(tenant)} (n = {entry['output_tokens']:,.0f} tokens)"
        axes.stairs(timeline.tokens_per_s[index], timeline.edges_s, label=label, linewidth=1.6, **tenant_line(index))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0, float(timeline.edges_s[-1]))
    axes.set_xlabel("time since the load started [s]")
    axes.set_ylabel("output [tokens/s]")
    legend(figure, axes)
    return figure
