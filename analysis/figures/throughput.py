"""Output tokens per second over the run, the tenants' on top of each other."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.shading import name_phases, shade
from analysis.figures.style import legend, new_figure, no_data, shown, tenant_area
from analysis.summary import Summary

NAME = "throughput"
TITLE = "Output tokens per second"
CAPTION = (
    "Tokens that arrived, whatever became of their request, the tenants' stacked: the upper edge is all of them "
    "together; shaded: outside the measured window."
)

_HEIGHTS = (4.0, 1.0)


def draw(summary: Summary) -> Figure:
    """One area per tenant over the whole run, and Locust's users under it where they are known."""
    timeline = summary.curves.timeline
    users = (summary.content.get("locust") or {}).get("users")
    known = bool(users and users["t_s"] and timeline.tokens_per_s.any())
    panels = 2 if known else 1
    figure, every = new_figure(summary, panels, stacked=True, height=3.2 + 0.8 * panels, heights=_HEIGHTS[:panels])
    axes = every[0]
    axes.set_title(TITLE, pad=14)
    if not timeline.tokens_per_s.any():
        no_data(axes, "no token arrived")
        return figure
    for panel in every:
        shade(panel, summary.curves.phases)
    name_phases(axes, summary.curves.phases, float(timeline.edges_s[-1]))
    below = np.zeros(len(timeline.edges_s) - 1)
    for index, (tenant, entry) in enumerate(summary.content["tenants"].items()):
        above = below + timeline.tokens_per_s[index]
        label = f"{shown(tenant)} (n = {entry['output_tokens']:,.0f} tokens)"
        axes.stairs(above, timeline.edges_s, baseline=below, fill=True, label=label, **tenant_area(index))
        below = above
    axes.stairs(below, timeline.edges_s, baseline=None, color="#222222", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("output [tokens/s]")
    if users and known:
        _users(every[1], users["t_s"], users["users"])
    every[-1].set_xlim(0, float(timeline.edges_s[-1]))
    every[-1].set_xlabel("time since the load started [s]")
    figure.align_ylabels(every)
    legend(figure, axes)
    return figure


def _users(axes: Axes, times_s: list[float], users: list[float]) -> None:
    axes.step(times_s, users, where="post", color="#444444", linewidth=1.2)
    axes.set_ylim(0, max(1.0, 1.15 * max(users)))
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)  # type: ignore[call-arg]
    axes.set_ylabel("Locust's\nusers")
