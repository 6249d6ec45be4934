"""Output tokens per second over the run, per tenant."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import legend, new_figure, no_data, shown, tenant_line
from analysis.summary import Span, Summary

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
    shade(axes, summary.curves.phases, float(timeline.edges_s[-1]))
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


def shade(axes: Axes, phases: tuple[Span, ...], end_s: float) -> None:
    """Grey behind what is not measured, with the phase's name where there is room for it."""
    for phase in phases:
        if phase.measured or phase.end_s <= phase.start_s:
            continue
        axes.axvspan(phase.start_s, phase.end_s, color="#e8e8e8", zorder=0, linewidth=0)
        if (phase.end_s - phase.start_s) / end_s > 0.011 * len(phase.name):
            axes.annotate(
                phase.name,
                ((phase.start_s + phase.end_s) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
                color="#777777",
            )
